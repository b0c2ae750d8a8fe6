// sgemm_fast.cu: FP32 GEMM as cuBLAS does it on CUDA cores: tiles for the block, the warp and the thread, two buffers.
//
//   nvcc -arch=sm_90 -O3 sgemm_fast.cu -o sgemm_fast
//   ./sgemm_fast --n 4096 --repeats 20        (--m, --k for rectangles; any size works, multiples of 4 are faster)
//
// Each level divides the traffic of the one below: 128 x 128 per block (global memory), 32 x 64 per warp (shared memory),
// 8 x 8 per thread (registers). After S. Boehm, "How to Optimize a CUDA Matmul Kernel for cuBLAS-like Performance", and
// CUTLASS's SIMT kernels: global loads a whole tile ahead, one barrier per tile. 128 registers and no spills: two blocks per SM.
#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
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

// The block's tile of C is 128 x 128, computed by 8 warps of 32 x 64, each lane 8 x 8 (as 2 x 2 quads of 4 x 4).
constexpr int kTile = 128, kDepth = 16, kThreads = 256, kWarpRows = 32, kWarpCols = 64, kQuad = 4;
constexpr int kPad = 4;             // words behind each row of tile_a: its transposed stores hit 32 different banks
constexpr int kPasses = kDepth / 8; // float4 loads per thread for each of the two tiles
constexpr int kGroup = 8;           // rows of tiles that are walked together, so that their part of B stays in L2

struct Tiles {
    float a[kDepth][kTile + kPad];  // transposed: a lane's 4 rows are one float4
    float b[kDepth][kTile];
};

// Four neighbours of a row, zeros outside. WIDE: one 16-byte load; the row length is a multiple of 4, so that the four are
// inside or outside together.
template <bool WIDE>
__device__ inline float4 four(const float* from, int row, int col, int rows, int cols) {
    float4 values = make_float4(0, 0, 0, 0);
    if (row >= rows || col >= cols) return values;
    const float* at = from + size_t(row) * cols + col;
    if (WIDE) return *reinterpret_cast<const float4*>(at);
    values.x = at[0];
    if (col + 1 < cols) values.y = at[1];
    if (col + 2 < cols) values.z = at[2];
    if (col + 3 < cols) values.w = at[3];
    return values;
}

// The next tiles, asked for before a tile is computed and needed after it, which hides their latency. B goes to shared
// memory by itself (cp.async); A has to be transposed on the way and passes through registers.
struct Staged { float4 a[kPasses]; };

template <bool WIDE>
__device__ inline void fetch(Staged& staged, Tiles& tiles, const float* a, const float* b, Shape s, int first_row, int first_col, int start) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
        // A: two lanes per row, 32 bytes of it, one sector. B: a warp per row, 512 bytes of it.
        staged.a[pass] = four<WIDE>(a, first_row + threadIdx.x / 2, start + pass * 8 + threadIdx.x % 2 * 4, s.m, s.k);
        int depth = pass * 8 + threadIdx.x / 32, col = threadIdx.x % 32 * 4, row_b = start + depth, col_b = first_col + col;
        constexpr int wide = WIDE ? 4 : 1;
#pragma unroll
        for (int x = 0; x < 4; x += wide) {
            bool inside = row_b < s.k && col_b + x < s.n;
            __pipeline_memcpy_async(&tiles.b[depth][col + x], inside ? b + size_t(row_b) * s.n + col_b + x : b, wide * 4, inside ? 0 : wide * 4);
        }
    }
    __pipeline_commit();
}

__device__ inline void store(Tiles& tiles, const Staged& staged) {
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
        int row = threadIdx.x / 2, depth = pass * 8 + threadIdx.x % 2 * 4;
        tiles.a[depth][row] = staged.a[pass].x;
        tiles.a[depth + 1][row] = staged.a[pass].y;
        tiles.a[depth + 2][row] = staged.a[pass].z;
        tiles.a[depth + 3][row] = staged.a[pass].w;
    }
    __pipeline_wait_prior(0);
}

// 8 values of A and 8 of B from shared memory (four float4, no bank conflicts) for 64 multiply-adds.
struct Fragment { float a[8], b[8]; };

