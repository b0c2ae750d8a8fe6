// cp.async as the CPU can show it: the copy happens only when it is waited for, which is as late as CUDA allows.
#pragma once
#define __pipeline_memcpy_async cuda_cpu::copy_later  // a macro: its accesses belong to the line of the call
inline void __pipeline_commit() { cuda_cpu::commit_copies(); }
inline void __pipeline_wait_prior(size_t pending) { cuda_cpu::wait_copies(pending); }
