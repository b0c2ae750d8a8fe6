// constant_memory.cu: a polynomial's coefficients in constant memory or in global memory.
//
//   nvcc -arch=sm_90 -O3 constant_memory.cu -o constant_memory
//   ./constant_memory --memory constant --access uniform
//
// uniform:   all lanes of a warp read the same coefficient: the constant cache serves them with one broadcast.
// divergent: each lane reads another one: the constant cache serves them one after the other, global memory does not.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

constexpr int TABLE = 1024, TERMS = 64;
__constant__ float in_constant[TABLE];

#define CHECK(call)                                                                                       \
    do {                                                                                                  \
        cudaError_t status = (call);                                                                      \
        if (status != cudaSuccess) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status)); \
            std::exit(1);                                                                                 \
        }                                                                                                 \
    } while (0)

template <bool CONSTANT, bool UNIFORM>
__global__ void weighted(const float* x, const float* table, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int first = UNIFORM ? 0 : int(threadIdx.x % 32) * 31;  // lanes 31 words apart
    float value = x[i], sum = 0.0f;
    for (int k = 0; k < TERMS; ++k) {
        int at = (first + k) % TABLE;
        sum += (CONSTANT ? in_constant[at] : table[at]) * value;
    }
    out[i] = sum;
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

int main(int argc, char** argv) {
    std::string memory = option(argc, argv, "--memory", "constant"), access = option(argc, argv, "--access", "uniform");
    int n = std::atoi(option(argc, argv, "--n", "16777216"));
    int repeats = std::atoi(option(argc, argv, "--repeats", "20")), warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    bool uniform = access == "uniform";
    std::vector<float> x(n), out(n), table(TABLE);
    for (int i = 0; i < n; ++i) x[i] = float(i % 7 - 3);
    for (int k = 0; k < TABLE; ++k) table[k] = float(k % 16) / 16;  // sums of these are exact in float
    float *dev_x, *dev_out, *dev_table;
    CHECK(cudaMalloc(&dev_x, n * sizeof(float)));
    CHECK(cudaMalloc(&dev_out, n * sizeof(float)));
    CHECK(cudaMalloc(&dev_table, TABLE * sizeof(float)));
    CHECK(cudaMemcpy(dev_x, x.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(dev_table, table.data(), TABLE * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpyToSymbol(in_constant, table.data(), TABLE * sizeof(float)));
    CHECK(cudaMemset(dev_out, 0xff, n * sizeof(float)));

    auto kernel = memory == "constant" ? (uniform ? weighted<true, true> : weighted<true, false>)
                                       : (uniform ? weighted<false, true> : weighted<false, false>);
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::string samples;
    for (int i = 0; i < warmup + repeats; ++i) {
        CHECK(cudaEventRecord(start));
        kernel<<<(n + 255) / 256, 256>>>(dev_x, dev_table, dev_out, n);
        CHECK(cudaGetLastError());
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        float ms = 0;
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (i >= warmup) samples += (samples.empty() ? "" : ", ") + std::to_string(ms * 1e3);
    }
    CHECK(cudaMemcpy(out.data(), dev_out, n * sizeof(float), cudaMemcpyDeviceToHost));
    std::vector<double> weight(32, 0.0);
    for (int lane = 0; lane < 32; ++lane)
        for (int k = 0; k < TERMS; ++k) weight[lane] += table[((uniform ? 0 : lane * 31) + k) % TABLE];
    double worst = 0;
    for (int i = 0; i < n; ++i) {
        double error = std::fabs(out[i] - weight[i % 32] * x[i]);
        worst = error <= worst ? worst : error;
    }
    bool correct = worst == 0;
    std::printf("{\"kernel\": \"weighted\", \"variant\": \"%s %s\", \"n\": %d, \"block\": 256, \"samples_us\": [%s], "
                "\"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, \"correct\": %s}\n",
                memory.c_str(), access.c_str(), n, samples.c_str(), 8.0 * n, 2.0 * TERMS * n, worst,
                correct ? "true" : "false");
    for (float* buffer : {dev_x, dev_out, dev_table}) CHECK(cudaFree(buffer));
    return correct ? 0 : 1;
}
