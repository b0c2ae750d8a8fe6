// bank_conflicts.cu: each lane of a warp owns one row of a tile in shared memory; all lanes read the same column.
//
//   nvcc -arch=sm_90 -O3 -DSTRIDE=32 -DPADDING=1 bank_conflicts.cu -o bank_conflicts
//   ./bank_conflicts --n 4194304 --repeats 20
//
// Rows of STRIDE + PADDING floats put lane i's word into bank i * (STRIDE + PADDING) mod 32. The lanes that meet in one
// bank are gcd(STRIDE + PADDING, 32) many: 17 is odd and free of conflicts, 16 and 32 are the worst; a column of
// padding cures 16 and 32, and spoils 17 and 1 (18 and 2 are even).
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#ifndef STRIDE
#define STRIDE 32
#endif
#ifndef PADDING
#define PADDING 0
#endif
constexpr int WARPS = 8, ROUNDS = 256, PITCH = STRIDE + PADDING;

#define CHECK(call)                                                                                       \
    do {                                                                                                  \
        cudaError_t status = (call);                                                                      \
        if (status != cudaSuccess) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status)); \
            std::exit(1);                                                                                 \
        }                                                                                                 \
    } while (0)

__global__ void column_sums(const float* in, float* out, int n) {
    __shared__ volatile float tile[WARPS][32 * PITCH];  // volatile: every read really goes to shared memory
    int i = blockIdx.x * blockDim.x + threadIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    float mine = i < n ? in[i] : 0.0f;
    for (int col = 0; col < STRIDE; ++col) tile[warp][lane * PITCH + col] = mine + float(col);
    __syncwarp();
    float sum = 0.0f;
    for (int round = 0; round < ROUNDS; ++round) sum += tile[warp][lane * PITCH + round % STRIDE];
    if (i < n) out[i] = sum;
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

int main(int argc, char** argv) {
    int n = std::atoi(option(argc, argv, "--n", "4194304"));
    int repeats = std::atoi(option(argc, argv, "--repeats", "20")), warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    std::vector<float> in(n), out(n);
    for (int i = 0; i < n; ++i) in[i] = float(i % 64) / 64;  // sums of these are exact in float
    float *dev_in, *dev_out;
    CHECK(cudaMalloc(&dev_in, n * sizeof(float)));
    CHECK(cudaMalloc(&dev_out, n * sizeof(float)));
    CHECK(cudaMemcpy(dev_in, in.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemset(dev_out, 0xff, n * sizeof(float)));
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::string samples;
    for (int i = 0; i < warmup + repeats; ++i) {
        CHECK(cudaEventRecord(start));
        column_sums<<<(n + 32 * WARPS - 1) / (32 * WARPS), 32 * WARPS>>>(dev_in, dev_out, n);
        CHECK(cudaGetLastError());
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        float ms = 0;
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (i >= warmup) samples += (samples.empty() ? "" : ", ") + std::to_string(ms * 1e3);
    }
    CHECK(cudaMemcpy(out.data(), dev_out, n * sizeof(float), cudaMemcpyDeviceToHost));
    double worst = 0;
    for (int i = 0; i < n; ++i) {
        double expected = 0;
        for (int round = 0; round < ROUNDS; ++round) expected += double(in[i]) + round % STRIDE;
        double error = std::fabs(out[i] - expected);
        worst = error <= worst ? worst : error;
    }
    bool correct = worst == 0;
    std::printf("{\"kernel\": \"column_sums\", \"variant\": \"stride %d padding %d\", \"n\": %d, \"block\": %d, "
                "\"samples_us\": [%s], \"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, \"correct\": %s}\n",
                STRIDE, PADDING, n, 32 * WARPS, samples.c_str(), 8.0 * n, double(ROUNDS) * n, worst,
                correct ? "true" : "false");
    CHECK(cudaFree(dev_in));
    CHECK(cudaFree(dev_out));
    return correct ? 0 : 1;
}
