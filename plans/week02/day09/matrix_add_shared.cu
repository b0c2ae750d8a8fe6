// matrix_add_shared.cu: C = A + B for square matrices, each block's tiles staged in shared memory first.
//
//   nvcc -arch=sm_90 -O3 matrix_add_shared.cu -o matrix_add_shared
//   ./matrix_add_shared --n 4096 --repeats 20
//
// An addition uses each element once: there is nothing to reuse, so the detour through shared memory can only cost.
// It shows how a tile is loaded, waited for and used. The extra column (TILE + 1) keeps columns free of bank conflicts
// for kernels that read them, such as a transpose; here only rows are read and it changes nothing.
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

constexpr int TILE = 32, ROWS = 8;

__global__ void matrix_add_shared(const float* a, const float* b, float* c, int n) {
    __shared__ float tile_a[ROWS][TILE + 1], tile_b[ROWS][TILE + 1];
    int col = blockIdx.x * TILE + threadIdx.x;
    int row = blockIdx.y * ROWS + threadIdx.y;
    bool inside = row < n && col < n;
    size_t i = size_t(row) * n + col;
    tile_a[threadIdx.y][threadIdx.x] = inside ? a[i] : 0.0f;
    tile_b[threadIdx.y][threadIdx.x] = inside ? b[i] : 0.0f;
    __syncthreads();  // outside of any if: every thread of the block must come here
    if (inside) c[i] = tile_a[threadIdx.y][threadIdx.x] + tile_b[threadIdx.y][threadIdx.x];
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

int main(int argc, char** argv) {
    int n = std::atoi(option(argc, argv, "--n", "4096"));
    int repeats = std::atoi(option(argc, argv, "--repeats", "20")), warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    size_t size = size_t(n) * n;
    auto a = random_matrix(size, 1), b = random_matrix(size, 2);
    std::vector<float> c(size);
    float *dev_a, *dev_b, *dev_c;
    for (float** buffer : {&dev_a, &dev_b, &dev_c}) CHECK(cudaMalloc(buffer, size * sizeof(float)));
    CHECK(cudaMemcpy(dev_a, a.data(), size * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(dev_b, b.data(), size * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemset(dev_c, 0xff, size * sizeof(float)));  // NaN: an element that is never written shows

    dim3 block(TILE, ROWS), grid((n + block.x - 1) / block.x, (n + block.y - 1) / block.y);
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::string samples;
    for (int i = 0; i < warmup + repeats; ++i) {
        CHECK(cudaEventRecord(start));
        matrix_add_shared<<<grid, block>>>(dev_a, dev_b, dev_c, n);
        CHECK(cudaGetLastError());
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        float ms = 0;
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (i >= warmup) samples += (samples.empty() ? "" : ", ") + std::to_string(ms * 1e3);
    }
    CHECK(cudaMemcpy(c.data(), dev_c, size * sizeof(float), cudaMemcpyDeviceToHost));
    double worst = 0;  // one addition is rounded once, on the GPU as on the CPU: the same to the last bit
    for (size_t i = 0; i < size; ++i) {
        double error = std::fabs(double(c[i]) - double(a[i] + b[i]));
        worst = error <= worst ? worst : error;  // written so that NaN is the worst
    }
    bool correct = worst == 0;
    std::printf("{\"kernel\": \"matrix_add_shared\", \"variant\": \"shared\", \"n\": %d, \"block\": %d, \"samples_us\": [%s], "
                "\"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, \"correct\": %s}\n",
                n, int(block.x * block.y), samples.c_str(), 12.0 * size, double(size), worst, correct ? "true" : "false");
    for (float* buffer : {dev_a, dev_b, dev_c}) CHECK(cudaFree(buffer));
    return correct ? 0 : 1;
}
