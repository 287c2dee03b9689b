/*
 * The names that payload-cuda takes from libcuda.so.1 and libc.so.6, for the linker: neither library is needed to build.
 */
        .text
        .macro  export name
        .globl  \name
        .type   \name, STT_FUNC
\name:
        .endm

        .ifdef  CUDA
        export  cuInit
        export  cuDriverGetVersion
        export  cuDeviceGetCount
        .else
        export  __libc_start_main
        export  dprintf
        .endif
        .long   0
