"""System calls that Python's os module lacks before 3.12: unshare, mount, prctl; by ctypes on the C library already loaded.

Each returns 0 or the errno; none raises. ``ENOSYS`` is returned where ctypes or the symbol is missing, so that
"cannot be tried here" and "the kernel refused" stay apart.
"""

import errno
import os
from typing import Any, Callable, Optional

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEWIPC = 0x08000000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_REC, MS_PRIVATE, MS_BIND = 0x4000, 0x40000, 0x1000

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_library: Any = None


def _symbol(name: str) -> Optional[Callable[..., int]]:
    global _library  # loaded once: ctypes costs some milliseconds, and a forked child must not load it again
    if _library is None:
        try:
            import ctypes

            _library = ctypes.CDLL(None, use_errno=True)
        except (ImportError, OSError):  # a Python built without libffi, or a static one
            _library = False
    return getattr(_library, name, None) if _library else None


def _call(name: str, *arguments: Any) -> int:
    function = _symbol(name)
    if function is None:
        return errno.ENOSYS
    import ctypes

    ctypes.set_errno(0)
    return 0 if function(*arguments) == 0 else ctypes.get_errno()


def load() -> bool:
    """Load the C library now, before any fork; False where this Python cannot."""
    return _symbol("prctl") is not None


def unshare(flags: int) -> int:
    """Leave the namespaces named by CLONE_* flags; returns 0 or the errno."""
    return _call("unshare", flags)


def mount(source: str, target: str, filesystem: Optional[str], flags: int, options: Optional[str] = None) -> int:
    """mount(2); returns 0 or the errno."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, filesystem, options)]
    import ctypes

    return _call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])


def prctl(option: int, value: int) -> int:
    """prctl(2) with one argument; returns 0 or the errno."""
    import ctypes

    zero = ctypes.c_ulong(0)
    return _call("prctl", option, ctypes.c_ulong(value), zero, zero, zero)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send us the signal when our parent dies (lost on exec of a setuid program)."""
    if load():
        prctl(PR_SET_PDEATHSIG, signal_number)


def adopt_orphans() -> bool:
    """Become the parent of descendants whose parent dies, so that none of them can get away; Linux 3.4 and later."""
    return load() and prctl(PR_SET_CHILD_SUBREAPER, 1) == 0
