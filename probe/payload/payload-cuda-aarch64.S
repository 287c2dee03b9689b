/*
 * payload-cuda-x86_64.S for aarch64: see there.
 *
 * Throughout: x19 is the nonce, x20 the last result.
 */
        .equ    EX_USAGE, 64

        .macro  call_imported name
        adrp    x16, :got:\name
        ldr     x16, [x16, :got_lo12:\name]
        blr     x16
        .endm

        .section .note.GNU-stack, "", %progbits
        .text
        .globl  _start
_start:
        mov     x29, #0
        mov     x30, #0
        mov     x5, x0                          // the loader's own end
        ldr     x1, [sp]                        // argc
        add     x2, sp, #8                      // argv
        mov     x6, sp
        adr     x0, main
        mov     x3, #0
        mov     x4, #0
        call_imported __libc_start_main
        brk     #0

main:
        stp     x29, x30, [sp, #-48]!
        mov     x29, sp
        stp     x19, x20, [sp, #16]
        mov     w2, #EX_USAGE
        cmp     w0, #2
        b.lt    4f
        ldr     x19, [x1, #8]                   // the nonce
        adr     x1, loaded
        bl      say

        str     wzr, [sp, #32]
        add     x0, sp, #32
        call_imported cuDriverGetVersion
        cbnz    w0, 1f
        adr     x1, version
        ldr     w3, [sp, #32]
        bl      say
1:      mov     w0, #0
        call_imported cuInit
        mov     w20, w0
        adr     x1, cuinit
        mov     w3, w0
        bl      say
        cbnz    w20, 3f
        add     x0, sp, #32
        call_imported cuDeviceGetCount
        cbnz    w0, 3f
        adr     x1, devices
        ldr     w3, [sp, #32]
        bl      say
3:      adr     x1, end
        bl      say
        mov     w2, #0
4:      mov     w0, w2
        ldp     x19, x20, [sp, #16]
        ldp     x29, x30, [sp], #48
        ret

say:                                            // x1: a format, w3: its number
        stp     x29, x30, [sp, #-16]!
        mov     w0, #1
        mov     x2, x19
        call_imported dprintf
        ldp     x29, x30, [sp], #16
        ret

loaded:                 .asciz  "%s loaded\n"
version:                .asciz  "%s cuda_version %d\n"
cuinit:                 .asciz  "%s cuinit %d\n"
devices:                .asciz  "%s cuda_devices %d\n"
end:                    .asciz  "%s end\n"
