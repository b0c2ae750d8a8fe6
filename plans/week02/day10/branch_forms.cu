// branch_forms.cu: one choice between two polynomials, written as if/else, as a ternary of two results, and as PTX selp.
//
//   nvcc -arch=sm_90 -O3 branch_forms.cu -o branch_forms
//   ./branch_forms --variant if_else|ternary|selp --n 16777216 --repeats 20
//
// The signs are random, so nearly every warp holds both: with a jump it walks both ways one after the other, with a
// selection every lane computes both and keeps one. Which of them the compiler makes is seen in PTX and SASS, not in C++.
#include <cuda_runtime.h>

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

constexpr int kTerms = 24;  // long enough that the compiler does not turn the jump into predicates by itself

__host__ __device__ inline float series(float x, float step) {
    float sum = 1.0f;
    for (int i = 0; i < kTerms; ++i) sum = fmaf(sum, x * step, 1.0f);  // Horner's rule
    return sum;
}

__global__ void branch_if_else(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float value = x[i];
    if (value > 0.0f) {
        y[i] = series(value, 0.5f);
    } else {
        y[i] = series(value, 0.25f);
    }
}

__global__ void branch_ternary(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float value = x[i], up = series(value, 0.5f), down = series(value, 0.25f);
    y[i] = value > 0.0f ? up : down;
}

__device__ inline float select(float yes, float no, bool condition) {
#ifdef __CUDA_ARCH__
    float result;
    asm("{\n\t.reg .pred p;\n\tsetp.ne.s32 p, %3, 0;\n\tselp.f32 %0, %1, %2, p;\n\t}" : "=f"(result) : "f"(yes), "f"(no), "r"(int(condition)));
    return result;
#else
    return condition ? yes : no;
#endif
}

__global__ void branch_selp(const float* x, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float value = x[i], up = series(value, 0.5f), down = series(value, 0.25f);
    y[i] = select(up, down, value > 0.0f);
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

int main(int argc, char** argv) {
    std::string variant = option(argc, argv, "--variant", "if_else");
    int n = std::atoi(option(argc, argv, "--n", "16777216")), block = std::atoi(option(argc, argv, "--block", "256"));
    int repeats = std::atoi(option(argc, argv, "--repeats", "20")), warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    auto kernel = variant == "if_else" ? branch_if_else : variant == "ternary" ? branch_ternary : variant == "selp" ? branch_selp : nullptr;
    if (!kernel) {
        std::fprintf(stderr, "branch_forms.cu: no variant %s\n", variant.c_str());
        return 1;
    }
    std::mt19937 engine(1);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    std::vector<float> x(n), y(n);
    for (float& value : x) value = uniform(engine);
    float *dev_x, *dev_y;
    CHECK(cudaMalloc(&dev_x, n * sizeof(float)));
    CHECK(cudaMalloc(&dev_y, n * sizeof(float)));
    CHECK(cudaMemcpy(dev_x, x.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemset(dev_y, 0xff, n * sizeof(float)));  // NaN: an element that is never written shows
    std::string samples = timed(warmup, repeats, [&] { kernel<<<(n + block - 1) / block, block>>>(dev_x, dev_y, n); });
    CHECK(cudaMemcpy(y.data(), dev_y, n * sizeof(float), cudaMemcpyDeviceToHost));
    double worst = 0, relative = 0;
    for (int i = 0; i < n; ++i) {
        double expected = 1.0;
        for (int t = 0; t < kTerms; ++t) expected = expected * (double(x[i]) * (x[i] > 0 ? 0.5 : 0.25)) + 1.0;
        double error = std::fabs(y[i] - expected);
        worst = error <= worst ? worst : error;
        relative = error / std::fabs(expected) <= relative ? relative : error / std::fabs(expected);
    }
    bool correct = relative <= 1e-5;
    double each = variant == "if_else" ? kTerms : 2 * kTerms;  // multiply-adds that a lane needs, or computes
    std::printf("{\"kernel\": \"branch_%s\", \"variant\": \"%s\", \"n\": %d, \"block\": %d, \"samples_us\": [%s], \"bytes\": %.0f, "
                "\"flops\": %.0f, \"max_abs_error\": %.3g, \"max_rel_error\": %.3g, \"correct\": %s}\n",
                variant.c_str(), variant.c_str(), n, block, samples.c_str(), 8.0 * n, 2.0 * each * n, worst, relative, correct ? "true" : "false");
    CHECK(cudaFree(dev_x));
    CHECK(cudaFree(dev_y));
    return correct ? 0 : 1;
}
