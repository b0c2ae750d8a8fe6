// vector_add.cu: c = a + b, in the ways that day 8 compares.
//
//   nvcc -arch=sm_90 -O3 vector_add.cu -o vector_add
//   ./vector_add --variant grid_stride --n 16777216 --block 256 --repeats 20
//
//   large_grid   one thread for each element: as many blocks as it takes
//   grid_stride  as many blocks as the GPU holds at once; each thread strides over the array by the size of the grid
//   wide         each thread adds ITEMS float4 pairs, all loads first: many registers. __launch_bounds__(BLOCK)
//                promises the compiler the block size; for large blocks it must then make do with fewer registers
//   wave         a sum of exponentials, sines and quotients, to see what --use_fast_math costs and gains
//
// -DGUARD=0 leaves out the test of the index (large_grid only): the last block then writes behind the arrays.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#ifndef GUARD
#define GUARD 1
#endif
#ifndef BLOCK
#define BLOCK 256
#endif
constexpr int ITEMS = 16, TERMS = 32;

#define CHECK(call)                                                                                       \
    do {                                                                                                  \
        cudaError_t status = (call);                                                                      \
        if (status != cudaSuccess) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status)); \
            std::exit(1);                                                                                 \
        }                                                                                                 \
    } while (0)

__global__ void vector_add(const float* a, const float* b, float* c, size_t n) {
    size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;  // size_t before the product: it may exceed 32 bits
#if GUARD
    if (i >= n) return;  // the last block hangs over the end
#endif
    c[i] = a[i] + b[i];
}

__global__ void vector_add_stride(const float* a, const float* b, float* c, size_t n) {
    size_t step = size_t(gridDim.x) * blockDim.x;
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) c[i] = a[i] + b[i];
}

// n4 counts float4s. Neighbouring threads take neighbouring float4s, so that each access stays coalesced.
__global__ void __launch_bounds__(BLOCK) vector_add_wide(const float4* a, const float4* b, float4* c, size_t n4) {
    size_t first = size_t(blockIdx.x) * blockDim.x * ITEMS + threadIdx.x;
    float4 left[ITEMS], right[ITEMS];
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
        size_t i = first + size_t(k) * blockDim.x;
        left[k] = i < n4 ? a[i] : float4{0, 0, 0, 0};
        right[k] = i < n4 ? b[i] : float4{0, 0, 0, 0};
    }
#pragma unroll
    for (int k = 0; k < ITEMS; ++k) {
        size_t i = first + size_t(k) * blockDim.x;
        if (i < n4) c[i] = float4{left[k].x + right[k].x, left[k].y + right[k].y, left[k].z + right[k].z, left[k].w + right[k].w};
    }
}

// Every term is positive: an error of one function cannot hide behind cancellation, nor look larger by it.
__global__ void vector_wave(const float* a, const float* b, float* c, size_t n) {
    size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float x = a[i], y = b[i], sum = 0.0f;
    for (int k = 1; k <= TERMS; ++k) sum += expf(-y * k / TERMS) * (1.5f + sinf(k * x)) / (1.0f + x * x);
    c[i] = sum;
}

static double wave(double x, double y) {
    double sum = 0;
    for (int k = 1; k <= TERMS; ++k) sum += std::exp(-y * k / TERMS) * (1.5 + std::sin(k * x)) / (1.0 + x * x);
    return sum;
}

struct Buffers { float *a, *b, *c; size_t n; };

static void launch(const std::string& variant, Buffers at, int block) {
    unsigned blocks = unsigned((at.n + block - 1) / block);
    if (variant == "grid_stride") {
        int processors = 0;
        CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
        unsigned resident = processors * std::max(1, 2048 / block);  // what the GPU can hold at once
        vector_add_stride<<<std::min(blocks, resident), block>>>(at.a, at.b, at.c, at.n);
    } else if (variant == "wide") {
        size_t n4 = at.n / 4, each = size_t(BLOCK) * ITEMS;
        vector_add_wide<<<unsigned((n4 + each - 1) / each), BLOCK>>>((float4*)at.a, (float4*)at.b, (float4*)at.c, n4);
    } else if (variant == "wave") {
        vector_wave<<<blocks, block>>>(at.a, at.b, at.c, at.n);
    } else {
        vector_add<<<blocks, block>>>(at.a, at.b, at.c, at.n);
    }
    CHECK(cudaGetLastError());
}

