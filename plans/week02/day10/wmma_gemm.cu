// wmma_gemm.cu: a small GEMM on the Tensor Cores through the WMMA interface, against plain tiles in shared memory.
//
//   nvcc -arch=sm_90 -O3 wmma_gemm.cu -o wmma_gemm
//   ./wmma_gemm --variant shared_tiled|wmma --n 512 --repeats 20      (--m, --k for rectangles; any size works)
//
// shared_tiled multiplies FP32 inputs on the CUDA cores; wmma rounds the inputs to FP16 and sums in FP32. Both errors are
// against the product of the FP32 inputs, so that the rounding of the inputs is seen.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <mma.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#define CHECK(call)                                                                                       \
    do {                                                                                                  \
        cudaError_t status = (call);                                                                      \
        if (status != cudaSuccess) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status)); \
            std::exit(1);                                                                                 \
        }                                                                                                 \
    } while (0)

struct Shape { int m, n, k; };

constexpr int kTile = 32;

__global__ void mmul_shared_tiled(const float* a, const float* b, float* c, Shape s) {
    __shared__ float tile_a[kTile][kTile], tile_b[kTile][kTile];
    int row = blockIdx.y * kTile + threadIdx.y, col = blockIdx.x * kTile + threadIdx.x;
    float sum = 0.0f;
    for (int start = 0; start < s.k; start += kTile) {
        int i = start + threadIdx.x, j = start + threadIdx.y;
        tile_a[threadIdx.y][threadIdx.x] = row < s.m && i < s.k ? a[size_t(row) * s.k + i] : 0.0f;
        tile_b[threadIdx.y][threadIdx.x] = j < s.k && col < s.n ? b[size_t(j) * s.n + col] : 0.0f;
        __syncthreads();
        for (int t = 0; t < kTile; ++t) sum += tile_a[threadIdx.y][t] * tile_b[t][threadIdx.x];
        __syncthreads();
    }
    if (row < s.m && col < s.n) c[size_t(row) * s.n + col] = sum;
}

constexpr int kSide = 64, kDepth = 32, kPad = 8;  // a block's tile of C, its step along k; 16 bytes of padding
constexpr int kThreads = 128;                     // four warps, each with a quarter of the tile: 2 x 2 fragments

// Eight FP16 values at a time where the rows allow it (n and k multiples of 8), one by one where they do not.
template <bool ALIGNED, int ROWS, int COLS, int STRIDE>
__device__ void load_tile(half* tile, const half* from, int first_row, int first_col, int rows, int cols) {
    constexpr int wide = ALIGNED ? 8 : 1;
    static_assert(ROWS * COLS % (kThreads * 8) == 0, "every thread fetches as much");
#pragma unroll 4
    for (int pass = 0; pass < ROWS * COLS / (kThreads * wide); ++pass) {
        int e = (pass * kThreads + threadIdx.x) * wide, y = e / COLS, x = e % COLS, row = first_row + y, col = first_col + x;
        bool inside = row < rows && col < cols;
        if (ALIGNED) {
            uint4 values = inside ? *reinterpret_cast<const uint4*>(&from[size_t(row) * cols + col]) : make_uint4(0, 0, 0, 0);
            *reinterpret_cast<uint4*>(&tile[y * STRIDE + x]) = values;
        } else {
            tile[y * STRIDE + x] = inside ? from[size_t(row) * cols + col] : __float2half(0.0f);
        }
    }
}

