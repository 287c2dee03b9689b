"""Whether there is room: looked at once a second, so that a full disk refuses reports before it breaks a commit."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_LOOK_EVERY_S = 1.0


class Disk:
    """The free bytes of the fullest of some folders on this machine, and whether they are enough (`least` bytes)."""

    def __init__(self, folders: Sequence[Path], least: int, free_bytes: Callable[[Path], int] | None = None) -> None:
        self._folders = folders
        self._least = least
        self._free_bytes = free_bytes or _free_bytes
        self._looked_at = float("-inf")
        self._free = 0

    @property
    def free_bytes(self) -> int:
        """Free to an ordinary user, in the folder that has least; at most a second old."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._free = min(map(self._free_bytes, self._folders))
            self._looked_at = now
        return self._free

    @property
    def is_short(self) -> bool:
        """Whether less than the least is free."""
        return self._least > 0 and self.free_bytes < self._least


def _free_bytes(folder: Path) -> int:
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0  # gone or broken: nothing can be written there
    return found.f_bavail * found.f_frsize
