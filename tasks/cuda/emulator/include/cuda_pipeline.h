// cp.async as the CPU can show it: the copy happens only when it is waited for, which is as late as CUDA allows.
#pragma once
inline __attribute__((always_inline)) void __pipeline_memcpy_async(void* to, const void* from, size_t size, size_t zeros = 0) {
    cuda_cpu::copy_later(to, from, size, zeros);
}
inline void __pipeline_commit() { cuda_cpu::commit_copies(); }
inline void __pipeline_wait_prior(size_t pending) { cuda_cpu::wait_copies(pending); }
