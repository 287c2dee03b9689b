"""A folder that becomes read-only, or full, under programs that have files open in it: a FUSE file system over another folder.

A real remount is refused while files are open for writing, and a bind mount that is made read-only lets those files be.
Run as a program it serves until it is unmounted; the class is for the campaign.
"""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

STATES = {"ok": 0, "full": errno.ENOSPC, "readonly": errno.EROFS}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class FailingFolder:
    """A folder whose `state` can be set to one of STATES at any moment."""

    def __init__(self) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="failing-folder-"))
        self.path = self._base / "mount"
        for name in ("mount", "below"):
            (self._base / name).mkdir()
        self.set("ok")
        command = [sys.executable, __file__, str(self._base / "below"), str(self.path), str(self._base / "state")]
        self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        from campaign.programs import until  # not for the program that serves

        until(self.path.is_mount, "mounting a FUSE file system", 20)

    def set(self, state: str) -> None:
        new = self._base / "state.new"
        new.write_text(state)
        new.replace(self._base / "state")

    def remove(self) -> None:
        subprocess.run(["fusermount3", "-u", "-z", str(self.path)], check=False)
        self._server.wait(20)
        shutil.rmtree(self._base, ignore_errors=True)


class FileSystem:
    """The calls, as libfuse's high-level interface names them."""

    use_ns = True  # mfusepy: times are integers in nanoseconds

    def __init__(self, below: Path, state: Path) -> None:
        self._below = below
        self._state = state

    def _changing(self) -> None:
        if number := STATES[self._state.read_text()]:
            raise OSError(number, os.strerror(number))

    def _real(self, path: str) -> Path:
        return self._below / path.lstrip("/")

    def getattr(self, path: str, handle: int | None = None) -> dict[str, int]:
        status = self._real(path).lstat() if handle is None else os.fstat(handle)
        fields = ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_ino")
        times = {f"st_{kind}time": getattr(status, f"st_{kind}time_ns") for kind in "amc"}
        return {**{field: getattr(status, field) for field in fields}, **times}

    def readdir(self, path: str, _handle: int) -> list[str]:
        return [".", "..", *(each.name for each in self._real(path).iterdir())]

    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._real(path))
        names = (
            "f_bavail",
            "f_bfree",
            "f_blocks",
            "f_bsize",
            "f_favail",
            "f_ffree",
            "f_files",
            "f_frsize",
            "f_namemax",
        )
        return {name: getattr(found, name) for name in names}

    def open(self, path: str, flags: int) -> int:
        if flags & _WRITES:
            self._changing()
        return os.open(self._real(path), flags)

    def create(self, path: str, mode: int, _info: Any = None) -> int:  # noqa: ANN401 - mfusepy's types need libfuse
        self._changing()
        return os.open(self._real(path), os.O_RDWR | os.O_CREAT, mode)

    def read(self, _path: str, size: int, offset: int, handle: int) -> bytes:
        return os.pread(handle, size, offset)

    def write(self, _path: str, data: bytes, offset: int, handle: int) -> int:
        self._changing()
        return os.pwrite(handle, data, offset)

    def truncate(self, path: str, length: int, handle: int | None = None) -> int:
        self._changing()
        os.truncate(self._real(path) if handle is None else handle, length)
        return 0

    def fsync(self, _path: str, _datasync: int, handle: int) -> int:
        os.fsync(handle)
        return 0

    def fsyncdir(self, _path: str, _datasync: int, _handle: int) -> int:
        return 0

    def flush(self, _path: str, _handle: int) -> int:
        return 0

    def release(self, _path: str, handle: int) -> int:
        os.close(handle)
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        self._changing()
        self._real(path).mkdir(mode)
        return 0

    def unlink(self, path: str) -> int:
        self._changing()
        self._real(path).unlink()
        return 0

    def rename(self, old: str, new: str) -> int:
        self._changing()
        self._real(old).rename(self._real(new))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        self._changing()
        self._real(path).chmod(mode)
        return 0


def serve(below: Path, mountpoint: Path, state: Path) -> None:
    os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")  # mfusepy would prefer libfuse 2 where both are installed
    import mfusepy  # only the server needs libfuse

    mfusepy.FUSE(FileSystem(below, state), str(mountpoint), foreground=True, fsname="failing-folder", nodev=True)


if __name__ == "__main__":
    serve(*map(Path, sys.argv[1:]))
