// What a kernel finds on a device, on the host instead. Each kernel is a library of its own that includes this first.
//
// The threads of a block run one after the other. Where there are barriers each is a fibre with a stack of its own that
// runs until it waits; blocks are never concurrent, so atomics are plain operations and no race can show itself.
#pragma once
#include <csetjmp>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include <ucontext.h>

#include <crt/host_defines.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <cuda_fp16.h>

#define __CUDACC_VER_MAJOR__ 13
#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)

static dim3 threadIdx(0, 0, 0), blockIdx(0, 0, 0), blockDim(1, 1, 1), gridDim(1, 1, 1);
static const int warpSize = 32;

// --- the device's functions

using std::abs, std::acos, std::acosh, std::asin, std::asinh, std::atan, std::atan2, std::atanh, std::cbrt, std::ceil,
    std::copysign, std::cos, std::cosh, std::erf, std::erfc, std::exp, std::exp2, std::expm1, std::fabs, std::floor, std::fma,
    std::fmax, std::fmin, std::fmod, std::frexp, std::hypot, std::isfinite, std::isinf, std::isnan, std::ldexp, std::lgamma,
    std::log, std::log10, std::log1p, std::log2, std::modf, std::nextafter, std::pow, std::rint, std::signbit, std::sin,
    std::sinh, std::sqrt, std::tan, std::tanh, std::tgamma, std::trunc;

template <class A, class B> static inline typename std::common_type<A, B>::type max(A a, B b) { return a < b ? b : a; }
template <class A, class B> static inline typename std::common_type<A, B>::type min(A a, B b) { return b < a ? b : a; }
static inline double rsqrt(double x) { return 1 / std::sqrt(x); }
static inline float rsqrt(float x) { return 1 / std::sqrt(x); }

template <class To, class From> static inline To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits of another number");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static inline int __float_as_int(float x) { return same_bits<int>(x); }
static inline float __int_as_float(int x) { return same_bits<float>(x); }
static inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
static inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return same_bits<double>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }

template <class T> static inline T __ldg(const T *at) { return *at; }
template <class T> static inline T exchanged(T *at, T value) { T old = *at; *at = value; return old; }
template <class T, class U> static inline T atomicAdd(T *at, U x) { return exchanged(at, T(*at + T(x))); }
template <class T> static inline T atomicMax(T *at, T x) { return exchanged(at, *at < x ? x : *at); }
template <class T> static inline T atomicMin(T *at, T x) { return exchanged(at, x < *at ? x : *at); }
template <class T> static inline T atomicCAS(T *at, T expected, T x) { return exchanged(at, *at == expected ? x : *at); }
static inline void __threadfence() {}

// --- the threads of a block

static bool barriers(); // whether the kernel has any: defined after its source

enum State { RUNS, AT_BLOCK_BARRIER, AT_WARP_BARRIER, DONE };

struct Fibre {
    ucontext_t start;
    jmp_buf here; // where it waits: switching by setjmp asks nothing of the kernel, unlike swapcontext
    State state;
    bool started;
    char *stack;
};

static const int MOST_THREADS = 1024, STACK = 1 << 16;
static Fibre fibres[MOST_THREADS];
static Fibre *running;
static jmp_buf scheduler;
static void (*entry_of_kernel)(void **);
static void **arguments_of_kernel;

static inline void wait_at(State barrier) {
    Fibre &self = *running;
    self.state = barrier;
    if (!_setjmp(self.here)) _longjmp(scheduler, 1);
}
static inline void __syncthreads() { wait_at(AT_BLOCK_BARRIER); }
static inline void __syncwarp(unsigned = 0) { wait_at(AT_WARP_BARRIER); }

static inline int thread_number() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }

template <class T> static inline T shuffled(T value, int lane) {
    static T values[MOST_THREADS];
    int self = thread_number();
    values[self] = value;
    __syncwarp();
    T result = values[(self & ~31) | (lane & 31)];
    __syncwarp();
    return result;
}
static inline int own_lane() { return thread_number() & 31; }
template <class T> static inline T __shfl_sync(unsigned, T x, int lane, int width = 32) {
    return shuffled(x, (own_lane() & ~(width - 1)) | (lane & (width - 1)));
}
template <class T> static inline T __shfl_xor_sync(unsigned, T x, int mask, int = 32) { return shuffled(x, own_lane() ^ mask); }
template <class T> static inline T __shfl_up_sync(unsigned, T x, unsigned delta, int width = 32) {
    return shuffled(x, (own_lane() & (width - 1)) < int(delta) ? own_lane() : own_lane() - int(delta));
}
template <class T> static inline T __shfl_down_sync(unsigned, T x, unsigned delta, int width = 32) {
    return shuffled(x, (own_lane() & (width - 1)) + int(delta) >= width ? own_lane() : own_lane() + int(delta));
}