__device__ inline void load(Fragment& f, const Tiles& tiles, int t, int row, int col) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        *reinterpret_cast<float4*>(&f.a[half * kQuad]) = *reinterpret_cast<const float4*>(&tiles.a[t][row + half * kWarpRows / 2]);
        *reinterpret_cast<float4*>(&f.b[half * kQuad]) = *reinterpret_cast<const float4*>(&tiles.b[t][col + half * kWarpCols / 2]);
    }
}

template <bool WIDE>
__global__ void __launch_bounds__(kThreads, 2) sgemm_fast(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, Shape s) {
    __shared__ __align__(16) Tiles tiles[2];
    int across = (s.n + kTile - 1) / kTile, down = (s.m + kTile - 1) / kTile;
    int group = blockIdx.x / (kGroup * across), rows_in_group = min(kGroup, down - group * kGroup);
    int within = blockIdx.x - group * kGroup * across;
    int first_row = (group * kGroup + within % rows_in_group) * kTile, first_col = within / rows_in_group * kTile;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int row = warp / 2 * kWarpRows + lane / 8 * kQuad, col = warp % 2 * kWarpCols + lane % 8 * kQuad;

    float sum[8][8] = {};
    Staged staged;
    fetch<WIDE>(staged, tiles[0], a, b, s, first_row, first_col, 0);
    store(tiles[0], staged);
    __syncthreads();
    for (int start = 0, now = 0; start < s.k; start += kDepth, now ^= 1) {
        bool more = start + kDepth < s.k;
        if (more) fetch<WIDE>(staged, tiles[now ^ 1], a, b, s, first_row, first_col, start + kDepth);
#pragma unroll
        for (int t = 0; t < kDepth; ++t) {
            Fragment f;
            load(f, tiles[now], t, row, col);
#pragma unroll
            for (int y = 0; y < 8; ++y)
#pragma unroll
                for (int x = 0; x < 8; ++x) sum[y][x] += f.a[y] * f.b[x];
        }
        if (more) {  // one barrier per tile: the other buffer was last read before the previous one
            store(tiles[now ^ 1], staged);
            __syncthreads();
        }
    }
#pragma unroll
    for (int y = 0; y < 8; ++y)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            int at_row = first_row + row + y / kQuad * (kWarpRows / 2) + y % kQuad, at_col = first_col + col + half * kWarpCols / 2;
            if (at_row >= s.m) continue;
            float* to = c + size_t(at_row) * s.n + at_col;
            const float* from = &sum[y][half * kQuad];
            if (WIDE && at_col < s.n) *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
            for (int x = 0; !WIDE && x < kQuad && at_col + x < s.n; ++x) to[x] = from[x];
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

int main(int argc, char** argv) {
    int n = std::atoi(option(argc, argv, "--n", "4096"));
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
    int blocks = ((s.n + kTile - 1) / kTile) * ((s.m + kTile - 1) / kTile);
    bool wide = s.n % 4 == 0 && s.k % 4 == 0;
    std::string samples = timed(warmup, repeats, [&] {
        if (wide)
            sgemm_fast<true><<<blocks, kThreads>>>(dev_a, dev_b, dev_c, s);
        else
            sgemm_fast<false><<<blocks, kThreads>>>(dev_a, dev_b, dev_c, s);
    });
    CHECK(cudaMemcpy(c.data(), dev_c, c.size() * sizeof(float), cudaMemcpyDeviceToHost));
    Errors worst = compare(a, b, c, s);
    bool correct = worst.relative <= 1e-5;  // FP32 sums: about sqrt(k) rounding steps of 6e-8
    std::printf("{\"kernel\": \"sgemm_fast\", \"variant\": \"%s\", \"m\": %d, \"n\": %d, \"k\": %d, \"block\": %d, \"samples_us\": [%s], "
                "\"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, \"max_rel_error\": %.3g, \"correct\": %s}\n",
                wide ? "wide" : "narrow", s.m, s.n, s.k, kThreads, samples.c_str(),
                4.0 * (double(s.m) * s.k + double(s.k) * s.n + double(s.m) * s.n), 2.0 * s.m * s.n * s.k, worst.absolute,
                worst.relative, correct ? "true" : "false");
    CHECK(cudaFree(dev_a));
    CHECK(cudaFree(dev_b));
    CHECK(cudaFree(dev_c));
    return correct ? 0 : 1;
}
