// layouts.cu: the same sum over particles stored as an array of structures (AoS) and as a structure of arrays (SoA).
//
//   nvcc -arch=sm_90 -O3 layouts.cu -o layouts
//   ./layouts --variant aos|soa --n 4194304 --repeats 20
//
// A record is 32 bytes, exactly one sector: as AoS the 32 lanes of a warp that ask for one field touch 32 sectors and use
// 4 bytes of each; as SoA the same 32 values lie in 4 sectors.
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

struct Particle { float x, y, z, mass, vx, vy, vz, charge; };
struct Particles { const float *mass, *vx, *vy, *vz; };  // the fields that this kernel needs

__global__ void energy_aos(const Particle* particles, float* energy, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float vx = particles[i].vx, vy = particles[i].vy, vz = particles[i].vz;
    energy[i] = 0.5f * particles[i].mass * (vx * vx + vy * vy + vz * vz);
}

__global__ void energy_soa(Particles particles, float* energy, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float vx = particles.vx[i], vy = particles.vy[i], vz = particles.vz[i];
    energy[i] = 0.5f * particles.mass[i] * (vx * vx + vy * vy + vz * vz);
}

static const char* option(int argc, char** argv, const char* name, const char* otherwise) {
    for (int i = 1; i + 1 < argc; i += 2)
        if (!std::strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}

// Microseconds of `repeats` launches, each between its own pair of events, after `warmup` launches that do not count.
template <class Launch>
static std::string timed(int warmup, int repeats, Launch launch) {
    cudaEvent_t start, stop;
    CHECK(cudaEventCreate(&start));
    CHECK(cudaEventCreate(&stop));
    std::string samples;
    for (int i = 0; i < warmup + repeats; ++i) {
        CHECK(cudaEventRecord(start));
        launch();
        CHECK(cudaGetLastError());
        CHECK(cudaEventRecord(stop));
        CHECK(cudaEventSynchronize(stop));
        float ms = 0;
        CHECK(cudaEventElapsedTime(&ms, start, stop));
        if (i >= warmup) samples += (samples.empty() ? "" : ", ") + std::to_string(ms * 1e3);
    }
    CHECK(cudaEventDestroy(start));
    CHECK(cudaEventDestroy(stop));
    return samples;
}

int main(int argc, char** argv) {
    std::string variant = option(argc, argv, "--variant", "aos");
    int n = std::atoi(option(argc, argv, "--n", "4194304")), block = std::atoi(option(argc, argv, "--block", "256"));
    int repeats = std::atoi(option(argc, argv, "--repeats", "20")), warmup = std::atoi(option(argc, argv, "--warmup", "3"));
    std::mt19937 engine(1);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    std::vector<Particle> host(n);
    std::vector<float> fields(size_t(n) * 4), energy(n);
    for (int i = 0; i < n; ++i) {
        Particle& p = host[i];
        for (float* field : {&p.x, &p.y, &p.z, &p.mass, &p.vx, &p.vy, &p.vz, &p.charge}) *field = uniform(engine);
        fields[i] = p.mass, fields[size_t(n) + i] = p.vx, fields[2 * size_t(n) + i] = p.vy, fields[3 * size_t(n) + i] = p.vz;
    }
    Particle* records;
    float *planes, *dev_energy;
    CHECK(cudaMalloc(&records, n * sizeof(Particle)));
    CHECK(cudaMalloc(&planes, fields.size() * sizeof(float)));
    CHECK(cudaMalloc(&dev_energy, n * sizeof(float)));
    CHECK(cudaMemcpy(records, host.data(), n * sizeof(Particle), cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(planes, fields.data(), fields.size() * sizeof(float), cudaMemcpyHostToDevice));
    CHECK(cudaMemset(dev_energy, 0xff, n * sizeof(float)));  // NaN: an element that is never written shows
    Particles soa{planes, planes + n, planes + 2 * size_t(n), planes + 3 * size_t(n)};
    int grid = (n + block - 1) / block;
    std::string samples = timed(warmup, repeats, [&] {
        if (variant == "soa")
            energy_soa<<<grid, block>>>(soa, dev_energy, n);
        else
            energy_aos<<<grid, block>>>(records, dev_energy, n);
    });
    CHECK(cudaMemcpy(energy.data(), dev_energy, n * sizeof(float), cudaMemcpyDeviceToHost));
    double worst = 0, relative = 0;
    for (int i = 0; i < n; ++i) {
        const Particle& p = host[i];
        double expected = 0.5 * p.mass * (double(p.vx) * p.vx + double(p.vy) * p.vy + double(p.vz) * p.vz);
        double error = std::fabs(energy[i] - expected), scale = std::fabs(expected) + 1e-30;
        worst = error <= worst ? worst : error;
        relative = error / scale <= relative ? relative : error / scale;
    }
    bool correct = relative <= 1e-5;
    std::printf("{\"kernel\": \"energy_%s\", \"variant\": \"%s\", \"n\": %d, \"block\": %d, \"samples_us\": [%s], \"bytes\": %.0f, "
                "\"flops\": %.0f, \"max_abs_error\": %.3g, \"max_rel_error\": %.3g, \"correct\": %s}\n",
                variant.c_str(), variant.c_str(), n, block, samples.c_str(), 20.0 * n, 7.0 * n, worst, relative, correct ? "true" : "false");
    CHECK(cudaFree(records));
    CHECK(cudaFree(planes));
    CHECK(cudaFree(dev_energy));
    return correct ? 0 : 1;
}
