// mmul_gpu_tiled.cu: C = A B in FP32 through tiles in shared memory, with one buffer or two, against naive and cuBLAS.
//
//   nvcc -arch=sm_90 -O3 -DTILE=32 mmul_gpu_tiled.cu -o mmul_gpu_tiled
//   nvcc -arch=sm_90 -O3 -DWITH_CUBLAS mmul_gpu_tiled.cu -lcublas -o mmul_gpu_tiled
//   ./mmul_gpu_tiled --variant naive|tiled|double_buffered|cublas --n 1024 --repeats 20   (--m, --k for rectangles)
//   ./mmul_gpu_tiled --double-buffer off|on --n 1024
//
// TILE=16 or 32: a thread per element of the tile. TILE=64 would need 4096 threads, four times what a block may have, so a
// thread computes 4 x 4 elements (register tiling) and the tile is cut along k. sgemm_fast.cu is the next step.
#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#ifdef WITH_CUBLAS
#include <cublas_v2.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#ifndef TILE
#define TILE 32
#endif

#define CHECK(call)                                                                                       \
    do {                                                                                                  \
        cudaError_t status = (call);                                                                      \
        if (status != cudaSuccess) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status)); \
            std::exit(1);                                                                                 \
        }                                                                                                 \
    } while (0)

struct Shape { int m, n, k; };

constexpr int kTile = TILE;
constexpr int kEach = kTile > 32 ? 4 : 1;         // elements of C per thread, in each direction
constexpr int kLanes = kTile / kEach;             // threads per side of the block
constexpr int kDepth = kTile > 32 ? 16 : kTile;   // values of k in a tile
constexpr int kThreads = kLanes * kLanes;
constexpr int kPasses = kTile * kDepth / kThreads;  // values of each tile that a thread fetches
static_assert(kThreads <= 1024 && kPasses * kThreads == kTile * kDepth, "a block has at most 1024 threads");

__global__ void mmul_naive(const float* a, const float* b, float* c, Shape s) {
    int row = blockIdx.y * kLanes + threadIdx.x / kLanes, col = blockIdx.x * kLanes + threadIdx.x % kLanes;
    if (row >= s.m || col >= s.n) return;
    float sum = 0.0f;
    for (int i = 0; i < s.k; ++i) sum += a[size_t(row) * s.k + i] * b[size_t(i) * s.n + col];
    c[size_t(row) * s.n + col] = sum;
}

struct alignas(16) Tiles {  // aligned: four neighbours can be read at once
    float a[kTile][kDepth], b[kDepth][kTile];
};

// Sums of one pair of tiles. A thread's rows and columns are kLanes apart, so that neighbours in a warp read neighbours.
__device__ inline void multiply(const Tiles& tiles, float (&sum)[kEach][kEach]) {
    int lane_row = threadIdx.x / kLanes, lane_col = threadIdx.x % kLanes;
#pragma unroll
    for (int t = 0; t < kDepth; ++t)
#pragma unroll
        for (int y = 0; y < kEach; ++y)
#pragma unroll
            for (int x = 0; x < kEach; ++x) sum[y][x] += tiles.a[lane_row + y * kLanes][t] * tiles.b[t][lane_col + x * kLanes];
}

__device__ inline void write(float* c, Shape s, const float (&sum)[kEach][kEach]) {
    for (int y = 0; y < kEach; ++y)
        for (int x = 0; x < kEach; ++x) {
            int row = blockIdx.y * kTile + threadIdx.x / kLanes + y * kLanes;
            int col = blockIdx.x * kTile + threadIdx.x % kLanes + x * kLanes;
            if (row < s.m && col < s.n) c[size_t(row) * s.n + col] = sum[y][x];
        }
}

__global__ void __launch_bounds__(kThreads) mmul_tiled(const float* a, const float* b, float* c, Shape s) {
    __shared__ Tiles tiles;
    float sum[kEach][kEach] = {};
    for (int start = 0; start < s.k; start += kDepth) {
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
            int e = pass * kThreads + threadIdx.x;
            int row = blockIdx.y * kTile + e / kDepth, i = start + e % kDepth;
            tiles.a[e / kDepth][e % kDepth] = row < s.m && i < s.k ? a[size_t(row) * s.k + i] : 0.0f;
            int j = start + e / kTile, col = blockIdx.x * kTile + e % kTile;
            tiles.b[e / kTile][e % kTile] = j < s.k && col < s.n ? b[size_t(j) * s.n + col] : 0.0f;
        }
        __syncthreads();  // the tiles are there
        multiply(tiles, sum);
        __syncthreads();  // nobody needs them any more
    }
    write(c, s, sum);
}

