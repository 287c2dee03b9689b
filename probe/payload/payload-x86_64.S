/*
 * What the probe runs inside a container: payload NONCE [PATH...]
 *
 *   NONCE uid_map LINE          each line of /proc/self/uid_map as it is, or NONCE uid_map_errno N
 *   NONCE pid N
 *   NONCE path ERRNO PATH       each PATH opened for reading; ERRNO 0: it could be opened
 *   NONCE end
 *
 * Exit code 0; 64: no NONCE; 74: stdout can't be written.
 *
 * No libc, no file but itself: it runs in an image that holds nothing else. Every piece of text is written at
 * once, so what came before an open() that hangs has been seen. No writable segment: SELinux denies programs
 * that are writable and executable.
 *
 * Throughout: %rbp is the nonce, %r12 walks along argv.
 */
        .equ    SYS_READ, 0
        .equ    SYS_WRITE, 1
        .equ    SYS_OPEN, 2
        .equ    SYS_CLOSE, 3
        .equ    SYS_GETPID, 39
        .equ    SYS_EXIT_GROUP, 231
        .equ    EINTR, 4
        .equ    EX_USAGE, 64
        .equ    EX_IOERR, 74
        .equ    OPEN_FLAGS, 0x80800             # O_RDONLY | O_NONBLOCK | O_CLOEXEC
        .equ    MAP_SIZE, 16384                 # the kernel allows 340 lines of 33 characters

        .section .note.GNU-stack, "", @progbits
        .text
        .globl  _start
_start:
        mov     (%rsp), %rax                    # argc
        lea     16(%rsp), %r12
        mov     $EX_USAGE, %edi
        cmp     $2, %rax
        jl      exit
        mov     (%r12), %rbp

        sub     $MAP_SIZE, %rsp
        call    report_uid_map
        call    report_pid
next_path:
        add     $8, %r12
        cmpq    $0, (%r12)
        je      end
        call    report_path
        jmp     next_path
end:
        lea     word_end(%rip), %rsi
        call    put_word
        xor     %edi, %edi
exit:                                           # %edi: exit code
        mov     $SYS_EXIT_GROUP, %eax
        syscall

report_uid_map:
        lea     8(%rsp), %r13                   # the buffer; below it lies our return address
        mov     %r13, %r14                      # where what was read ends
        lea     uid_map(%rip), %rdi
        call    open
        js      2f
        mov     %eax, %ebx
1:      mov     %ebx, %edi
        mov     %r14, %rsi
        lea     MAP_SIZE(%r13), %rdx
        sub     %r14, %rdx
        mov     $SYS_READ, %eax
        call    system
        js      2f
        add     %rax, %r14
        test    %eax, %eax
        jnz     1b
        jmp     4f
2:      mov     %eax, %ebx
        lea     word_uid_map_errno(%rip), %rsi
        call    put_word
        mov     %ebx, %eax
        neg     %eax
        call    put_number
        jmp     put_newline
3:      lea     word_uid_map(%rip), %rsi
        call    put_word
        mov     %r13, %rsi
        call    put_line
        lea     1(%rsi), %r13
4:      cmp     %r14, %r13
        jb      3b
        ret

report_pid:
        lea     word_pid(%rip), %rsi
        call    put_word
        mov     $SYS_GETPID, %eax
        syscall
        call    put_number
        jmp     put_newline

report_path:
        mov     (%r12), %rdi
        call    open
        mov     %eax, %ebx
        js      1f
        mov     %eax, %edi
        mov     $SYS_CLOSE, %eax
        syscall
        xor     %ebx, %ebx
1:      lea     word_path(%rip), %rsi
        call    put_word
        mov     %ebx, %eax
        neg     %eax
        call    put_number
        lea     space(%rip), %rsi
        call    put_string
        mov     (%r12), %rsi
        call    put_string
put_newline:
        lea     newline(%rip), %rsi
        jmp     put_string

put_word:                                       # the nonce, then the string at %rsi
        push    %rsi
        mov     %rbp, %rsi
        call    put_string
        pop     %rsi
put_string:                                     # %rsi: ends with a zero byte
        mov     %rsi, %rdx
1:      cmpb    $0, (%rdx)
        je      2f
        inc     %rdx
        jmp     1b
2:      sub     %rsi, %rdx
put:                                            # %rsi: text, %rdx: its length; leaves its end in %rsi
        test    %rdx, %rdx
        jz      2f
1:      mov     $1, %edi
        mov     $SYS_WRITE, %eax
        call    system
        jle     failed
        add     %rax, %rsi
        sub     %rax, %rdx
        jnz     1b
2:      ret
failed:
        mov     $EX_IOERR, %edi
        jmp     exit

put_line:                                       # %rsi: text up to a line feed or %r14; leaves its end in %rsi
        mov     %rsi, %rdx
1:      cmp     %r14, %rdx
        je      2f
        cmpb    $'\n', (%rdx)
        je      2f
        inc     %rdx
        jmp     1b
2:      push    %rdx
        sub     %rsi, %rdx
        call    put
        call    put_newline
        pop     %rsi
        ret

put_number:                                     # %eax: not negative
        sub     $16, %rsp
        lea     16(%rsp), %rsi
        mov     $10, %ecx
1:      xor     %edx, %edx
        div     %ecx
        add     $'0', %dl
        dec     %rsi
        mov     %dl, (%rsi)
        test    %eax, %eax
        jnz     1b
        lea     16(%rsp), %rdx
        sub     %rsi, %rdx
        call    put
        add     $16, %rsp
        ret

open:                                           # %rdi: path
        mov     $OPEN_FLAGS, %esi
        mov     $SYS_OPEN, %eax
system:                                         # a system call, repeated while interrupted; sets the flags by %rax
        mov     %eax, %r8d
1:      mov     %r8d, %eax
        syscall
        cmp     $-EINTR, %rax
        je      1b
        test    %rax, %rax
        ret

uid_map:                .asciz  "/proc/self/uid_map"
word_uid_map:           .asciz  " uid_map "
word_uid_map_errno:     .asciz  " uid_map_errno "
word_pid:               .asciz  " pid "
word_path:              .asciz  " path "
word_end:               .asciz  " end\n"
space:                  .asciz  " "
newline:                .asciz  "\n"
