// What the parts of the simulated CUDA share: how a function is exported, what is counted, the current device.
#pragma once

#define EXPORT extern "C" __attribute__((visibility("default")))

enum Count { LAUNCHES, HOST_TO_DEVICE, DEVICE_TO_HOST, SYNCHRONISATIONS, DEVICE_TO_DEVICE, ALLOCATIONS, COUNTS };

extern long long counts[COUNTS];
extern thread_local int current_device;
