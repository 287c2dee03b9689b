import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import seccomp

ECHO_ERRNO = "import ctypes, sys; l = ctypes.CDLL(None, use_errno=True); print(eval(sys.argv[1]), ctypes.get_errno())"


def under(denied: str, call: str) -> str:
    """What a C library call returns, and its errno, under a filter."""
    program = [sys.executable, str(Path(seccomp.__file__)), "--deny", denied, "--", sys.executable, "-c", ECHO_ERRNO]
    return subprocess.run([*program, call], capture_output=True, text=True, check=True, timeout=20).stdout.strip()


@pytest.mark.parametrize(
    ("denied", "call", "answer"),
    [
        ("unshare", "l.unshare(0x400)", "-1 1"),
        ("clone_newuser", "l.unshare(0x10000000)", "-1 1"),
        ("clone_newuser", "l.unshare(0x400)", "0 0"),
        ("clone_new_any", "l.unshare(0x400)", "-1 1"),
        ("mount", "l.mount(None, b'/', None, 0x44000, None)", "-1 1"),
        ("unshare,mount", "l.mount(None, b'/', None, 0x44000, None)", "-1 1"),
        ("pivot_root", "l.chroot(b'/nowhere')", "-1 1"),
        ("mount", "l.chdir(b'/nowhere')", "-1 2"),
    ],
)
def test_a_denied_call_gets_eperm_and_others_pass(denied: str, call: str, answer: str):
    assert under(denied, call) == answer


def test_clone3_is_hidden_where_flags_have_to_be_seen():
    assert seccomp.NO_CLONE3 in seccomp.DENIALS["clone_newuser"]
    assert seccomp.NO_CLONE3 in seccomp.DENIALS["clone_new_any"]


def test_a_filter_ends_with_allow():
    code = seccomp.program(seccomp.DENIALS["clone_newuser"], seccomp.NUMBERS["x86_64"])
    assert code.endswith(seccomp.instruction(seccomp.RETURN, seccomp.ALLOW))
