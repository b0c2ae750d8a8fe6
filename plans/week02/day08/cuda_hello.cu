// cuda_hello.cu: which thread of which block am I? One line of JSON for each thread of the launch.
//
//   nvcc -arch=sm_90 -O3 cuda_hello.cu -o cuda_hello
//   ./cuda_hello --blocks 2 --threads 4
//
// The kernel writes what it sees into memory, and the host prints it in order: device printf would do, but the blocks
// run in no particular order, and so would its lines come.
#include <cuda_runtime.h>

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

struct Seen { int block, thread, warp, index; };

__global__ void hello(Seen* seen, int count) {
    int index = blockIdx.x * blockDim.x + threadIdx.x;  // every thread's own number in the whole grid
    if (index >= count) return;
    seen[index] = Seen{int(blockIdx.x), int(threadIdx.x), int(threadIdx.x) / 32, index};
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

int main(int argc, char** argv) {
    int blocks = std::atoi(option(argc, argv, "--blocks", "2")), threads = std::atoi(option(argc, argv, "--threads", "4"));
    int count = blocks * threads;
    Seen* on_device = nullptr;
    CHECK(cudaMalloc(&on_device, count * sizeof(Seen)));
    CHECK(cudaMemset(on_device, 0xff, count * sizeof(Seen)));  // -1: a thread that never ran shows
    hello<<<blocks, threads>>>(on_device, count);
    CHECK(cudaGetLastError());       // was the launch itself refused?
    CHECK(cudaDeviceSynchronize());  // did anything go wrong while it ran?
    std::vector<Seen> seen(count);
    CHECK(cudaMemcpy(seen.data(), on_device, count * sizeof(Seen), cudaMemcpyDeviceToHost));
    CHECK(cudaFree(on_device));
    bool correct = true;
    for (int i = 0; i < count; ++i) {
        bool mine = seen[i].index == i && seen[i].block == i / threads && seen[i].thread == i % threads;
        correct = correct && mine;
        std::printf("{\"kernel\": \"hello\", \"block\": %d, \"thread\": %d, \"warp\": %d, \"index\": %d, \"correct\": %s}\n",
                    seen[i].block, seen[i].thread, seen[i].warp, seen[i].index, mine ? "true" : "false");
    }
    return correct ? 0 : 1;
}
