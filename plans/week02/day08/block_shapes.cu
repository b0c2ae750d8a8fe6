// block_shapes.cu: the same work on a two-dimensional array, with one-dimensional and with two-dimensional blocks.
//
//   nvcc -arch=sm_90 -O3 block_shapes.cu -o block_shapes
//   ./block_shapes --block 2d --width 4095 --height 4096
//
// The rows are as wide as they are: a width that is no multiple of 8 floats lets rows begin inside a 32-byte sector.
// 1d: a warp's 32 floats follow each other across the ends of rows, always aligned.
// 2d: a warp's 32 floats lie in one row, from its beginning on: when that is inside a sector, the warp touches one more.
// (cudaMallocPitch pads the rows and cures that.)
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

__global__ void scale_1d(const float* in, float* out, int width, int height) {
    size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= size_t(width) * height) return;
    int row = int(i / width);  // a division to find out where one is
    float weight = 1.0f + float(row % 4);
    out[i] = weight * in[i];
}

__global__ void scale_2d(const float* in, float* out, int width, int height) {
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    if (col >= width || row >= height) return;
    float weight = 1.0f + float(row % 4);
    out[size_t(row) * width + col] = weight * in[size_t(row) * width + col];
}

static void launch(bool flat, const float* in, float* out, int width, int height) {
    if (flat) {
        size_t n = size_t(width) * height;
        scale_1d<<<unsigned((n + 255) / 256), 256>>>(in, out, width, height);
    } else {
        dim3 block(32, 8), grid((width + 31) / 32, (height + 7) / 8);
        scale_2d<<<grid, block>>>(in, out, width, height);
    }
    CHECK(cudaGetLastError());
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

int main(int argc, char** argv) {
    std::string shape = option(argc, argv, "--block", "1d");
    int width = std::atoi(option(argc, argv, "--width", "4095")), height = std::atoi(option(argc, argv, "--height", "4096"));
    int repeats = std::atoi(option(argc, argv, "--repeats", "20")), warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    size_t n = size_t(width) * height;
    std::mt19937 engine(8);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    std::vector<float> in(n), out(n);
    for (float& value : in) value = uniform(engine);
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
        launch(shape == "1d", dev_in, dev_out, width, height);
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        float ms = 0;
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (i >= warmup) samples += (samples.empty() ? "" : ", ") + std::to_string(ms * 1e3);
    }
    CHECK(cudaMemcpy(out.data(), dev_out, n * sizeof(float), cudaMemcpyDeviceToHost));
    double worst = 0;
    for (size_t i = 0; i < n; ++i) {
        double error = std::fabs(out[i] - (1.0f + float(i / width % 4)) * in[i]);
        worst = error <= worst ? worst : error;
    }
    bool correct = worst == 0;
    std::printf("{\"kernel\": \"scale_%s\", \"variant\": \"%s\", \"n\": %zu, \"block\": 256, \"samples_us\": [%s], "
                "\"bytes\": %.0f, \"flops\": %.0f, \"max_abs_error\": %.3g, \"correct\": %s}\n",
                shape.c_str(), shape.c_str(), n, samples.c_str(), 8.0 * n, double(n), worst, correct ? "true" : "false");
    CHECK(cudaFree(dev_in));
    CHECK(cudaFree(dev_out));
    return correct ? 0 : 1;
}
