// my_relu_plugin.cu: the plugin's kernels and their launchers (declared once more in my_relu_plugin.h, which needs
// TensorRT's headers; this file does not).
//
//   nvcc -arch=sm_90 -O3 -DSELF_TEST my_relu_plugin.cu -o self_test
//   ./self_test --kind mish --cached 1 --n 1000003
//
// NaN stays NaN, as in torch: fmaxf(x, 0) would make it 0.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace infra90 {

constexpr int kBlock = 256, kMostBlocks = 4096;
constexpr int kCells = 1 << 14;  // over [-kLimit, kLimit]: linear interpolation is right to 1e-6
constexpr float kLimit = 16.0f, kStep = 2.0f * kLimit / kCells;

__device__ __forceinline__ float activated(int32_t kind, float x) {
    if (kind == 0) return x < 0.0f ? 0.0f : x;
    if (kind == 1) return x / (1.0f + expf(-x));
    return x * tanhf(fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))));  // softplus without overflow
}

__global__ void activation(int32_t kind, const float* in, float* out, size_t n) {
    size_t step = size_t(gridDim.x) * blockDim.x;
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n + 64; i += step) out[i] = activated(kind, in[i]);
}

__global__ void fill_table(int32_t kind, float* table) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i <= kCells) table[i] = activated(kind, -kLimit + i * kStep);
}

__global__ void from_table(int32_t kind, const float* table, const float* in, float* out, size_t n) {
    size_t step = size_t(gridDim.x) * blockDim.x;
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
        float x = in[i];
        if (!(fabsf(x) < kLimit)) {  // beyond the table, and NaN
            out[i] = activated(kind, x);
            continue;
        }
        float at = (x + kLimit) / kStep;
        int cell = min(int(at), kCells - 1);
        float low = table[cell];
        out[i] = low + (at - cell) * (table[cell + 1] - low);
    }
}

static unsigned blocks_for(size_t n) {
    size_t blocks = (n + kBlock - 1) / kBlock;
    return unsigned(blocks < kMostBlocks ? blocks : kMostBlocks);
}

cudaError_t launch_activation(int32_t kind, const float* in, float* out, size_t n, cudaStream_t stream) {
    if (n == 0) return cudaSuccess;  // a grid of no blocks is an error
    activation<<<blocks_for(n), kBlock, 0, stream>>>(kind, in, out, n);
    return cudaGetLastError();
}

cudaError_t launch_fill_table(int32_t kind, float* table, cudaStream_t stream) {
    fill_table<<<blocks_for(kCells + 1), kBlock, 0, stream>>>(kind, table);
    return cudaGetLastError();
}

cudaError_t launch_from_table(int32_t kind, const float* table, const float* in, float* out, size_t n, cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    from_table<<<blocks_for(n), kBlock, 0, stream>>>(kind, table, in, out, n);
    return cudaGetLastError();
}

size_t activation_table_bytes() { return (kCells + 1) * sizeof(float); }

}  // namespace infra90

#ifdef SELF_TEST
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
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

static double exact(int kind, double x) {
    if (kind == 0) return x < 0 ? 0 : x;
    if (kind == 1) return x / (1 + std::exp(-x));
    return x * std::tanh(std::fmax(x, 0.0) + std::log1p(std::exp(-std::fabs(x))));
}

int main(int argc, char** argv) {
    std::map<std::string, std::string> options{{"--kind", "mish"}, {"--cached", "0"},  {"--n", "1000003"},
                                               {"--nan", "0"},     {"--repeats", "20"}, {"--warmup", "3"}};
    for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
    const std::map<std::string, int> kinds{{"relu", 0}, {"swish", 1}, {"mish", 2}};
    if (!kinds.count(options["--kind"])) return std::fprintf(stderr, "--kind is relu, swish or mish\n"), 1;
    const int kind = kinds.at(options["--kind"]);
    const bool cached = options["--cached"] == "1", with_nan = options["--nan"] == "1";
    const size_t n = std::stoull(options["--n"]);
    const int repeats = std::stoi(options["--repeats"]), warmup = std::stoi(options["--warmup"]);

    std::mt19937 random(90);
    std::uniform_real_distribution<float> values(-8, 8);
    std::vector<float> in(n), out(n + 1, -77.0f);  // one more: nothing may be written behind the end
    for (float& x : in) x = values(random);
    if (n > 4) in[1] = -100.0f, in[2] = 100.0f, in[3] = 0.0f;
    if (with_nan && n) in[n - 1] = std::numeric_limits<float>::quiet_NaN();

    float *gpu_in, *gpu_out, *table;
    CHECK(cudaMalloc(&gpu_in, (n + 1) * sizeof(float)));
    CHECK(cudaMalloc(&gpu_out, (n + 1) * sizeof(float)));
    CHECK(cudaMalloc(&table, infra90::activation_table_bytes()));
    CHECK(cudaMemcpy(gpu_in, in.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(gpu_out, out.data(), (n + 1) * sizeof(float), cudaMemcpyHostToDevice));
    if (cached) CHECK(infra90::launch_fill_table(kind, table, nullptr));
    auto launch = [&] {
        if (cached) CHECK(infra90::launch_from_table(kind, table, gpu_in, gpu_out, n, nullptr));
        else CHECK(infra90::launch_activation(kind, gpu_in, gpu_out, n, nullptr));
    };
    cudaEvent_t begin, end;
    CHECK(cudaEventCreate(&begin));
    CHECK(cudaEventCreate(&end));
    for (int i = 0; i < warmup; ++i) launch();
    std::string samples;
    for (int i = 0; i < repeats; ++i) {
        float ms = 0;
        CHECK(cudaEventRecord(begin));
        launch();
        CHECK(cudaEventRecord(end));
        CHECK(cudaEventSynchronize(end));
        CHECK(cudaEventElapsedTime(&ms, begin, end));
        samples += (i ? ", " : "") + std::to_string(ms * 1000);
    }
    CHECK(cudaMemcpy(out.data(), gpu_out, (n + 1) * sizeof(float), cudaMemcpyDeviceToHost));
    double worst = 0, relative = 0;
    bool correct = out[n] == -77.0f;
    for (size_t i = 0; i < n; ++i) {
        if (std::isnan(in[i]) || std::isnan(out[i])) {
            correct = correct && std::isnan(in[i]) && std::isnan(out[i]);
            continue;
        }
        double right = exact(kind, in[i]), error = std::fabs(out[i] - right);
        worst = std::fmax(worst, error);
        relative = std::fmax(relative, error / std::fmax(1.0, std::fabs(right)));
    }
    correct = correct && worst <= 1e-5;
    std::printf("{\"kernel\": \"%s\", \"variant\": \"%s\", \"n\": %zu, \"block\": %d, \"samples_us\": [%s], "
                "\"bytes\": %zu, \"flops\": 0, \"max_abs_error\": %g, \"max_rel_error\": %g, \"correct\": %s}\n",
                cached ? "from_table" : "activation", options["--kind"].c_str(), n, infra90::kBlock, samples.c_str(),
                2 * n * sizeof(float), worst, relative, correct ? "true" : "false");
    for (void* memory : {(void*)gpu_in, (void*)gpu_out, (void*)table}) CHECK(cudaFree(memory));
    return correct ? 0 : 1;
}
#endif