// The copies run past the registers and past the thread (cp.async): it goes on computing while they are under way.
// Outside the matrices nothing is read, and zeros are written.
__device__ inline void fetch(Tiles& tiles, const float* a, const float* b, Shape s, int start) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
        int e = pass * kThreads + threadIdx.x;
        int row = blockIdx.y * kTile + e / kDepth, i = start + e % kDepth;
        bool inside = row < s.m && i < s.k;
        __pipeline_memcpy_async(&tiles.a[e / kDepth][e % kDepth], inside ? &a[size_t(row) * s.k + i] : a, 4, inside ? 0 : 4);
        int j = start + e / kTile, col = blockIdx.x * kTile + e % kTile;
        inside = j < s.k && col < s.n;
        __pipeline_memcpy_async(&tiles.b[e / kTile][e % kTile], inside ? &b[size_t(j) * s.n + col] : b, 4, inside ? 0 : 4);
    }
    __pipeline_commit();
}

__global__ void __launch_bounds__(kThreads) mmul_double_buffered(const float* a, const float* b, float* c, Shape s) {
    __shared__ Tiles buffers[2];
    float sum[kEach][kEach] = {};
    fetch(buffers[0], a, b, s, 0);
    for (int start = 0, now = 0; start < s.k; start += kDepth, now ^= 1) {
        __pipeline_wait_prior(0);  // my own copies into buffers[now]
        __syncthreads();           // everybody's; and everybody is through with the other buffer
        if (start + kDepth < s.k) fetch(buffers[now ^ 1], a, b, s, start + kDepth);
        multiply(buffers[now], sum);
    }
    write(c, s, sum);
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

// Microseconds of `repeats` launches, each between its own pair of events, after `warmup` launches that do not count.
template <class Launch>
static std::string timed(int warmup, int repeats, Launch launch) {
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::string samples;
    for (int i = 0; i < warmup + repeats; ++i) {
        CHECK(cudaEventRecord(start));
        launch();
        CHECK(cudaGetLastError());
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        float ms = 0;
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (i >= warmup) samples += (samples.empty() ? "" : ", ") + std::to_string(ms * 1e3);
    }
    CHECK(cudaEventDestroy(start));
    CHECK(cudaEventDestroy(stop));
    return samples;
}

static std::vector<float> random_matrix(size_t size, unsigned seed) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    std::vector<float> values(size);
    for (float& value : values) value = uniform(engine);
    return values;
}

struct Errors { double absolute, relative; };

// The reference: sums in double on the CPU. Small products are checked whole, large ones on 64 rows that are spread
// over all of C (the step is odd, so that every row of a tile has its turn). "Relative" means relative to
// sum |a||b|, the scale at which rounding happens: a sum that is nearly zero would make any rounding look huge.
static Errors compare(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& c, Shape s) {
    bool whole = double(s.m) * s.n * s.k <= double(1 << 26);
    int step = whole ? 1 : (std::max(1, s.m / 64) | 1);
    Errors worst{0, 0};
    std::vector<double> sum(s.n), scale(s.n);
    for (int row = s.m - 1; row >= 0; row -= step) {
        std::fill(sum.begin(), sum.end(), 0.0);
        std::fill(scale.begin(), scale.end(), 1e-30);
        for (int i = 0; i < s.k; ++i)
            for (int col = 0; col < s.n; ++col) {
                double product = double(a[size_t(row) * s.k + i]) * b[size_t(i) * s.n + col];
                sum[col] += product;
                scale[col] += std::fabs(product);
            }
        for (int col = 0; col < s.n; ++col) {
            double error = std::fabs(c[size_t(row) * s.n + col] - sum[col]);
            worst.absolute = error <= worst.absolute ? worst.absolute : error;  // written so that NaN is the worst
            worst.relative = error / scale[col] <= worst.relative ? worst.relative : error / scale[col];
        }
    }
    return worst;
}