static void run_fibre() {
    entry_of_kernel(arguments_of_kernel);
    running->state = DONE;
    _longjmp(scheduler, 1);
}

static void resume(Fibre &fibre) {
    running = &fibre;
    if (_setjmp(scheduler)) return; // it waits, or is done
    if (fibre.started) _longjmp(fibre.here, 1);
    fibre.started = true;
    if (!fibre.stack) fibre.stack = static_cast<char *>(malloc(STACK));
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = fibre.stack;
    fibre.start.uc_stack.ss_size = STACK;
    fibre.start.uc_link = nullptr;
    makecontext(&fibre.start, run_fibre, 0);
    setcontext(&fibre.start);
}

// Lets the fibres lo … hi − 1 go on if all that aren't done wait at this barrier.
static bool released(State barrier, int lo, int hi) {
    int waiting = 0;
    for (int i = lo; i < hi; ++i) {
        if (fibres[i].state != barrier && fibres[i].state != DONE) return false;
        waiting += fibres[i].state == barrier;
    }
    for (int i = lo; i < hi; ++i)
        if (fibres[i].state == barrier) fibres[i].state = RUNS;
    return waiting > 0;
}

static void become(int number) {
    threadIdx = dim3(number % blockDim.x, number / blockDim.x % blockDim.y, number / (blockDim.x * blockDim.y));
}

static void run_with_barriers(int threads) {
    for (int i = 0; i < threads; ++i) fibres[i].state = RUNS, fibres[i].started = false;
    for (bool some = true; some;) {
        for (volatile int i = 0; i < threads; i = i + 1)
            if (fibres[i].state == RUNS) become(i), resume(fibres[i]);
        some = false;
        for (int lo = 0; lo < threads; lo += 32) some |= released(AT_WARP_BARRIER, lo, lo + 32 < threads ? lo + 32 : threads);
        some |= released(AT_BLOCK_BARRIER, 0, threads);
    }
    for (int i = 0; i < threads; ++i)
        if (fibres[i].state != DONE) fputs("simulated CUDA: threads wait for each other at different barriers\n", stderr), abort();
}

extern "C" __attribute__((visibility("default"))) void simulated_launch(void (*entry)(void **), void **arguments,
                                                                        const unsigned *sizes) {
    gridDim = dim3(sizes[0], sizes[1], sizes[2]);
    blockDim = dim3(sizes[3], sizes[4], sizes[5]);
    entry_of_kernel = entry;
    arguments_of_kernel = arguments;
    int threads = blockDim.x * blockDim.y * blockDim.z;
    for (unsigned z = 0; z < gridDim.z; ++z)
        for (unsigned y = 0; y < gridDim.y; ++y)
            for (unsigned x = 0; x < gridDim.x; ++x) {
                blockIdx = dim3(x, y, z);
                if (barriers()) run_with_barriers(threads);
                else
                    for (int i = 0; i < threads; ++i) become(i), entry(arguments);
            }
}

template <class... Types, size_t... Numbers>
static inline void call(void (*kernel)(Types...), void **arguments, std::index_sequence<Numbers...>) {
    kernel(*static_cast<typename std::remove_reference<Types>::type *>(arguments[Numbers])...);
}
template <class... Types> static inline void call(void (*kernel)(Types...), void **arguments) {
    call(kernel, arguments, std::index_sequence_for<Types...>{});
}
#define SIMULATED_BARRIERS(are_there)                                                                                        \
    static bool barriers() { return are_there; }
#define SIMULATED_ENTRY(kernel)                                                                                              \
    extern "C" __attribute__((visibility("default"))) void entry_##kernel(void **arguments) { call(kernel, arguments); }

// CuPy's own, which most kernels ask for: here they are compiled once, ahead of all
#include <cupy/complex.cuh>

#include <cupy/atomics.cuh>
#include <cupy/carray.cuh>
#include <cupy/math_constants.h>
