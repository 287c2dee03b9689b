/*
 * Stands in for libcuda.so.1 in tests. What it does is said by the environment:
 *
 *   GPU_STANDIN_CUDA      ok (default) | error N | hang | crash: cuInit; with "inside " before it, in containers only
 *   GPU_STANDIN_COUNT     how many devices, 2 unless said
 *   GPU_STANDIN_FILES     set: cuInit opens /dev/nvidiactl and /dev/nvidia-uvm, and gives 999 where it can't
 *   CUDA_VISIBLE_DEVICES  one number is read, as CUDA reads it: no such device is error 100
 */
#include "behaviour.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int opens(const char *path) {
    int file = open(path, O_RDWR);
    if (file >= 0) close(file);
    return file >= 0;
}
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetCount(int *count) {
    *count = number("GPU_STANDIN_COUNT", 2);
    if (getenv("CUDA_VISIBLE_DEVICES")) *count = 1;
    return 0;
}
int cuInit(unsigned flags) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int code = behave("GPU_STANDIN_CUDA");
    if (code) return code;
    if (getenv("GPU_STANDIN_FILES") && !(opens("/dev/nvidiactl") && opens("/dev/nvidia-uvm"))) return 999;
    if (visible && (*visible < '0' || *visible > '9' || atoi(visible) >= number("GPU_STANDIN_COUNT", 2))) return 100;
    return flags ? 1 : 0;
}
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 100; return 0; }
int cuDeviceGetName(char *name, int size, int device) { return device < 100 || size < 11 ? 1 : (strcpy(name, "NVIDIA A40"), 0); }
int cuDeviceGetUuid(unsigned char *uuid, int device) { memset(uuid, 0x11, 16); return device < 100; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 45UL << 30; return device < 100; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 6; return device < 100; }
