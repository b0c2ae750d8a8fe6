// unified_memory.cu: managed memory as large as a share of the GPU's own, or larger; how fast can a kernel pass over it?
//
//   nvcc -arch=sm_90 -O3 unified_memory.cu -o unified_memory
//   ./unified_memory --footprint 0.5 --passes 3
//
// The host writes every page first, so the first pass (not timed) brings them to the GPU. What fits stays there. What
// does not fit is evicted by the pages that follow it, and has to come back in the next pass: thrashing.
// DANGER: a footprint above 1 can hang a GPU, for everybody on it. Only on a GPU of your own.
#include <unistd.h>

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
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

__global__ void increment(unsigned* values, size_t n) {
    size_t step = size_t(gridDim.x) * blockDim.x;
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) values[i] += 1;
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

int main(int argc, char** argv) {
    double footprint = std::atof(option(argc, argv, "--footprint", "0.25"));
    int passes = std::atoi(option(argc, argv, "--passes", "3"));
    size_t free_bytes = 0, total = 0;
    CHECK(cudaMemGetInfo(&free_bytes, &total));
    size_t bytes = size_t(footprint * double(total)) / 4096 * 4096, n = bytes / sizeof(unsigned);
    size_t host = size_t(sysconf(_SC_AVPHYS_PAGES)) * size_t(sysconf(_SC_PAGESIZE));
    if (bytes > host / 10 * 9) {
        std::fprintf(stderr, "%.0f GB do not fit into the host's free memory (%.0f GB)\n", bytes / 1e9, host / 1e9);
        return 1;
    }
    unsigned* values = nullptr;
    CHECK(cudaMallocManaged(&values, bytes));
    for (size_t i = 0; i < n; i += 1024) values[i] = unsigned(i);  // one word of each 4 KiB page
    int processors = 0;
    CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::string samples;
    for (int pass = 0; pass <= passes; ++pass) {
        CHECK(cudaEventRecord(start));
        increment<<<processors * 8, 256>>>(values, n);
        CHECK(cudaGetLastError());
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        float ms = 0;
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (pass > 0) samples += (samples.empty() ? "" : ", ") + std::to_string(ms * 1e3);
    }
    bool correct = true;
    for (size_t i = 0; i < n; i += size_t(1) << 24) correct = correct && values[i] == unsigned(i) + passes + 1;
    std::printf("{\"kernel\": \"increment\", \"variant\": \"managed\", \"n\": %zu, \"block\": 256, \"samples_us\": [%s], "
                "\"bytes\": %.0f, \"flops\": 0, \"footprint_of_vram\": %.3f, \"max_abs_error\": 0, \"correct\": %s}\n",
                n, samples.c_str(), 2.0 * bytes, footprint, correct ? "true" : "false");
    CHECK(cudaFree(values));
    return correct ? 0 : 1;
}
