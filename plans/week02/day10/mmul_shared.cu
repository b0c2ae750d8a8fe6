// mmul_shared.cu: C = A B through tiles in shared memory; with one, or with 8 x 8, elements of C per thread.
//
//   nvcc -arch=sm_90 -O3 -DTILE=32 -DUNROLL=4 mmul_shared.cu -o mmul_shared
//   nvcc … -maxrregcount=64 …                                 (what a limit on registers costs: see -Xptxas -v)
//   ./mmul_shared --variant tile|wide --n 1024 --repeats 20   (--m, --k for rectangles; no size needs to fit a tile)
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#ifndef TILE
#define TILE 32  // 16 or 32: one thread per element, and a block has at most 1024 threads
#endif
#ifndef UNROLL
#define UNROLL 4  // of the loop over a tile; 1 keeps it rolled
#endif
constexpr int kUnroll = UNROLL;  // a pragma does not expand macros

#define CHECK(call)                                                                                       \
    do {                                                                                                  \
        cudaError_t status = (call);                                                                      \
        if (status != cudaSuccess) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status)); \
            std::exit(1);                                                                                 \
        }                                                                                                 \
    } while (0)

struct Shape { int m, n, k; };

// One thread per element of C. Both tiles go through shared memory: each value is fetched from global memory once per
// tile instead of once per thread, which divides the traffic by TILE.
__global__ void mmul_shared(const float* a, const float* b, float* c, Shape s) {
    __shared__ float tile_a[TILE][TILE], tile_b[TILE][TILE];
    int row = blockIdx.y * TILE + threadIdx.y, col = blockIdx.x * TILE + threadIdx.x;
    float sum = 0.0f;
    for (int start = 0; start < s.k; start += TILE) {
        int i = start + threadIdx.x, j = start + threadIdx.y;
        tile_a[threadIdx.y][threadIdx.x] = row < s.m && i < s.k ? a[size_t(row) * s.k + i] : 0.0f;
        tile_b[threadIdx.y][threadIdx.x] = j < s.k && col < s.n ? b[size_t(j) * s.n + col] : 0.0f;
        __syncthreads();  // the tiles are there
#pragma unroll kUnroll
        for (int t = 0; t < TILE; ++t) sum += tile_a[threadIdx.y][t] * tile_b[t][threadIdx.x];
        __syncthreads();  // nobody needs them any more
    }
    if (row < s.m && col < s.n) c[size_t(row) * s.n + col] = sum;
}

// WIDE x WIDE elements of C per thread: each value read from shared memory serves WIDE products. All the sums live in
// registers; this is the kernel that -maxrregcount hurts.
constexpr int kWide = 8, kSide = 64, kDepth = 16, kThreads = (kSide / kWide) * (kSide / kWide);

