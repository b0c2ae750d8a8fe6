// Included before a .cu file that g++ compiles: CUDA's own headers, and what nvcc would have added.
// A thread is a fiber; blocks run one after another. See cuda_cpu.cpp for what is checked on the way.
#pragma once
#include <cuda_runtime.h>

#include <cmath>
#include <cstring>
#include <type_traits>

#undef __shared__
#define __shared__ static  // one block at a time: a static is shared by exactly its threads
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __constant__
#define __constant__ static

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_cpu {
void barrier();                        // __syncthreads
void warp_barrier(unsigned mask);      // __syncwarp
unsigned long long* slots(unsigned mask, unsigned long long mine);  // each lane's value, once the mask's lanes have arrived
unsigned live_lanes();
void* dynamic_shared();
void copy_later(void* to, const void* from, size_t size, size_t zeros = 0);
void commit_copies();
void wait_copies(size_t pending);
int lane();
void run(const char* kernel, dim3 grid, dim3 block, size_t shared, void (*body)(void*), void* arguments);

template <class Body>
struct Launch {
    const char* kernel;
    dim3 grid, block;
    size_t shared;
    Body body;
    template <class... Args>
    void operator()(Args... args) const {
        auto call = [&] { body(args...); };
        run(kernel, grid, block, shared, [](void* at) { (*static_cast<decltype(call)*>(at))(); }, &call);
    }
};
struct Launcher {
    const char* kernel;
    dim3 grid, block;
    size_t shared = 0;
    cudaStream_t stream = nullptr;
    template <class Body>
    Launch<Body> operator()(Body body) const {
        return {kernel, grid, block, shared, body};
    }
};

template <class T>
T exchange(unsigned mask, T value, int source, bool valid) {
    static_assert(sizeof(T) <= 8);
    unsigned long long mine = 0;
    std::memcpy(&mine, &value, sizeof(T));
    unsigned long long* all = slots(mask, mine);
    T result = value;
    if (valid) std::memcpy(&result, &all[source], sizeof(T));
    return result;
}
}  // namespace cuda_cpu

// Macros and not functions: the place of the call is what tells one barrier from another.
#define __syncthreads() cuda_cpu::barrier()
inline void __syncwarp(unsigned mask = 0xffffffffu) { cuda_cpu::warp_barrier(mask); }
inline unsigned __activemask() { return cuda_cpu::live_lanes(); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = cuda_cpu::lane(), source = lane + int(delta);
    return cuda_cpu::exchange(mask, value, source & 31, lane % width + int(delta) < width);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    int lane = cuda_cpu::lane();
    return cuda_cpu::exchange(mask, value, (lane - int(delta)) & 31, lane % width >= int(delta));
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    int lane = cuda_cpu::lane(), source = lane ^ bits;
    return cuda_cpu::exchange(mask, value, source & 31, source / width <= lane / width);
}
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    int lane = cuda_cpu::lane();
    return cuda_cpu::exchange(mask, value, lane / width * width + source % width, true);
}
inline unsigned __ballot_sync(unsigned mask, int vote) {
    unsigned long long* all = cuda_cpu::slots(mask, vote != 0);
    unsigned result = 0;
    for (int i = 0; i < 32; ++i)
        if ((mask & cuda_cpu::live_lanes()) >> i & 1) result |= unsigned(all[i] & 1) << i;
    return result;
}
inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, !vote) == 0; }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(unsigned(bits)) : 32; }

// Fibers change only at barriers and collectives, so a plain update is atomic.
#define CUDA_CPU_QUIET __attribute__((no_sanitize("kernel-address")))
#define CUDA_CPU_ATOMIC(name, expression)                                             \
    template <class T> CUDA_CPU_QUIET T name(T* at, std::type_identity_t<T> value) {                \
        T old = *at;                                                                  \
        *at = (expression);                                                           \
        return old;                                                                   \
    }
CUDA_CPU_ATOMIC(atomicAdd, old + value)
CUDA_CPU_ATOMIC(atomicSub, old - value)
CUDA_CPU_ATOMIC(atomicMax, old < value ? value : old)
CUDA_CPU_ATOMIC(atomicMin, value < old ? value : old)
CUDA_CPU_ATOMIC(atomicExch, value)
CUDA_CPU_ATOMIC(atomicOr, old | value)
CUDA_CPU_ATOMIC(atomicAnd, old & value)
CUDA_CPU_ATOMIC(atomicInc, old >= value ? T(0) : T(old + 1))
template <class T> CUDA_CPU_QUIET T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
    T old = *at;
    if (old == expected) *at = value;
    return old;
}

template <class A, class B> constexpr std::common_type_t<A, B> min(A a, B b) { return b < a ? b : a; }
template <class A, class B> constexpr std::common_type_t<A, B> max(A a, B b) { return a < b ? b : a; }
template <class T> T __ldg(const T* at) { return *at; }
template <class T> T __ldcs(const T* at) { return *at; }
template <class T> void __stcs(T* at, T value) { *at = value; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline long long clock64() { return 0; }
