"""Runs a program under a seccomp filter that refuses some system calls with EPERM, as outer containers do.

    seccomp.py --deny mount,unshare,clone_newuser -- COMMAND [ARGUMENT]...

Needs no library: a filter is a few instructions of classic BPF. As root no_new_privs stays unset, as under Docker.
"""

import argparse
import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER_OFFSET, FIRST_ARGUMENT_OFFSET = 0, 16  # in struct seccomp_data, little endian

CLONE_NEWUSER = 0x10000000
CLONE_NEW_ANY = 0x7E020000  # user, mount, pid, ipc, net, uts, cgroup


class Rule(NamedTuple):
    """Refuse a call with an errno; with a mask, only when its first argument has a bit of it."""

    call: str
    error: int = errno.EPERM
    mask: int | None = None


# clone3 hides its flags behind a pointer: filters say it does not exist, and programs use clone instead (Docker does).
NO_CLONE3 = Rule("clone3", errno.ENOSYS)
DENIALS: dict[str, tuple[Rule, ...]] = {
    "mount": (Rule("mount"),),
    "unshare": (Rule("unshare"),),
    "clone_newuser": (NO_CLONE3, Rule("clone", mask=CLONE_NEWUSER), Rule("unshare", mask=CLONE_NEWUSER)),
    "clone_new_any": (NO_CLONE3, Rule("clone", mask=CLONE_NEW_ANY), Rule("unshare")),
    "pivot_root": (Rule("pivot_root"), Rule("chroot")),
}
NUMBERS = {
    "x86_64": {
        "mount": 165, "unshare": 272, "clone": 56, "clone3": 435, "pivot_root": 155, "chroot": 161,
    },
    "aarch64": {"mount": 40, "unshare": 97, "clone": 220, "clone3": 435, "pivot_root": 41, "chroot": 51},
}  # fmt: skip


def instruction(code: int, value: int, when_true: int = 0, when_false: int = 0) -> bytes:
    """One struct sock_filter."""
    return struct.pack("=HBBI", code, when_true, when_false, value)


def program(rules: Iterable[Rule], numbers: dict[str, int]) -> bytes:
    """The filter: each rule in turn, then allow."""
    code = b""
    for rule in rules:
        refuse = instruction(RETURN, REFUSE | rule.error)
        test = b""
        if rule.mask is not None:
            test = instruction(LOAD, FIRST_ARGUMENT_OFFSET) + instruction(JUMP_IF_ANY_BIT, rule.mask, 0, 1)
        skipped = len(test + refuse) // 8
        code += instruction(LOAD, NUMBER_OFFSET) + instruction(JUMP_IF_EQUAL, numbers[rule.call], 0, skipped)
        code += test + refuse
    return code + instruction(RETURN, ALLOW)


def install(code: bytes) -> None:
    """Put this process and all its children under the filter; OSError when the kernel refuses."""

    class SockFprog(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    filled = SockFprog(len(code) // 8, code)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filled), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def main(arguments: Sequence[str] | None = None) -> None:
    """The program: becomes COMMAND."""
    parser = argparse.ArgumentParser(description="Runs a program under a seccomp filter.")
    parser.add_argument("--deny", required=True, help=f"of {', '.join(DENIALS)}, separated by commas")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    rules = [rule for name in options.deny.split(",") for rule in DENIALS[name]]
    install(program(rules, NUMBERS[platform.machine()]))
    os.execvp(options.command[0], options.command)


if __name__ == "__main__":
    main()
