// two_streams.cu: copy in, compute, copy out, in pieces: one after the other, or on two streams.
//
//   nvcc -arch=sm_90 -O3 two_streams.cu -o two_streams
//   ./two_streams --streams 2 --host pinned
//
// cudaMemcpyAsync only returns at once, and only overlaps, when the host memory is pinned (cudaMallocHost): the copy
// engine cannot follow a page that the system may move. From pageable memory the driver stages the copy itself.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

constexpr int PIECES = 8;

#define CHECK(call)                                                                                       \
    do {                                                                                                  \
        cudaError_t status = (call);                                                                      \
        if (status != cudaSuccess) {                                                                      \
            std::fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(status)); \
            std::exit(1);                                                                                 \
        }                                                                                                 \
    } while (0)

// Enough arithmetic that a piece takes about as long to compute as to copy.
__global__ void churn(float* values, int n, int rounds) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float value = values[i];
    for (int k = 0; k < rounds; ++k) value = value * 0.5f + 1.0f;  // goes to 2
    values[i] = value;
}

struct Work { float *host, *device; int n, rounds; };

static void issue(Work work, const std::vector<cudaStream_t>& streams, bool copy, bool compute) {
    int piece = work.n / PIECES;
    for (int p = 0; p < PIECES; ++p) {
        cudaStream_t stream = streams[p % streams.size()];
        float *host = work.host + size_t(p) * piece, *device = work.device + size_t(p) * piece;
        if (copy) CHECK(cudaMemcpyAsync(device, host, piece * sizeof(float), cudaMemcpyHostToDevice, stream));
        if (compute) {
            churn<<<(piece + 255) / 256, 256, 0, stream>>>(device, piece, work.rounds);
            CHECK(cudaGetLastError());
        }
        if (copy) CHECK(cudaMemcpyAsync(host, device, piece * sizeof(float), cudaMemcpyDeviceToHost, stream));
    }
}

// Microseconds of the host's clock: with pageable memory part of the work happens there, unseen by events.
static std::vector<double> timed(Work work, const std::vector<cudaStream_t>& streams, bool copy, bool compute, int repeats) {
    std::vector<double> samples;
    for (int i = 0; i < repeats + 2; ++i) {
        CHECK(cudaDeviceSynchronize());
        auto began = std::chrono::steady_clock::now();
        issue(work, streams, copy, compute);
        CHECK(cudaDeviceSynchronize());
        std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
        if (i >= 2) samples.push_back(took.count());
    }
    return samples;
}

static double median(std::vector<double> samples) {
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

int main(int argc, char** argv) {
    bool pinned = std::string(option(argc, argv, "--host", "pinned")) == "pinned";
    int count = std::atoi(option(argc, argv, "--streams", "2")), repeats = std::atoi(option(argc, argv, "--repeats", "20"));
    int n = std::atoi(option(argc, argv, "--n", "67108864")) / PIECES * PIECES;
    Work work{nullptr, nullptr, n, std::atoi(option(argc, argv, "--rounds", "4096"))};
    std::vector<float> pageable(pinned ? 0 : n);
    if (pinned) CHECK(cudaMallocHost(&work.host, n * sizeof(float)));
    else work.host = pageable.data();
    CHECK(cudaMalloc(&work.device, n * sizeof(float)));
    std::vector<cudaStream_t> one(1), streams(count);
    CHECK(cudaStreamCreate(&one[0]));
    for (auto& stream : streams) CHECK(cudaStreamCreate(&stream));

    for (int i = 0; i < n; ++i) work.host[i] = float(i % 1000);
    double copying = median(timed(work, one, true, false, repeats)), computing = median(timed(work, one, false, true, repeats));
    for (int i = 0; i < n; ++i) work.host[i] = float(i % 1000);
    std::vector<double> total = timed(work, streams, true, true, repeats);
    double worst = 0;
    for (int i = 0; i < n; ++i) {
        double error = std::fabs(work.host[i] - 2.0);  // every value goes to 2
        worst = error <= worst ? worst : error;
    }
    bool correct = worst < 1e-6;
    double hidden = (copying + computing - median(total)) / std::min(copying, computing) * 100;
    std::string samples;
    for (double sample : total) samples += (samples.empty() ? "" : ", ") + std::to_string(sample);
    std::printf("{\"kernel\": \"churn\", \"variant\": \"%d streams, %s\", \"n\": %d, \"block\": 256, \"samples_us\": [%s], "
                "\"bytes\": %.0f, \"flops\": %.0f, \"copy_us\": %.1f, \"compute_us\": %.1f, \"overlap_pct\": %.2f, "
                "\"max_abs_error\": %.3g, \"correct\": %s}\n",
                count, pinned ? "pinned" : "pageable", n, samples.c_str(), 8.0 * n, 2.0 * work.rounds * n, copying,
                computing, std::min(100.0, std::max(0.0, hidden)), worst, correct ? "true" : "false");
    if (pinned) CHECK(cudaFreeHost(work.host));
    CHECK(cudaFree(work.device));
    return correct ? 0 : 1;
}
