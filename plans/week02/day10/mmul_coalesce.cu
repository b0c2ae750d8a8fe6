// mmul_coalesce.cu: C = A B, one thread per element of C, with the lanes of a warp along a ROW of C.
//
//   nvcc -arch=sm_90 -O3 mmul_coalesce.cu -o mmul_coalesce
//   ./mmul_coalesce --n 1024 --repeats 20          (--m, --k for rectangles; no size needs to fit the block)
//
// threadIdx.x walks along the COLUMNS. In each step of the loop all 32 lanes read the same element of A (1 sector, a
// broadcast) and 32 neighbours of B (4 sectors of 32 bytes): 5 sectors where mmul_naive.cu touches 33. Nothing else
// differs: the same arithmetic, the same registers, the same number of instructions.
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

__global__ void mmul_coalesce(const float* a, const float* b, float* c, Shape s) {
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= s.m || col >= s.n) return;  // the last blocks hang over the edge
    float sum = 0.0f;
    for (int i = 0; i < s.k; ++i) sum += a[size_t(row) * s.k + i] * b[size_t(i) * s.n + col];
    c[size_t(row) * s.n + col] = sum;
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

    dim3 block(32, 8), grid((s.n + block.x - 1) / block.x, (s.m + block.y - 1) / block.y);
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::string samples;
    for (int i = 0; i < warmup + repeats; ++i) {
        CHECK(cudaEventRecord(start));
        mmul_coalesce<<<grid, block>>>(dev_a, dev_b, dev_c, s);
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
    std::printf("{\"kernel\": \"mmul_coalesce\", \"variant\": \"coalesced\", \"m\": %d, \"n\": %d, \"k\": %d, \"block\": %d, "
                "\"samples_us\": [%s], \"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, "
                "\"max_rel_error\": %.3g, \"correct\": %s}\n",
                s.m, s.n, s.k, int(block.x * block.y), samples.c_str(),
                4.0 * (double(s.m) * s.k + double(s.k) * s.n + double(s.m) * s.n), 2.0 * s.m * s.n * s.k, worst.absolute,
                worst.relative, correct ? "true" : "false");
    CHECK(cudaFree(dev_a));
    CHECK(cudaFree(dev_b));
    CHECK(cudaFree(dev_c));
    return correct ? 0 : 1;
}
