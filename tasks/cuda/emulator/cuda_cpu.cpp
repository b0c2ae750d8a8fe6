// Runs CUDA kernels on the CPU, one block after another, each thread as a fiber, and watches every access:
//   - outside every allocation, or into host memory            (what compute-sanitizer's memcheck finds)
//   - shared memory touched by two threads with no barrier between, one of them writing   (racecheck)
//   - threads of a block that wait at different barriers       (synccheck)
// The first finding ends the program with code 97 and one line on stderr. With CUDA_CPU_TRACE=file it also writes, for
// each instruction that touches memory, the 32-byte sectors per warp request (global) or bank-conflict ways (shared).
// The compiler calls the __asan_* functions below for each access (g++ -fsanitize=kernel-address, which brings none).
#include "cuda_cpu.hpp"

#include <ucontext.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

extern "C" char __executable_start, __data_start, _end;

namespace {
using Address = uintptr_t;
enum class State { Ready, Barrier, Warp, Done };
struct Copy { void* to; const void* from; size_t size, zeros; };
struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    State state = State::Done;
    uint3 index{};
    void* waits_at = nullptr;
    unsigned mask = 0, warp_epoch = 0, collectives = 0;
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> committed;
};
struct Touch { int writer = -1, reader = -1; bool many = false; unsigned write_epoch = 0, read_epoch = 0, writer_warp = 0, reader_warp = 0; };
struct Site { bool shared, store; size_t size; long requests = 0, sectors = 0, useful = 0, ways = 0, worst = 0; };
using Requests = std::vector<std::vector<std::pair<int, Address>>>;

constexpr size_t kStack = 128 * 1024;
constexpr size_t kSharedLimit = 227 * 1024;
std::map<Address, size_t> allocations;
std::vector<Fiber> fibers;
std::vector<int> live;
std::vector<unsigned long long> exchange_slots;
std::vector<char> dynamic_memory(kSharedLimit);
std::vector<Touch> statics, dynamics;
using Instruction = std::pair<Address, bool>;  // and whether it is shared memory: an asynchronous copy touches both
std::map<std::pair<std::string, Instruction>, Site> sites;
std::map<Instruction, std::map<int, std::pair<Site, Requests>>> block_trace;  // instruction -> warp -> its requests
std::vector<std::map<Instruction, size_t>> seen;                           // thread -> instruction -> times executed
ucontext_t scheduler;
void (*kernel_body)(void*);
void* kernel_arguments;
const char* kernel_name = "";
int current = -1;
Address host_stack = 0;
unsigned epoch = 0;
bool tracing = false;
bool watching = true;  // not while this file works: it shares inline functions (std::string's) with the watched program
cudaError_t last_error = cudaSuccess;

[[noreturn]] void fault(const std::string& what, Address pc) {
    watching = false;
    const Fiber& f = fibers[size_t(std::max(current, 0))];
    std::fflush(stdout);
    std::fprintf(stderr, "CUDA_CPU_FAULT 0x%lx thread (%u,%u,%u) of block (%u,%u,%u) in %s: %s\n", pc, f.index.x, f.index.y,
                 f.index.z, blockIdx.x, blockIdx.y, blockIdx.z, kernel_name, what.c_str());
    std::_Exit(97);
}

void yield(State state) {
    Fiber& f = fibers[size_t(current)];
    f.state = state;
    swapcontext(&f.context, &scheduler);
}

void race(Touch& t, bool store, Address pc) {
    const Fiber& f = fibers[size_t(current)];
    auto ordered = [&](int other, unsigned warp_epoch) { return other == current || (other / 32 == current / 32 && warp_epoch < f.warp_epoch); };
    if (t.writer >= 0 && t.write_epoch == epoch && !ordered(t.writer, t.writer_warp))
        fault(std::string(store ? "writes" : "reads") + " shared memory that thread " + std::to_string(t.writer) +
                  " of the block wrote, with no barrier between", pc);
    if (store && t.reader >= 0 && t.read_epoch == epoch && (t.many || !ordered(t.reader, t.reader_warp)))
        fault("writes shared memory that another thread read, with no barrier between", pc);
    if (store) {
        t.writer = current, t.write_epoch = epoch, t.writer_warp = f.warp_epoch;
    } else {
        bool others = t.read_epoch == epoch && t.reader >= 0 && t.reader / 32 != current / 32;
        t.many = t.read_epoch == epoch ? (t.many || others) : false;
        t.reader = current, t.read_epoch = epoch, t.reader_warp = f.warp_epoch;
    }
}

