// The CUDA runtime and the part of the driver that CuPy calls: two devices whose memory is the host's, and streams on
// which everything has already happened when the call returns. Fresh memory is full of NaN.
#include "simulated.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

#include <cuda.h>
#include <cuda_runtime_api.h>

namespace {

const int DEVICES = 2;
const int VERSION = 13020;

struct Allocation {
    size_t size;
    int device;
};
std::map<char *, Allocation> allocations;

void *aligned(size_t size) { return aligned_alloc(512, (size / 512 + 1) * 512); }

cudaError_t copy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
    ++counts[kind == cudaMemcpyHostToDevice   ? HOST_TO_DEVICE
             : kind == cudaMemcpyDeviceToHost ? DEVICE_TO_HOST
                                              : DEVICE_TO_DEVICE];
    memmove(to, from, size);
    return cudaSuccess;
}

cudaError_t synchronise() {
    ++counts[SYNCHRONISATIONS];
    return cudaSuccess;
}

template <class Handle> cudaError_t create(Handle *handle) {
    *handle = static_cast<Handle>(malloc(8));
    return cudaSuccess;
}

int attribute(int number) {
    switch (number) {
    case cudaDevAttrMaxThreadsPerBlock:
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
    case cudaDevAttrMaxBlockDimZ:
        return 1024;
    case cudaDevAttrMaxGridDimX:
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
        return INT32_MAX;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        return 48 * 1024;
    case cudaDevAttrWarpSize:
        return 32;
    case cudaDevAttrMultiProcessorCount:
        return 4;
    case cudaDevAttrComputeCapabilityMajor:
        return 9;
    default:
        return 0;
    }
}

} // namespace

long long counts[COUNTS];
thread_local int current_device = 0;

EXPORT long long simulated_count(int which) { return counts[which]; }

// --- versions and errors

EXPORT cudaError_t cudaDriverGetVersion(int *version) { *version = VERSION; return cudaSuccess; }
EXPORT cudaError_t cudaRuntimeGetVersion(int *version) { *version = VERSION; return cudaSuccess; }
EXPORT cudaError_t cudaGetLastError() { return cudaSuccess; }
EXPORT const char *cudaGetErrorName(cudaError_t error) {
    return error == cudaSuccess              ? "cudaSuccess"
           : error == cudaErrorInvalidDevice ? "cudaErrorInvalidDevice"
                                             : "cudaErrorNotSupported";
}
EXPORT const char *cudaGetErrorString(cudaError_t) { return "not in the simulated CUDA"; }
EXPORT CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
EXPORT CUresult cuDriverGetVersion(int *version) { *version = VERSION; return CUDA_SUCCESS; }
EXPORT CUresult cuGetErrorName(CUresult, const char **name) { *name = "CUDA_ERROR_SIMULATED"; return CUDA_SUCCESS; }
EXPORT CUresult cuGetErrorString(CUresult, const char **text) { *text = "simulated driver"; return CUDA_SUCCESS; }

// --- devices

EXPORT cudaError_t cudaGetDeviceCount(int *number) { *number = DEVICES; return cudaSuccess; }
EXPORT cudaError_t cudaGetDevice(int *device) { *device = current_device; return cudaSuccess; }
EXPORT cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= DEVICES) return cudaErrorInvalidDevice;
    current_device = device;
    return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr which, int) {
    *value = attribute(which);
    return cudaSuccess;
}
EXPORT cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "simulated device");
    properties->major = attribute(cudaDevAttrComputeCapabilityMajor);
    properties->multiProcessorCount = attribute(cudaDevAttrMultiProcessorCount);
    properties->warpSize = attribute(cudaDevAttrWarpSize);
    properties->maxThreadsPerBlock = attribute(cudaDevAttrMaxThreadsPerBlock);
    return cudaSuccess;
}
EXPORT cudaError_t cudaDeviceSynchronize() { return synchronise(); }
EXPORT cudaError_t cudaDeviceCanAccessPeer(int *can, int, int) { *can = 0; return cudaSuccess; }
EXPORT CUresult cuCtxGetDevice(CUdevice *device) { *device = current_device; return CUDA_SUCCESS; }
EXPORT CUresult cuCtxGetCurrent(CUcontext *context) {
    *context = reinterpret_cast<CUcontext>(static_cast<intptr_t>(current_device + 1));
    return CUDA_SUCCESS;
}
EXPORT CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }

// --- memory

EXPORT cudaError_t cudaMalloc(void **memory, size_t size) {
    ++counts[ALLOCATIONS];
    *memory = aligned(size);
    memset(*memory, 0xFF, size);
    allocations[static_cast<char *>(*memory)] = {size, current_device};
    return cudaSuccess;
}
EXPORT cudaError_t cudaFree(void *memory) {
    allocations.erase(static_cast<char *>(memory));
    free(memory);
    return cudaSuccess;
}
EXPORT cudaError_t cudaHostAlloc(void **memory, size_t size, unsigned) { *memory = aligned(size); return cudaSuccess; }
EXPORT cudaError_t cudaFreeHost(void *memory) { free(memory); return cudaSuccess; }
EXPORT cudaError_t cudaMemGetInfo(size_t *unused, size_t *total) { *unused = *total = size_t(8) << 30; return cudaSuccess; }
EXPORT cudaError_t cudaMemset(void *memory, int value, size_t size) { memset(memory, value, size); return cudaSuccess; }
EXPORT cudaError_t cudaMemsetAsync(void *memory, int value, size_t size, cudaStream_t) {
    return cudaMemset(memory, value, size);
}
EXPORT cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
    return copy(to, from, size, kind);
}
EXPORT cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
    return copy(to, from, size, kind);
}
EXPORT cudaError_t cudaMemcpyPeer(void *to, int, const void *from, int, size_t size) {
    return copy(to, from, size, cudaMemcpyDeviceToDevice);
}
EXPORT cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t size, cudaStream_t) {
    return copy(to, from, size, cudaMemcpyDeviceToDevice);
}
EXPORT cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *memory) {
    memset(attributes, 0, sizeof *attributes);
    attributes->type = cudaMemoryTypeDevice;
    attributes->devicePointer = const_cast<void *>(memory);
    attributes->device = current_device;
    auto next = allocations.upper_bound(static_cast<char *>(const_cast<void *>(memory)));
    if (next != allocations.begin()) {
        auto [start, allocation] = *--next;
        if (memory <= start + allocation.size) attributes->device = allocation.device;
    }
    return cudaSuccess;
}

// --- streams and events

EXPORT cudaError_t cudaStreamCreate(cudaStream_t *stream) { return create(stream); }
EXPORT cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) { return create(stream); }
EXPORT cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int) { return create(stream); }
EXPORT cudaError_t cudaStreamDestroy(cudaStream_t stream) { free(stream); return cudaSuccess; }
EXPORT cudaError_t cudaStreamSynchronize(cudaStream_t) { return synchronise(); }
EXPORT cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
EXPORT cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
EXPORT cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *status) {
    *status = cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
EXPORT cudaError_t cudaEventCreate(cudaEvent_t *event) { return create(event); }
EXPORT cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) { return create(event); }
EXPORT cudaError_t cudaEventDestroy(cudaEvent_t event) { free(event); return cudaSuccess; }
EXPORT cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
EXPORT cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
EXPORT cudaError_t cudaEventSynchronize(cudaEvent_t) { return synchronise(); }
EXPORT cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t, cudaEvent_t) { *milliseconds = 0; return cudaSuccess; }
