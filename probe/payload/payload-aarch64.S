/*
 * What the probe runs inside a container, for 64-bit ARM. payload-x86_64.S says what it does and why it is so.
 *
 * Throughout: x19 is the nonce, x20 walks along argv.
 */
        .equ    SYS_OPENAT, 56
        .equ    SYS_CLOSE, 57
        .equ    SYS_READ, 63
        .equ    SYS_WRITE, 64
        .equ    SYS_EXIT_GROUP, 94
        .equ    SYS_GETPID, 172
        .equ    AT_FDCWD, -100
        .equ    EINTR, 4
        .equ    EX_USAGE, 64
        .equ    EX_IOERR, 74
        .equ    OPEN_FLAGS, 0x80800             // O_RDONLY | O_NONBLOCK | O_CLOEXEC
        .equ    MAP_SIZE, 16384                 // the kernel allows 340 lines of 33 characters

        .macro  enter
        stp     x30, xzr, [sp, #-16]!
        .endm
        .macro  leave
        ldp     x30, xzr, [sp], #16
        ret
        .endm

        .section .note.GNU-stack, "", %progbits
        .text
        .globl  _start
_start:
        ldr     x1, [sp]                        // argc
        add     x20, sp, #16
        mov     w0, #EX_USAGE
        cmp     x1, #2
        b.lt    exit
        ldr     x19, [x20]

        sub     sp, sp, #MAP_SIZE
        bl      report_uid_map
        bl      report_pid
next_path:
        ldr     x0, [x20, #8]!
        cbz     x0, end
        bl      report_path
        b       next_path
end:
        adr     x1, word_end
        bl      put_word
        mov     w0, #0
exit:                                           // w0: exit code
        mov     x8, #SYS_EXIT_GROUP
        svc     #0

report_uid_map:
        mov     x21, sp                         // the buffer
        mov     x22, x21                        // where what was read ends
        enter
        adr     x1, uid_map
        bl      open
        tbnz    x0, #63, 2f
        mov     w23, w0
1:      mov     w0, w23
        mov     x1, x22
        add     x2, x21, #MAP_SIZE
        sub     x2, x2, x22
        mov     x8, #SYS_READ
        bl      system
        tbnz    x0, #63, 2f
        add     x22, x22, x0
        cbnz    x0, 1b
        b       4f
2:      neg     w23, w0
        adr     x1, word_uid_map_errno
        bl      put_word
        mov     w0, w23
        bl      put_number
        bl      put_newline
        leave
3:      adr     x1, word_uid_map
        bl      put_word
        mov     x1, x21
        bl      put_line
        add     x21, x1, #1
4:      cmp     x21, x22
        b.lo    3b
        leave

report_pid:
        enter
        adr     x1, word_pid
        bl      put_word
        mov     x8, #SYS_GETPID
        svc     #0
        bl      put_number
        bl      put_newline
        leave

report_path:
        enter
        ldr     x1, [x20]
        bl      open
        neg     w23, w0
        tbnz    x0, #63, 1f
        mov     x8, #SYS_CLOSE
        svc     #0
        mov     w23, #0
1:      adr     x1, word_path
        bl      put_word
        mov     w0, w23
        bl      put_number
        adr     x1, space
        bl      put_string
        ldr     x1, [x20]
        bl      put_string
        bl      put_newline
        leave

put_newline:
        adr     x1, newline
        b       put_string

put_word:                                       // the nonce, then the string at x1
        stp     x30, x1, [sp, #-16]!
        mov     x1, x19
        bl      put_string
        ldp     x30, x1, [sp], #16
put_string:                                     // x1: ends with a zero byte
        mov     x2, #0
1:      ldrb    w3, [x1, x2]
        cbz     w3, put
        add     x2, x2, #1
        b       1b
put:                                            // x1: text, x2: its length; leaves its end in x1
        enter
        cbz     x2, 2f
1:      mov     w0, #1
        mov     x8, #SYS_WRITE
        bl      system
        cmp     x0, #0
        b.le    failed
        add     x1, x1, x0
        subs    x2, x2, x0
        b.ne    1b
2:      leave
failed:
        mov     w0, #EX_IOERR
        b       exit

put_line:                                       // x1: text up to a line feed or x22; leaves its end in x1
        mov     x2, x1
1:      cmp     x2, x22
        b.eq    2f
        ldrb    w3, [x2]
        cmp     w3, #'\n'
        b.eq    2f
        add     x2, x2, #1
        b       1b
2:      stp     x30, x2, [sp, #-16]!
        sub     x2, x2, x1
        bl      put
        bl      put_newline
        ldp     x30, x1, [sp], #16
        ret

put_number:                                     // w0: not negative
        stp     x30, xzr, [sp, #-32]!
        add     x1, sp, #32
        mov     w2, #10
1:      udiv    w3, w0, w2
        msub    w4, w3, w2, w0
        add     w4, w4, #'0'
        strb    w4, [x1, #-1]!
        mov     w0, w3
        cbnz    w0, 1b
        add     x2, sp, #32
        sub     x2, x2, x1
        bl      put
        ldp     x30, xzr, [sp], #32
        ret

open:                                           // x1: path
        mov     w0, #AT_FDCWD
        mov     w2, #OPEN_FLAGS & 0xffff
        movk    w2, #OPEN_FLAGS >> 16, lsl #16
        mov     x8, #SYS_OPENAT
system:                                         // a system call, repeated while interrupted
        mov     x9, x0
1:      mov     x0, x9
        svc     #0
        cmn     x0, #EINTR
        b.eq    1b
        ret

uid_map:                .asciz  "/proc/self/uid_map"
word_uid_map:           .asciz  " uid_map "
word_uid_map_errno:     .asciz  " uid_map_errno "
word_pid:               .asciz  " pid "
word_path:              .asciz  " path "
word_end:               .asciz  " end\n"
space:                  .asciz  " "
newline:                .asciz  "\n"
