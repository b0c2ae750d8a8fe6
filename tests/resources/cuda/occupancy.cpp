// Blocks per multiprocessor by NVIDIA's own cuda_occupancy.h: one line for each line of stdin.
#include <cstdio>
#include "cuda_occupancy.h"

int main() {
    int major, minor, threads_per_sm, shared_per_sm, shared_optin, registers, block;
    size_t smem;
    while (std::scanf("%d %d %d %d %d %d %zu %d", &major, &minor, &threads_per_sm, &shared_per_sm, &shared_optin, &registers, &smem, &block) == 8) {
        cudaOccDeviceProp device;
        device.computeMajor = major, device.computeMinor = minor, device.maxThreadsPerBlock = 1024;
        device.maxThreadsPerMultiprocessor = threads_per_sm, device.regsPerBlock = device.regsPerMultiprocessor = 65536;
        device.warpSize = 32, device.sharedMemPerBlock = 48 * 1024, device.sharedMemPerMultiprocessor = shared_per_sm;
        device.numSms = 1, device.sharedMemPerBlockOptin = shared_optin, device.reservedSharedMemPerBlock = 1024;
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = 1024, kernel.numRegs = registers, kernel.sharedSizeBytes = smem;
        kernel.partitionedGCConfig = PARTITIONED_GC_OFF, kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = shared_optin, kernel.numBlockBarriers = 1;
        cudaOccDeviceState state;
        state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
        cudaOccResult result;
        cudaOccError error = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, block, 0);
        std::printf("%d\n", error ? -1 : result.activeBlocksPerMultiprocessor);
    }
}
