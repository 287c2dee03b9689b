/*
 * Stands in for libnvidia-ml.so.1 in tests. What it does is said by the environment, so that one build serves all:
 *
 *   GPU_STANDIN_NVML      ok (default) | error N | hang | crash: nvmlInit_v2
 *   GPU_STANDIN_DEVICE    N: the code of every device's handle
 *   GPU_STANDIN_COUNT     how many devices, 2 unless said
 *   GPU_STANDIN_OLD       set: functions of newer drivers give 13, as the probe takes them that are not there
 *   GPU_STANDIN_VERSION   the driver's version, 550.54.15 unless said
 *
 * Device 0 is an A40 with ECC; device 1 an A100 with two MIG instances.
 */
#include "behaviour.h"
#include <string.h>

#define HANDLE(n) ((void *)(0x7fff12340000L + (n)))
#define NUMBER(h) ((long)(h) - 0x7fff12340000L)
#define GIB (1ULL << 30)

static int good(void *handle) { return NUMBER(handle) >= 0 && NUMBER(handle) < 32 ? 0 : 2; }
static int is_instance(void *handle) { return NUMBER(handle) >= 16; }
static int text(char *buffer, unsigned size, const char *value) {
    if (strlen(value) >= size) return 7;
    strcpy(buffer, value);
    return 0;
}

int nvmlInit_v2(void) { return behave("GPU_STANDIN_NVML"); }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)number("GPU_STANDIN_COUNT", 2); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12040; return number("GPU_STANDIN_OLD", 0) ? 13 : 0; }
int nvmlSystemGetDriverVersion(char *buffer, unsigned size) {
    const char *version = getenv("GPU_STANDIN_VERSION");
    return text(buffer, size, version ? version : "550.54.15");
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = HANDLE(index);
    return number("GPU_STANDIN_DEVICE", 0);
}
int nvmlDeviceGetName(void *handle, char *buffer, unsigned size) {
    const char *names[] = {"NVIDIA A40", "NVIDIA A100-SXM4-40GB"};
    return is_instance(handle) ? text(buffer, size, "NVIDIA A100-SXM4-40GB MIG 3g.20gb") : text(buffer, size, names[NUMBER(handle) % 2]);
}
int nvmlDeviceGetUUID(void *handle, char *buffer, unsigned size) {
    const char *devices[] = {"GPU-11111111-aaaa-4000-8000-000000000001", "GPU-22222222-bbbb-4000-8000-000000000002"};
    const char *instances[] = {"MIG-33333333-cccc-5000-8000-000000000003", "MIG-44444444-dddd-5000-8000-000000000004"};
    return text(buffer, size, (is_instance(handle) ? instances : devices)[NUMBER(handle) % 2]);
}
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory) {
    memory[0] = (is_instance(handle) ? 20 : NUMBER(handle) % 2 ? 40 : 45) * GIB;
    return good(handle);
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = 8, *minor = NUMBER(handle) % 2 ? 0 : 6;
    return good(handle);
}
int nvmlDeviceGetEccMode(void *handle, unsigned *now, unsigned *pending) { *now = *pending = 1; return good(handle); }
int nvmlDeviceGetPersistenceMode(void *handle, unsigned *mode) { *mode = 1; return good(handle); }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *pending) {
    *now = *pending = 1;
    return NUMBER(handle) % 2 ? good(handle) : 3;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { *count = 7; return good(handle); }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **instance) {
    *instance = HANDLE(16 + index / 3);
    return index == 0 || index == 3 ? good(handle) : 6; /* places between are empty */
}
int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) { *id = 1 + NUMBER(handle) % 2; return good(handle); }
int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id) { *id = 0; return good(handle); }