#ifdef WITH_CUBLAS
static std::string cublas(int warmup, int repeats, const float* a, const float* b, float* c, Shape s) {
    cublasHandle_t handle;
    if (cublasCreate(&handle) != CUBLAS_STATUS_SUCCESS) std::exit((std::fprintf(stderr, "cuBLAS does not start\n"), 1));
    cublasSetMathMode(handle, CUBLAS_PEDANTIC_MATH);  // FP32 throughout, no TF32: the same arithmetic as ours
    const float one = 1.0f, zero = 0.0f;
    std::string samples = timed(warmup, repeats, [&] {  // column-major: C^T = B^T A^T
        if (cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, s.n, s.m, s.k, &one, b, s.n, a, s.k, &zero, c, s.n) != CUBLAS_STATUS_SUCCESS)
            std::exit((std::fprintf(stderr, "cublasSgemm failed\n"), 1));
    });
    cublasDestroy(handle);
    return samples;
}
#endif

int main(int argc, char** argv) {
    std::string variant = option(argc, argv, "--variant", "double_buffered"), twice = option(argc, argv, "--double-buffer", "");
    if (!twice.empty()) variant = twice == "on" ? "double_buffered" : "tiled";
    int n = std::atoi(option(argc, argv, "--n", "1024"));
    Shape s{std::atoi(option(argc, argv, "--m", std::to_string(n).c_str())), n,
            std::atoi(option(argc, argv, "--k", std::to_string(n).c_str()))};
    int repeats = std::atoi(option(argc, argv, "--repeats", "20")), warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    auto a = random_matrix(size_t(s.m) * s.k, 1), b = random_matrix(size_t(s.k) * s.n, 2);
    std::vector<float> c(size_t(s.m) * s.n);
    float *dev_a, *dev_b, *dev_c;
    CHECK(cudaMalloc(&dev_a, a.size() * sizeof(float)));
    CHECK(cudaMalloc(&dev_b, b.size() * sizeof(float)));
    CHECK(cudaMalloc(&dev_c, c.size() * sizeof(float)));
    CHECK(cudaMemcpy(dev_a, a.data(), a.size() * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(dev_b, b.data(), b.size() * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemset(dev_c, 0xff, c.size() * sizeof(float)));  // NaN: an element that is never written shows

    int side = variant == "naive" ? kLanes : kTile;
    dim3 grid((s.n + side - 1) / side, (s.m + side - 1) / side);
    std::string samples;
    if (variant == "naive") {
        samples = timed(warmup, repeats, [&] { mmul_naive<<<grid, kThreads>>>(dev_a, dev_b, dev_c, s); });
    } else if (variant == "tiled") {
        samples = timed(warmup, repeats, [&] { mmul_tiled<<<grid, kThreads>>>(dev_a, dev_b, dev_c, s); });
    } else if (variant == "double_buffered") {
        samples = timed(warmup, repeats, [&] { mmul_double_buffered<<<grid, kThreads>>>(dev_a, dev_b, dev_c, s); });
#ifdef WITH_CUBLAS
    } else if (variant == "cublas") {
        samples = cublas(warmup, repeats, dev_a, dev_b, dev_c, s);
#endif
    } else {
        std::fprintf(stderr, "mmul_gpu_tiled.cu: no variant %s in this build\n", variant.c_str());
        return 1;
    }
    CHECK(cudaMemcpy(c.data(), dev_c, c.size() * sizeof(float), cudaMemcpyDeviceToHost));
    Errors worst = compare(a, b, c, s);
    bool correct = worst.relative <= 1e-5;  // FP32 sums: about sqrt(k) rounding steps of 6e-8
    std::printf("{\"kernel\": \"mmul_%s\", \"variant\": \"%s\", \"m\": %d, \"n\": %d, \"k\": %d, \"tile\": %d, \"block\": %d, "
                "\"samples_us\": [%s], \"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, \"max_rel_error\": %.3g, "
                "\"correct\": %s}\n",
                variant.c_str(), variant.c_str(), s.m, s.n, s.k, kTile, kThreads, samples.c_str(),
                4.0 * (double(s.m) * s.k + double(s.k) * s.n + double(s.m) * s.n), 2.0 * s.m * s.n * s.k, worst.absolute,
                worst.relative, correct ? "true" : "false");
    CHECK(cudaFree(dev_a));
    CHECK(cudaFree(dev_b));
    CHECK(cudaFree(dev_c));
    return correct ? 0 : 1;
}
