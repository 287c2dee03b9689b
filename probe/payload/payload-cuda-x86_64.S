/*
 * What the probe runs inside a container to call CUDA's driver: payload-cuda NONCE
 *
 *   NONCE loaded                the loader found libcuda.so.1 and all that it needs
 *   NONCE cuda_version N        what cuDriverGetVersion gives, 12040 for 12.4
 *   NONCE cuinit N              what cuInit(0) gives, 0 or a CUresult
 *   NONCE cuda_devices N        how many devices cuDeviceGetCount gives
 *   NONCE end
 *
 * Exit code 0; 64: no NONCE; 127: the loader refused, and said why on stderr.
 *
 * A dynamic program, for a static one cannot load libcuda. It is linked against empty libraries of the same names
 * (cuda-libraries.S), so its symbols carry no version: glibc then takes the oldest that it has, and one program
 * runs on each glibc. Each line is written at once: what came before a call that hangs or crashes has been seen.
 */
        .equ    EX_USAGE, 64

        .section .note.GNU-stack, "", @progbits
        .text
        .globl  _start
_start:
        xor     %ebp, %ebp
        mov     %rdx, %r9                       # the loader's own end
        pop     %rsi                            # argc
        mov     %rsp, %rdx                      # argv
        and     $-16, %rsp
        push    %rax
        push    %rsp
        xor     %r8d, %r8d
        xor     %ecx, %ecx
        lea     main(%rip), %rdi
        call    *__libc_start_main@GOTPCREL(%rip)
        hlt

main:
        push    %rbx
        sub     $16, %rsp
        mov     $EX_USAGE, %eax
        cmp     $2, %edi
        jl      4f
        mov     8(%rsi), %rbx                   # the nonce
        lea     loaded(%rip), %rsi
        call    say

        movl    $0, (%rsp)
        mov     %rsp, %rdi
        call    *cuDriverGetVersion@GOTPCREL(%rip)
        test    %eax, %eax
        jnz     1f
        lea     version(%rip), %rsi
        mov     (%rsp), %ecx
        call    say
1:      xor     %edi, %edi
        call    *cuInit@GOTPCREL(%rip)
        mov     %eax, 8(%rsp)
        lea     cuinit(%rip), %rsi
        mov     %eax, %ecx
        call    say
        cmpl    $0, 8(%rsp)
        jne     3f
        mov     %rsp, %rdi
        call    *cuDeviceGetCount@GOTPCREL(%rip)
        test    %eax, %eax
        jnz     3f
        lea     devices(%rip), %rsi
        mov     (%rsp), %ecx
        call    say
3:      lea     end(%rip), %rsi
        call    say
        xor     %eax, %eax
4:      add     $16, %rsp
        pop     %rbx
        ret

say:                                            # %rsi: a format, %ecx: its number
        sub     $8, %rsp
        mov     $1, %edi
        mov     %rbx, %rdx
        xor     %eax, %eax
        call    *dprintf@GOTPCREL(%rip)
        add     $8, %rsp
        ret

loaded:                 .asciz  "%s loaded\n"
version:                .asciz  "%s cuda_version %d\n"
cuinit:                 .asciz  "%s cuinit %d\n"
devices:                .asciz  "%s cuda_devices %d\n"
end:                    .asciz  "%s end\n"
