"""Children of earlier runs that were killed and have not died: the kernel's process table remembers what hung.

A worker carries the hash of what it touches as its name. A process of ours with such a name and SIGKILL pending hangs in
the kernel since an earlier run: what it touched is not touched again, so that periodic runs pile up nothing.
"""

import os
import time
import zlib
from typing import List, Set, Tuple

PREFIX = "sp!"
SIGKILL_PENDING = 1 << 8
# What a killed process gets to die in before it is taken for one that hangs.
DYING_S = 0.1


def name_of(what: str) -> str:
    """The process name (15 bytes at most) for something to touch."""
    data = what.encode("utf-8", "replace")
    return "{}{:08x}{:04x}".format(PREFIX, zlib.crc32(data), zlib.adler32(data) & 0xFFFF)


def set_name(what: str) -> None:
    """Name the present process after what it is going to touch."""
    try:
        with open("/proc/self/comm", "w") as stream:
            stream.write(name_of(what))
    except OSError:  # an outer container's /proc: we remember nothing there
        pass


def find() -> Set[str]:
    """Names of our processes that were killed and still are there."""
    found = _killed()
    if found:  # another glidein's run on this node may be at its end just now
        time.sleep(DYING_S)
        found &= _killed()
    return {name for _, name in found}


def _killed() -> Set[Tuple[str, str]]:
    """(id, name) of those that were killed and have not gone."""
    found = set()
    for pid in _own_processes():
        name = _read("/proc/{}/comm".format(pid)).rstrip("\n")
        if name.startswith(PREFIX) and _was_killed(pid):
            found.add((pid, name))
    return found


def _own_processes() -> List[str]:
    """Ids of our user's processes; the others of a busy node, thousands at times, need no more than a look at their owner."""
    own: List[str] = []
    try:
        entries = list(os.scandir("/proc"))
    except OSError:  # a bare chroot
        return own
    for entry in entries:
        try:
            if entry.name.isdecimal() and entry.stat().st_uid == os.geteuid():
                own.append(entry.name)
        except OSError:  # it ended meanwhile
            pass
    return own


def _was_killed(pid: str) -> bool:
    fields = dict(line.split(":", 1) for line in _read("/proc/{}/status".format(pid)).splitlines() if ":" in line)
    pending = int(fields.get("SigPnd", "0"), 16) | int(fields.get("ShdPnd", "0"), 16)
    return bool(pending & SIGKILL_PENDING) and fields.get("Uid", "").split()[:1] == [str(os.getuid())]


def _read(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return stream.read(4096).decode("utf-8", "replace")
    except OSError:  # it ended meanwhile
        return ""