static std::string timed(const std::string& variant, Buffers at, int block, int warmup, int repeats) {
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::string samples;
    for (int i = 0; i < warmup + repeats; ++i) {
        CHECK(cudaEventRecord(start));
        launch(variant, at, block);
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

struct Errors { double absolute = 0, relative = 0, ulp = 0; };

// A sum of two floats is rounded once, on the GPU as on the CPU: it must be the same to the last bit.
static Errors compare(const std::string& variant, const std::vector<float>& a, const std::vector<float>& b,
                      const std::vector<float>& c) {
    Errors worst;
    size_t step = variant == "wave" ? std::max<size_t>(1, a.size() / 1000003) : 1;  // the double reference is slow
    for (size_t i = 0; i < a.size(); i += step) {
        double expected = variant == "wave" ? wave(a[i], b[i]) : double(a[i] + b[i]);
        double error = std::fabs(c[i] - expected), magnitude = std::fabs(expected);
        double spacing = std::nextafterf(float(magnitude), INFINITY) - float(magnitude);
        worst.absolute = error <= worst.absolute ? worst.absolute : error;  // written so that NaN is the worst
        worst.relative = error / (magnitude + 1e-30) <= worst.relative ? worst.relative : error / (magnitude + 1e-30);
        worst.ulp = error / spacing <= worst.ulp ? worst.ulp : error / spacing;
    }
    return worst;
}

static bool measure(const std::string& variant, size_t n, int block, int warmup, int repeats) {
    if (variant == "wide") n = n / 4 * 4, block = BLOCK;
    std::mt19937 engine(8);
    std::uniform_real_distribution<float> uniform(0.0f, 10.0f);
    std::vector<float> a(n), b(n), c(n);
    for (float& value : a) value = uniform(engine);
    for (float& value : b) value = uniform(engine);
    Buffers at{nullptr, nullptr, nullptr, n};
    for (float** buffer : {&at.a, &at.b, &at.c}) CHECK(cudaMalloc(buffer, n * sizeof(float)));
    CHECK(cudaMemcpy(at.a, a.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(at.b, b.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemset(at.c, 0xff, n * sizeof(float)));  // NaN: an element that is never written shows
    std::string samples = timed(variant, at, block, warmup, repeats);
    CHECK(cudaMemcpy(c.data(), at.c, n * sizeof(float), cudaMemcpyDeviceToHost));
    for (float* buffer : {at.a, at.b, at.c}) CHECK(cudaFree(buffer));
    Errors worst = compare(variant, a, b, c);
    bool correct = variant == "wave" ? worst.relative < 1e-2 : worst.absolute == 0;
    double operations = variant == "wave" ? TERMS * 10.0 * n : double(n);  // as written: exp and sin count as one each
    std::printf("{\"kernel\": \"vector_add\", \"variant\": \"%s\", \"n\": %zu, \"block\": %d, \"samples_us\": [%s], "
                "\"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, \"max_rel_error\": %.3g, \"max_ulp\": %.3g, "
                "\"correct\": %s}\n",
                variant.c_str(), n, block, samples.c_str(), 12.0 * n, operations, worst.absolute, worst.relative,
                worst.ulp, correct ? "true" : "false");
    return correct;
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

int main(int argc, char** argv) {
    std::string variant = option(argc, argv, "--variant", "all");
    size_t n = std::strtoull(option(argc, argv, "--n", "16777216"), nullptr, 10);
    int block = std::atoi(option(argc, argv, "--block", "256"));
    int repeats = std::atoi(option(argc, argv, "--repeats", "20")), warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    bool correct = true;
    for (const char* one : {"large_grid", "grid_stride", "wide", "wave"})
        if (variant == "all" || variant == one) correct = measure(one, n, block, warmup, repeats) && correct;
    return correct ? 0 : 1;
}
