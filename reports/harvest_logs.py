"""Reports out of a folder of glidein logs: only what is new since the last harvest, in bounded memory.

The folder is written by strangers' jobs: links are never followed, nothing but ordinary files is opened, and whatever
stands in them is at most damage with a place.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

from reports import compression
from reports.harvest_state import HEAD_BYTES, HarvestState, LogState, fingerprint
from reports.log_text import TOP, LogText
from reports.packed_reports import Block, Broken, Open
from reports.reading import Found, Place, Unreadable

_PIECE_BYTES = 256 * 1024
# A log that was not written to for so long is not written to any more: what is unfinished in it is damaged.
SETTLED_S = 3600
_SAVED_TOGETHER = 500
# A compressed log unfolds to so much at most: logs to ten or twenty times their size, a bomb to thousands.
_UNFOLDED_LIMIT_BYTES = 16 * 1024 * 1024
_UNFOLDED_TIMES = 200


class _Bomb(Exception):
    """A compressed log that unfolds to more than any log."""


@dataclass
class Counts:
    """What was seen; `unfinished` are places of blocks that may still be being written."""

    files: int = 0
    unchanged: int = 0
    read_bytes: int = 0
    blocks: int = 0
    damaged: int = 0
    unreadable: int = 0
    links: int = 0
    unfinished: list[Place] = field(default_factory=list)


@dataclass
class _Log:
    """One file on its way through: where it is, how it is now, how it was."""

    path: str
    status: os.stat_result
    earlier: LogState | None


class LogHarvest:
    """One pass over a folder. Iterate `items`, store what they are, and call `stored` whenever all so far is durable."""

    def __init__(
        self, folder: Path, state: HarvestState, names: Sequence[str] = (), now: Callable[[], float] = time.time
    ) -> None:
        self.counts = Counts()
        self._folder, self._state, self._names, self._now = os.fspath(folder.resolve()), state, names, now
        self._present: set[bytes] = set()
        self._finished: list[LogState] = []
        self._is_durable = True

    def items(self, on_file: Callable[[], None] = lambda: None) -> Iterator[Found | Unreadable]:
        """Every whole block as a text to store, every damaged one and every unreadable file with its place.

        `on_file` is called after each file, whatever was in it.
        """
        errors: list[OSError] = []
        for folder, folders, names, descriptor in os.fwalk(self._folder, onerror=errors.append):
            folders.sort()
            for name in sorted(names):
                if not self._names or any(fnmatch(name, pattern) for pattern in self._names):
                    yield from self._look(f"{folder}/{name}", name, descriptor)
                    on_file()
            self.counts.links += sum(Path(folder, name).is_symlink() for name in folders)
        for error in errors:
            yield self._unreadable(str(error.filename), error)
        if not (self._names or errors):  # else what was not seen may still be there
            self._state.forget_others(self._present)

    def stored(self) -> None:
        """All items so far are durable: the logs that were finished need not be read again."""
        self._is_durable = True
        self._state.save(self._finished)
        self._finished.clear()

    def _look(self, path: str, name: str, folder: int) -> Iterator[Found | Unreadable]:
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                self.counts.links += stat.S_ISLNK(status.st_mode)
                return
            self.counts.files += 1
            self._present.add(os.fsencode(path))
            log = _Log(path, status, self._state.find(os.fsencode(path), status.st_ino))
            if _is_unchanged(log):
                self.counts.unchanged += 1
                return
            # Not a link or a pipe either that took its place a moment ago.
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            with os.fdopen(opened, "rb") as source:
                yield from self._read(log, source)
        except FileNotFoundError:  # removed while we look: a factory cleans up
            return
        except OSError as error:
            yield self._unreadable(path, error)

    def _read(self, log: _Log, source: IO[bytes]) -> Iterator[Found | Unreadable]:
        beginning = source.read(HEAD_BYTES)
        encoding = compression.encoding_of(beginning[:4])
        start = _start(log, beginning) if encoding == "identity" else TOP
        text = LogText(start)
        if encoding == "identity":
            source.seek(start.offset)
        if encoding == "identity":
            pieces = _pieces(source)
        else:
            limit = max(_UNFOLDED_LIMIT_BYTES, _UNFOLDED_TIMES * log.status.st_size)
            pieces = _bounded(compression.pieces(source, encoding, beginning), limit)
        is_settled = self._now() - log.status.st_mtime > SETTLED_S
        unfinished = []
        try:
            for piece in pieces:
                self.counts.read_bytes += len(piece)
                yield from self._told(log.path, text.feed(piece))
        except compression.Damaged as error:  # cut off for good, or still being written
            unfinished.append(Place(log.path))
            if is_settled:
                yield self._unreadable(log.path, error)
        except _Bomb as error:
            is_settled = True  # not read once more, whatever is added to it
            yield self._unreadable(log.path, error)
        yield from self._told(log.path, text.end())
        unfinished += [Place(log.path, place.line) for place in text.unfinished()]
        if is_settled:
            yield from self._told(log.path, text.close())
        else:
            self.counts.unfinished += unfinished
        size = -1 if unfinished and not is_settled else log.status.st_size
        self._finish(log, beginning, size, text.resume())

    def _finish(self, log: _Log, beginning: bytes, size: int, resume: Open) -> None:
        head = (len(beginning), fingerprint(beginning))
        status = log.status
        self._finished.append(LogState(os.fsencode(log.path), status.st_ino, size, status.st_mtime_ns, *head, *resume))
        if self._is_durable and len(self._finished) >= _SAVED_TOGETHER:
            self.stored()

    def _told(self, path: str, found: Iterator[Block | Broken]) -> Iterator[Found | Unreadable]:
        for item in found:
            place = Place(path, item.line)
            if isinstance(item, Block):
                self.counts.blocks += 1
                self._is_durable = False
                yield Found(place, item.raw, len(item.raw))
            else:
                self.counts.damaged += 1
                yield Unreadable(place, item.detail)

    def _unreadable(self, path: str, error: Exception) -> Unreadable:
        self.counts.unreadable += 1
        detail = error.strerror if isinstance(error, OSError) else str(error)
        return Unreadable(Place(path), f"cannot be read: {detail}")


def size_of(folder: Path) -> int:
    """Bytes in all files of a folder, for a progress bar."""
    total = 0
    for _, _, names, descriptor in os.fwalk(folder):
        for name in names:
            try:
                total += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_size
            except OSError:  # gone, or not ours to see: the harvest says so
                continue
    return total


def _is_unchanged(log: _Log) -> bool:
    earlier = log.earlier
    if earlier is None or earlier.path != os.fsencode(log.path):
        return False
    return (earlier.size, earlier.mtime_ns) == (log.status.st_size, log.status.st_mtime_ns)


def _start(log: _Log, beginning: bytes) -> Open:
    """Where to begin: behind what was read already, if this is that log and it has not been emptied meanwhile."""
    earlier = log.earlier
    if earlier is None or log.status.st_size < earlier.offset or not earlier.begins_like(beginning):
        return TOP
    return Open(earlier.offset, earlier.line)


def _bounded(pieces: Iterator[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > limit:
            raise _Bomb(f"it unfolds to more than {limit} bytes; the rest is not read")
        yield piece


def _pieces(source: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: source.read(_PIECE_BYTES), b"")