void follow(Address address, size_t size, bool store, bool shared, Address pc) {
    Instruction instruction{pc, shared};
    auto& [site, requests] = block_trace[instruction][current / 32];
    site = {shared, store, size};
    size_t nth = seen[size_t(current)][instruction]++;
    if (requests.size() <= nth) requests.resize(nth + 1);
    requests[nth].push_back({current % 32, address});
}

void examine(Address address, size_t size, bool store, Address pc, bool counted) {
    Fiber& f = fibers[size_t(current)];
    Address stack = Address(f.stack.get());
    if (address >= stack && address < stack + kStack) return;
    if (address >= host_stack) return;  // where the launch keeps the kernel's arguments
    Address data = Address(&__data_start), end = Address(&_end), dynamic = Address(dynamic_memory.data());
    if (address >= data && address < end) {
        for (size_t i = 0; i < size; ++i) race(statics[address - data + i], store, pc);
        if (counted) follow(address, size, store, true, pc);
    } else if (address >= dynamic && address < dynamic + dynamic_memory.size()) {
        for (size_t i = 0; i < size; ++i) race(dynamics[address - dynamic + i], store, pc);
        if (counted) follow(address, size, store, true, pc);
    } else if (!(address >= Address(&__executable_start) && address < data && !store)) {
        auto after = allocations.upper_bound(address);
        std::string access = std::string(store ? "writes " : "reads ") + std::to_string(size) + " bytes ";
        if (after == allocations.begin()) fault(access + "of memory that is not the device's", pc);
        auto [base, length] = *std::prev(after);
        if (address + size > base + length) {
            if (address > base + length + (1 << 20)) fault(access + "of memory that is not the device's", pc);
            fault(access + "at " + std::to_string(address - base) + ", past the end of an allocation of " + std::to_string(length) + " bytes", pc);
        }
        if (address % size && size <= 16) fault(access + "at a misaligned address", pc);
        if (counted) follow(address, size, store, false, pc);
    }
}

void touch(Address address, size_t size, bool store, Address pc, bool counted = tracing) {
    if (current < 0 || !watching) return;  // host code
    watching = false;
    examine(address, size, store, pc, counted);
    watching = true;
}

// A request of 8 or 16 bytes per lane goes out for half or a quarter of the warp at a time.
long conflict_ways(const std::vector<std::pair<int, Address>>& lanes, size_t size) {
    long worst = 1;
    int group = size <= 4 ? 32 : size <= 8 ? 16 : 8;
    for (int first = 0; first < 32; first += group) {
        std::map<Address, std::set<Address>> banks;
        for (auto [lane, address] : lanes)
            if (lane >= first && lane < first + group)
                for (Address word = address / 4; word <= (address + size - 1) / 4; ++word) banks[word % 32].insert(word);
        for (auto& [bank, words] : banks) worst = std::max(worst, long(words.size()));
    }
    return worst;
}

void reduce_trace() {
    for (auto& [instruction, warps] : block_trace)
        for (auto& [warp, traced] : warps) {
            auto& [kind, requests] = traced;
            Site& site = sites.try_emplace({kernel_name, instruction}, kind).first->second;
            for (auto& lanes : requests) {
                ++site.requests;
                std::set<Address> sectors, bytes;
                for (auto [lane, address] : lanes) {
                    for (Address s = address / 32; s <= (address + kind.size - 1) / 32; ++s) sectors.insert(s);
                    for (Address b = address; b < address + kind.size; ++b) bytes.insert(b);
                }
                site.sectors += long(sectors.size());
                site.useful += long(bytes.size());
                long ways = kind.shared ? conflict_ways(lanes, kind.size) : 1;
                site.ways += ways;
                site.worst = std::max(site.worst, ways);
            }
        }
    block_trace.clear();
}

void enter() {
    kernel_body(kernel_arguments);
    fibers[size_t(current)].state = State::Done;
    swapcontext(&fibers[size_t(current)].context, &scheduler);
}

bool release_warps(size_t threads) {
    bool released = false;
    for (size_t first = 0; first < threads; first += 32) {
        for (size_t i = first; i < std::min(threads, first + 32); ++i) {
            if (fibers[i].state != State::Warp) continue;
            bool all = true;
            for (size_t j = first; j < std::min(threads, first + 32); ++j)
                if (fibers[i].mask >> (j - first) & 1 && fibers[j].state != State::Done)
                    all = all && fibers[j].state == State::Warp && fibers[j].mask == fibers[i].mask;
            if (!all) continue;
            unsigned mask = fibers[i].mask;
            for (size_t j = first; j < std::min(threads, first + 32); ++j)
                if (mask >> (j - first) & 1 && fibers[j].state == State::Warp) fibers[j].state = State::Ready;
            released = true;
        }
    }
    return released;
}

