// A vector addition that checks itself, as short as the contract allows.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define CHECK(call)                                                                                       \
    do {                                                                                                  \
        cudaError_t status = (call);                                                                      \
        if (status != cudaSuccess) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status)); \
            std::exit(1);                                                                                 \
        }                                                                                                 \
    } while (0)

__global__ void add(const float* a, const float* b, float* c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) c[i] = a[i] + b[i];
}

int main(int argc, char** argv) {
    int n = argc > 2 && !std::strcmp(argv[1], "--n") ? std::atoi(argv[2]) : 1000;
    std::vector<float> a(n), b(n), c(n);
    for (int i = 0; i < n; ++i) a[i] = float(i), b[i] = float(3 * i + 1);
    float *dev_a, *dev_b, *dev_c;
    for (float** buffer : {&dev_a, &dev_b, &dev_c}) CHECK(cudaMalloc(buffer, n * sizeof(float)));
    CHECK(cudaMemcpy(dev_a, a.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(dev_b, b.data(), n * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemset(dev_c, 0xff, n * sizeof(float)));
    add<<<(n + 255) / 256, 256>>>(dev_a, dev_b, dev_c, n);
    CHECK(cudaGetLastError());
    CHECK(cudaMemcpy(c.data(), dev_c, n * sizeof(float), cudaMemcpyDeviceToHost));
    bool correct = true;
    for (int i = 0; i < n; ++i) correct = correct && c[i] == a[i] + b[i];
    std::printf("{\"kernel\": \"add\", \"n\": %d, \"correct\": %s}\n", n, correct ? "true" : "false");
    return correct ? 0 : 1;
}