__global__ void mmul_shared_wide(const float* a, const float* b, float* c, Shape s) {
    __shared__ float tile_a[kDepth][kSide + 2], tile_b[kDepth][kSide];  // + 2: the transposed stores hit 32 banks
    int thread = threadIdx.x, lane_row = thread / (kSide / kWide), lane_col = thread % (kSide / kWide);
    float sum[kWide][kWide] = {};
    for (int start = 0; start < s.k; start += kDepth) {
#pragma unroll
        for (int pass = 0; pass < kSide * kDepth / kThreads; ++pass) {
            int e = pass * kThreads + thread;
            int row = blockIdx.y * kSide + e / kDepth, i = start + e % kDepth;
            tile_a[e % kDepth][e / kDepth] = row < s.m && i < s.k ? a[size_t(row) * s.k + i] : 0.0f;
            int j = start + e / kSide, col = blockIdx.x * kSide + e % kSide;
            tile_b[e / kSide][e % kSide] = j < s.k && col < s.n ? b[size_t(j) * s.n + col] : 0.0f;
        }
        __syncthreads();
#pragma unroll kUnroll
        for (int t = 0; t < kDepth; ++t)
            for (int y = 0; y < kWide; ++y)  // rows and columns kSide / kWide apart: neighbours in a warp stay neighbours
                for (int x = 0; x < kWide; ++x)
                    sum[y][x] += tile_a[t][lane_row + y * (kSide / kWide)] * tile_b[t][lane_col + x * (kSide / kWide)];
        __syncthreads();
    }
    for (int y = 0; y < kWide; ++y)
        for (int x = 0; x < kWide; ++x) {
            int row = blockIdx.y * kSide + lane_row + y * (kSide / kWide);
            int col = blockIdx.x * kSide + lane_col + x * (kSide / kWide);
            if (row < s.m && col < s.n) c[size_t(row) * s.n + col] = sum[y][x];
        }
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
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

int main(int argc, char** argv) {
    int n = std::atoi(option(argc, argv, "--n", "1024"));
    Shape s{std::atoi(option(argc, argv, "--m", std::to_string(n).c_str())), n,
            std::atoi(option(argc, argv, "--k", std::to_string(n).c_str()))};
    int repeats = std::atoi(option(argc, argv, "--repeats", "20"));
    int warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    auto a = random_matrix(size_t(s.m) * s.k, 1), b = random_matrix(size_t(s.k) * s.n, 2);
    std::vector<float> c(size_t(s.m) * s.n);

    float *dev_a, *dev_b, *dev_c;
    CHECK(cudaMalloc(&dev_a, a.size() * sizeof(float)));
    CHECK(cudaMalloc(&dev_b, b.size() * sizeof(float)));
    CHECK(cudaMalloc(&dev_c, c.size() * sizeof(float)));
    CHECK(cudaMemcpy(dev_a, a.data(), a.size() * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(dev_b, b.data(), b.size() * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemset(dev_c, 0xff, c.size() * sizeof(float)));  // NaN: an element that is never written shows

    bool wide = !std::strcmp(option(argc, argv, "--variant", "tile"), "wide");
    int side = wide ? kSide : TILE;
    dim3 block = wide ? dim3(kThreads) : dim3(TILE, TILE), grid((s.n + side - 1) / side, (s.m + side - 1) / side);
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::string samples;
    for (int i = 0; i < warmup + repeats; ++i) {
        CHECK(cudaEventRecord(start));
        if (wide)
            mmul_shared_wide<<<grid, block>>>(dev_a, dev_b, dev_c, s);
        else
            mmul_shared<<<grid, block>>>(dev_a, dev_b, dev_c, s);
        CHECK(cudaGetLastError());
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        float ms = 0;
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (i >= warmup) samples += (samples.empty() ? "" : ", ") + std::to_string(ms * 1e3);
    }
    CHECK(cudaMemcpy(c.data(), dev_c, c.size() * sizeof(float), cudaMemcpyDeviceToHost));
    Errors worst = compare(a, b, c, s);
    bool correct = worst.relative <= 1e-5;  // FP32 sums: about sqrt(k) rounding steps of 6e-8
    std::printf("{\"kernel\": \"%s\", \"variant\": \"%s\", \"m\": %d, \"n\": %d, \"k\": %d, \"block\": %d, "
                "\"samples_us\": [%s], \"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, "
                "\"max_rel_error\": %.3g, \"correct\": %s}\n",
                wide ? "mmul_shared_wide" : "mmul_shared", wide ? "wide" : "tile", s.m, s.n, s.k, int(block.x * block.y), samples.c_str(),
                4.0 * (double(s.m) * s.k + double(s.k) * s.n + double(s.m) * s.n), 2.0 * s.m * s.n * s.k, worst.absolute,
                worst.relative, correct ? "true" : "false");
    CHECK(cudaFree(dev_a));
    CHECK(cudaFree(dev_b));
    CHECK(cudaFree(dev_c));
    return correct ? 0 : 1;
}