bool release_block(size_t threads) {
    void* place = nullptr;
    for (size_t i = 0; i < threads; ++i) {
        if (fibers[i].state == State::Warp) {
            current = int(i);
            fault("waits in a warp-wide call for lanes of its mask that never arrive", Address(fibers[i].waits_at));
        }
        if (fibers[i].state != State::Barrier) continue;
        if (place && place != fibers[i].waits_at) {
            current = int(i);
            fault("waits at another __syncthreads() than the rest of its block", Address(fibers[i].waits_at));
        }
        place = fibers[i].waits_at;
        fibers[i].state = State::Ready;
    }
    ++epoch;
    return place != nullptr;
}

void run_block(size_t threads) {
    ++epoch;
    seen.assign(tracing ? threads : 0, {});
    std::fill(dynamic_memory.begin(), dynamic_memory.end(), char(0xff));
    for (size_t i = 0; i < threads; ++i) {
        Fiber& f = fibers[i];
        if (!f.stack) f.stack.reset(new char[kStack]);
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get();
        f.context.uc_stack.ss_size = kStack;
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter, 0);
        f.index = {unsigned(i % blockDim.x), unsigned(i / blockDim.x % blockDim.y), unsigned(i / blockDim.x / blockDim.y)};
        f.warp_epoch = f.collectives = 0;
        f.state = State::Ready;
        f.open.clear();
        f.committed.clear();
    }
    do {
        for (bool any = true; any;) {
            for (size_t i = 0; i < threads; ++i)
                if (fibers[i].state == State::Ready) {
                    current = int(i);
                    threadIdx = fibers[i].index;
                    swapcontext(&scheduler, &fibers[i].context);
                }
            any = release_warps(threads);
        }
    } while (release_block(threads));
    current = -1;
    if (tracing) reduce_trace();
}

void write_trace(const char* path) {
    FILE* file = std::fopen(path, "w");
    for (auto& [key, s] : sites)
        std::fprintf(file, "{\"kernel\": \"%s\", \"pc\": \"0x%lx\", \"space\": \"%s\", \"store\": %s, \"size\": %zu, \"requests\": %ld, "
                     "\"sectors\": %ld, \"useful_bytes\": %ld, \"ways\": %ld, \"worst_ways\": %ld}\n",
                     key.first.c_str(), key.second.first, s.shared ? "shared" : "global", s.store ? "true" : "false", s.size, s.requests,
                     s.sectors, s.useful, s.ways, s.worst);
    std::fclose(file);
}
}  // namespace

namespace cuda_cpu {
__attribute__((noinline)) void barrier() {
    fibers[size_t(current)].waits_at = __builtin_return_address(0);
    yield(State::Barrier);
}
void warp_barrier(unsigned mask) {
    Fiber& f = fibers[size_t(current)];
    f.mask = mask;
    f.waits_at = __builtin_return_address(0);
    yield(State::Warp);
    ++f.warp_epoch;
}
unsigned long long* slots(unsigned mask, unsigned long long mine) {
    Fiber& f = fibers[size_t(current)];
    // Two sets in turn: a lane is at most one call ahead of its warp, so it never overwrites what is still being read.
    unsigned long long* set = &exchange_slots[(size_t(current) / 32 * 2 + f.collectives++ % 2) * 32];
    set[current % 32] = mine;
    f.mask = mask;
    f.waits_at = __builtin_return_address(0);
    yield(State::Warp);
    return set;
}
unsigned live_lanes() {
    unsigned lanes = 0;
    size_t first = size_t(current) / 32 * 32;
    for (size_t i = first; i < std::min(first + 32, live.size()); ++i) lanes |= unsigned(fibers[i].state != State::Done) << (i - first);
    return lanes;
}
int lane() { return current % 32; }
void* dynamic_shared() { return dynamic_memory.data(); }
void copy_later(void* to, const void* from, size_t size, size_t zeros) {
    Address pc = Address(__builtin_return_address(0));
    touch(Address(to), size, true, pc);
    if (size > zeros) touch(Address(from), size - zeros, false, pc);
    fibers[size_t(current)].open.push_back({to, from, size, zeros});
}
void commit_copies() {
    Fiber& f = fibers[size_t(current)];
    f.committed.push_back(std::move(f.open));
    f.open.clear();
}
void wait_copies(size_t pending) {  // as late as CUDA allows: a forgotten wait shows as old data
    Fiber& f = fibers[size_t(current)];
    for (; f.committed.size() > pending; f.committed.pop_front())
        for (const Copy& c : f.committed.front()) {
            std::memcpy(c.to, c.from, c.size - c.zeros);
            std::memset(static_cast<char*>(c.to) + c.size - c.zeros, 0, c.zeros);
            touch(Address(c.to), c.size, true, Address(__builtin_return_address(0)), false);  // counted when it was asked for
        }
}
void run(const char* kernel, dim3 grid, dim3 block, size_t shared, void (*body)(void*), void* arguments) {
    size_t threads = size_t(block.x) * block.y * block.z;
    if (!threads || threads > 1024 || block.z > 64 || !grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535 || shared > kSharedLimit) {
        last_error = cudaErrorInvalidConfiguration;
        return;
    }
    host_stack = Address(__builtin_frame_address(0));
    const char* trace = std::getenv("CUDA_CPU_TRACE");
    tracing = trace != nullptr;
    kernel_name = kernel, kernel_body = body, kernel_arguments = arguments, blockDim = block, gridDim = grid;
    if (fibers.size() < threads) fibers.resize(threads);
    live.assign(threads, 1);
    exchange_slots.assign((threads + 31) / 32 * 64, 0);
    statics.resize(size_t(&_end - &__data_start));
    dynamics.resize(kSharedLimit);
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = {x, y, z};
                run_block(threads);
            }
    if (trace) write_trace(trace);
}
}  // namespace cuda_cpu

