#include <cuda_runtime.h>

#include <cstdio>
#include <vector>

__global__ void scale_rows(const float* from, float* to, int n) {
    int row = blockIdx.x * 32 + threadIdx.x, col = blockIdx.y * 8 + threadIdx.y;
    if (row < n && col < n) to[row * n + col] = 2.0f * from[row * n + col];
}

int main() {
    const int n = 64;
    std::vector<float> values(n * n, 3.0f);
    float *from, *to;
    cudaMalloc(&from, values.size() * sizeof(float));
    cudaMalloc(&to, values.size() * sizeof(float));
    cudaMemcpy(from, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice);
    scale_rows<<<dim3(n / 32, n / 8), dim3(32, 8)>>>(from, to, n);
    cudaMemcpy(values.data(), to, values.size() * sizeof(float), cudaMemcpyDeviceToHost);
    bool correct = true;
    for (float value : values) correct = correct && value == 6.0f;
    std::printf("{\"kernel\": \"scale_rows\", \"correct\": %s}\n", correct ? "true" : "false");
    return !correct;
}