// D = A B with FP16 inputs on the Tensor Cores; ACC is the type of the sums. wmma asks for whole 16 x 16 x 16 fragments,
// 16-byte aligned rows and FP16 inputs: the tiles in shared memory are padded with zeros, so that any n works.
template <class ACC, bool ALIGNED>
__global__ void __launch_bounds__(kThreads) mmul_wmma(const half* a, const half* b, float* c, Shape s) {
    using namespace nvcuda;
    __shared__ __align__(32) half tile_a[kSide * (kDepth + kPad)], tile_b[kDepth * (kSide + kPad)];
    __shared__ __align__(32) ACC tile_c[kSide * (kSide + kPad)];
    int warp = threadIdx.x / 32, warp_row = warp / 2 * 32, warp_col = warp % 2 * 32;
    int first_row = blockIdx.y * kSide, first_col = blockIdx.x * kSide;
    wmma::fragment<wmma::accumulator, 16, 16, 16, ACC> sum[2][2];
    for (int y = 0; y < 2; ++y)
        for (int x = 0; x < 2; ++x) wmma::fill_fragment(sum[y][x], ACC(0.0f));
    for (int start = 0; start < s.k; start += kDepth) {
        load_tile<ALIGNED, kSide, kDepth, kDepth + kPad>(tile_a, a, first_row, start, s.m, s.k);
        load_tile<ALIGNED, kDepth, kSide, kSide + kPad>(tile_b, b, start, first_col, s.k, s.n);
        __syncthreads();
#pragma unroll
        for (int t = 0; t < kDepth; t += 16) {
            wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> left[2];
            wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> right[2];
            for (int i = 0; i < 2; ++i) {
                wmma::load_matrix_sync(left[i], &tile_a[(warp_row + i * 16) * (kDepth + kPad) + t], kDepth + kPad);
                wmma::load_matrix_sync(right[i], &tile_b[t * (kSide + kPad) + warp_col + i * 16], kSide + kPad);
            }
            for (int y = 0; y < 2; ++y)
                for (int x = 0; x < 2; ++x) wmma::mma_sync(sum[y][x], left[y], right[x], sum[y][x]);
        }
        __syncthreads();
    }
    for (int y = 0; y < 2; ++y)  // through shared memory: a fragment cannot be stored past the edge of C
        for (int x = 0; x < 2; ++x)
            wmma::store_matrix_sync(&tile_c[(warp_row + y * 16) * (kSide + kPad) + warp_col + x * 16], sum[y][x], kSide + kPad,
                                    wmma::mem_row_major);
    __syncthreads();
    for (int e = threadIdx.x; e < kSide * kSide; e += kThreads) {
        int row = first_row + e / kSide, col = first_col + e % kSide;
        if (row < s.m && col < s.n) c[size_t(row) * s.n + col] = float(tile_c[e / kSide * (kSide + kPad) + e % kSide]);
    }
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

static std::vector<half> halves(const std::vector<float>& values) {
    std::vector<half> result(values.size());
    for (size_t i = 0; i < values.size(); ++i) result[i] = __float2half(values[i]);
    return result;
}

template <class T>
static T* on_device(const std::vector<T>& values) {
    T* at;
    CHECK(cudaMalloc(&at, values.size() * sizeof(T)));
    CHECK(cudaMemcpy(at, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    return at;
}

int main(int argc, char** argv) {
    bool tensor = !std::strcmp(option(argc, argv, "--variant", "wmma"), "wmma");
    int n = std::atoi(option(argc, argv, "--n", "512"));
    Shape s{std::atoi(option(argc, argv, "--m", std::to_string(n).c_str())), n,
            std::atoi(option(argc, argv, "--k", std::to_string(n).c_str()))};
    int repeats = std::atoi(option(argc, argv, "--repeats", "20")), warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    auto a = random_matrix(size_t(s.m) * s.k, 1), b = random_matrix(size_t(s.k) * s.n, 2);
    std::vector<float> c(size_t(s.m) * s.n);
    float *dev_a = on_device(a), *dev_b = on_device(b), *dev_c = on_device(std::vector<float>(c.size(), NAN));
    half *half_a = on_device(halves(a)), *half_b = on_device(halves(b));
    int side = tensor ? kSide : kTile;
    dim3 grid((s.n + side - 1) / side, (s.m + side - 1) / side), block = tensor ? dim3(kThreads) : dim3(kTile, kTile);
    bool aligned = s.n % 8 == 0 && s.k % 8 == 0;
    std::string samples = timed(warmup, repeats, [&] {
        if (!tensor)
            mmul_shared_tiled<<<grid, block>>>(dev_a, dev_b, dev_c, s);
        else if (aligned)
            mmul_wmma<float, true><<<grid, block>>>(half_a, half_b, dev_c, s);
        else
            mmul_wmma<float, false><<<grid, block>>>(half_a, half_b, dev_c, s);
    });
    CHECK(cudaMemcpy(c.data(), dev_c, c.size() * sizeof(float), cudaMemcpyDeviceToHost));
    Errors worst = compare(a, b, c, s);
    bool correct = worst.relative <= (tensor ? 1e-3 : 1e-5);  // FP16 inputs: two roundings of 2^-11
    std::printf("{\"kernel\": \"%s\", \"variant\": \"%s\", \"m\": %d, \"n\": %d, \"k\": %d, \"block\": %d, \"samples_us\": [%s], "
                "\"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, \"max_rel_error\": %.3g, \"correct\": %s}\n",
                tensor ? "mmul_wmma" : "mmul_shared_tiled", tensor ? "wmma" : "shared_tiled", s.m, s.n, s.k, int(block.x * block.y),
                samples.c_str(), (tensor ? 2.0 : 4.0) * (double(s.m) * s.k + double(s.k) * s.n) + 4.0 * s.m * s.n, 2.0 * s.m * s.n * s.k,
                worst.absolute, worst.relative, correct ? "true" : "false");
    for (void* at : {static_cast<void*>(dev_a), static_cast<void*>(dev_b), static_cast<void*>(dev_c), static_cast<void*>(half_a),
                     static_cast<void*>(half_b)})
        CHECK(cudaFree(at));
    return correct ? 0 : 1;
}