// ---- the compiler's calls
#define ACCESS(size)                                                                                               \
    void __asan_load##size##_noabort(Address at) { touch(at, size, false, Address(__builtin_return_address(0))); } \
    void __asan_store##size##_noabort(Address at) { touch(at, size, true, Address(__builtin_return_address(0))); }
extern "C" {
ACCESS(1) ACCESS(2) ACCESS(4) ACCESS(8) ACCESS(16)
void __asan_loadN_noabort(Address at, size_t size) { touch(at, size, false, Address(__builtin_return_address(0))); }
void __asan_storeN_noabort(Address at, size_t size) { touch(at, size, true, Address(__builtin_return_address(0))); }
void __asan_handle_no_return() {}
void __asan_before_dynamic_init(const char*) {}  // a file with global objects: their order is not what is watched here
void __asan_after_dynamic_init() {}

// ---- the part of CUDA's runtime that teaching programs call
cudaError_t cudaMalloc(void** to, size_t size) {
    *to = std::aligned_alloc(256, (size + 511) / 256 * 256);
    std::memset(*to, 0xff, size);  // NaN until it is written
    allocations[Address(*to)] = size;
    return cudaSuccess;
}
cudaError_t cudaFree(void* at) {
    allocations.erase(Address(at));
    std::free(at);
    return cudaSuccess;
}
cudaError_t cudaMallocManaged(void** to, size_t size, unsigned) { return cudaMalloc(to, size); }
cudaError_t cudaMallocHost(void** to, size_t size) { return cudaMalloc(to, size); }
cudaError_t cudaHostAlloc(void** to, size_t size, unsigned) { return cudaMalloc(to, size); }
cudaError_t cudaFreeHost(void* at) { return cudaFree(at); }
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind) {
    std::memcpy(to, from, size);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t) { return cudaMemcpy(to, from, size, kind); }
cudaError_t cudaMemset(void* at, int value, size_t size) {
    std::memset(at, value, size);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* at, int value, size_t size, cudaStream_t) { return cudaMemset(at, value, size); }
cudaError_t cudaEventCreate(cudaEvent_t* event) {
    *event = reinterpret_cast<cudaEvent_t>(new std::chrono::steady_clock::time_point);
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return cudaEventCreate(event); }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    *reinterpret_cast<std::chrono::steady_clock::time_point*>(event) = std::chrono::steady_clock::now();
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t stop) {
    auto at = [](cudaEvent_t e) { return *reinterpret_cast<std::chrono::steady_clock::time_point*>(e); };
    *ms = std::chrono::duration<float, std::milli>(at(stop) - at(start)).count();
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete reinterpret_cast<std::chrono::steady_clock::time_point*>(event);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    *stream = nullptr;
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return cudaStreamCreate(stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
    *value = 4;  // a small device: grids that are sized by it stay small
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorString(cudaError_t error) {
    return error == cudaSuccess ? "no error" : error == cudaErrorInvalidConfiguration ? "invalid configuration argument" : "emulated error";
}
const char* cudaGetErrorName(cudaError_t error) { return cudaGetErrorString(error); }
}
