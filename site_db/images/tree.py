"""A way into an image's file tree that never leaves it: links are resolved inside, as they are when it runs.

Only ordinary files are opened: a device, a FIFO or a socket in an image is seen and passed over.
"""

import errno
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Kind = Literal["file", "folder", "link", "other"]
_LINKS_LIMIT = 40  # as the kernel's
_NAMES_LIMIT = 4096
_ENTRIES_LIMIT = 5_000_000


class Entry(NamedTuple):
    """One name in an image. `target` of a link, `size_bytes` of a file."""

    kind: Kind
    size_bytes: int = 0
    target: str = ""


class TooLarge(Exception):
    """A file that is larger than what may be read of it."""


class Tree(Protocol):
    """A file tree. Paths are absolute, in the image, and without links but perhaps the last step."""

    def look(self, path: str) -> Entry | None:
        """What is at a path; None where nothing is, or nothing can be seen."""
        ...

    def names(self, path: str) -> list[str]:
        """The names in a folder; none where there is no folder."""
        ...

    def content(self, path: str, size_bytes: int) -> bytes:
        """The content of a file of that size."""
        ...


def resolve(look: Callable[[str], Entry | None], path: str) -> str | None:
    """The path without any link; None where it ends nowhere. `..` at the top stays at the top, as in a chroot."""
    done, left, links = "/", [step for step in path.split("/") if step], 0
    while left:
        step = left.pop(0)
        if step in (".", ".."):
            done = posixpath.dirname(done) if step == ".." else done
            continue
        here = posixpath.join(done, step)
        entry = look(here)
        if entry is None:
            return None
        if entry.kind != "link":
            done = here
            continue
        links += 1
        if links > _LINKS_LIMIT:
            return None
        left = [word for word in entry.target.split("/") if word] + left
        done = "/" if entry.target.startswith("/") else done
    return done


def read(tree: Tree, path: str, limit_bytes: int) -> bytes | None:
    """The content of an ordinary file, links resolved; None where there is none. Raises TooLarge."""
    real = resolve(tree.look, path)
    entry = tree.look(real) if real else None
    if real is None or entry is None or entry.kind != "file":
        return None
    if entry.size_bytes > limit_bytes:
        raise TooLarge(f"{path} has {entry.size_bytes} bytes; at most {limit_bytes} are read")
    return tree.content(real, entry.size_bytes)


def folder(tree: Tree, path: str) -> list[str]:
    """The names in a folder, sorted, links to it resolved; none where there is no folder."""
    real = resolve(tree.look, path)
    return sorted(tree.names(real)) if real else []


class FolderTree:
    """An image that is a folder. Every step is taken from the folder before it, so no link is followed unseen."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def look(self, path: str) -> Entry | None:
        """See Tree."""
        try:
            with self._at(path) as descriptor:
                found = os.fstat(descriptor)
                if stat.S_ISLNK(found.st_mode):
                    return Entry("link", target=os.readlink("", dir_fd=descriptor))
        except OSError:
            return None
        kinds: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "folder"}
        return Entry(kinds.get(stat.S_IFMT(found.st_mode), "other"), found.st_size)

    def names(self, path: str) -> list[str]:
        """See Tree."""
        try:
            with self._at(path) as descriptor, os.scandir(f"/proc/self/fd/{descriptor}") as entries:
                return [entry.name for entry in islice(entries, _NAMES_LIMIT)]
        except OSError:
            return []

    def content(self, path: str, size_bytes: int) -> bytes:
        """See Tree."""
        with self._at(path) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # changed since it was looked at
                raise OSError(errno.EINVAL, "no ordinary file", path)
            with open(f"/proc/self/fd/{descriptor}", "rb") as stream:  # noqa: PTH123 - a descriptor is no path
                return stream.read(size_bytes)

    @contextmanager
    def _at(self, path: str) -> Iterator[int]:
        """A descriptor that only names what is at a path: opened so, a device or a FIFO does nothing."""
        opened = os.open(self._root, os.O_PATH | os.O_CLOEXEC)
        try:
            for step in path.split("/"):
                if step:
                    below = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=opened)
                    os.close(opened)
                    opened = below
            yield opened
        finally:
            os.close(opened)


def size_on_disk(root: Path, limit_s: float) -> int | None:
    """Bytes that a folder takes on disk, so that a sparse file counts as what it has; None beyond the limits."""
    total, count, end = 0, 0, time.monotonic() + limit_s
    waiting = [os.fspath(root)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:  # a folder that may not be read, or lies deeper than a path can name
            return None
        if count > _ENTRIES_LIMIT or time.monotonic() > end:
            return None
    return total
