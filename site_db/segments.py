"""Segments: files that only grow, in which accepted reports are durable before the database has them.

A segment is a row of frames; one frame holds the reports of one group, as the texts that came:

    4 bytes  "SDf1"      what this is
    4 bytes  reports     their number
    4 bytes  size        of the packed texts
    8 bytes  received    when they came, microseconds since 1970
    4 bytes  CRC-32      of what follows
    16 bytes a report    their ids
    size                 the texts packed (zstd), each after its length (4 bytes)

All numbers are little-endian. Whoever dies while writing leaves a torn end, which the CRC tells: nobody was told that those
reports are kept.
"""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import zstandard

SUFFIX = ".reports"
# What is kept beside segments for people to look at: a damaged one, and a report that could not be stored.
DAMAGED_SUFFIX, ASIDE_SUFFIX = ".damaged", ".json"
_HEAD = struct.Struct("<4sIIQI")
_LENGTH = struct.Struct("<I")
_MAGIC = b"SDf1"
_ID_BYTES = 16
# One report has at most some MiB, a frame a few hundred: what claims more is no frame.
_UNPACKED_LIMIT = 1 << 30
_LEVEL = 1


class Damaged(Exception):
    """A frame that is not what was written."""


class Frame(NamedTuple):
    """Where a frame is, and how many reports it holds."""

    path: str
    offset: int
    size: int
    reports: int


class Contents(NamedTuple):
    """What a frame holds: when the reports came (microseconds), their ids and texts, in the same order."""

    received_at: int
    ids: list[bytes]
    texts: list[bytes]


class Segment:
    """One growing file of this process. An OSError (a full disk) leaves it as it was, or it is not to be used any more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)  # to make one takes as long as to pack ten reports
        self.size = 0
        self.is_broken = False
        try:
            flush_folder(path.parent)
        except OSError:
            os.close(self._file)
            path.unlink(missing_ok=True)
            raise

    def append(self, received_at: int, ids: Sequence[bytes], texts: Sequence[bytes]) -> Frame:
        """Write a frame; it is not durable before flush()."""
        data = _packed(self._compressor, received_at, ids, texts)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._file, data[written:], self.size + written)
        except OSError:
            self._cut(self.size)
            raise
        frame = Frame(str(self.path), self.size, len(data), len(ids))
        self.size += len(data)
        return frame

    def flush(self) -> None:
        """Return when all is on disk. After a failure nobody knows what is: the segment is not used any more."""
        try:
            os.fdatasync(self._file)
        except OSError:
            self.is_broken = True
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._file, size)
        except OSError:
            self.is_broken = True


def read(frame: Frame) -> Contents:
    """What a frame holds. Raises Damaged, OSError."""
    with Path(frame.path).open("rb") as source:
        source.seek(frame.offset)
        data = source.read(frame.size)
    received_at, ids, packed = _checked(data)
    try:
        unpacked = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_UNPACKED_LIMIT)
    except zstandard.ZstdError as error:
        raise Damaged(f"{frame.path}: {error} at byte {frame.offset}") from error
    return Contents(received_at, ids, list(_texts(unpacked)))


def frames(path: Path) -> Iterator[tuple[Frame, list[bytes]]]:
    """The whole frames of a segment with their ids, those behind a damaged place too. Raises OSError."""
    data = path.read_bytes()
    offset = data.find(_MAGIC)
    while offset >= 0:
        size = _claimed_size(data, offset)
        try:
            _, ids, _ = _checked(data[offset : offset + size])
        except Damaged:
            offset = data.find(_MAGIC, offset + 1)
        else:
            yield Frame(str(path), offset, size, len(ids)), ids
            offset = data.find(_MAGIC, offset + size)


def damaged_bytes(path: Path, whole: Sequence[Frame]) -> int:
    """How much of a segment was written and is no frame any more: all between its frames, and a last one that has its
    length. An end that is shorter was torn when its writer died. Raises OSError."""
    data = path.read_bytes()
    end = whole[-1].offset + whole[-1].size if whole else 0
    between = end - sum(frame.size for frame in whole)
    rest = len(data) - end
    return between + (rest if rest and _claimed_size(data, end) == rest else 0)


def keep_damaged(path: str) -> None:
    """A segment that is to be removed stays under another name, for people to look at."""
    with contextlib.suppress(OSError):
        os.link(path, path + DAMAGED_SUFFIX)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file that is whole and on disk, or not there. Raises OSError."""
    aside = path.with_name(f"{path.name}.new")
    with aside.open("wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())
    aside.rename(path)
    flush_folder(path.parent)


def _packed(
    compressor: zstandard.ZstdCompressor, received_at: int, ids: Sequence[bytes], texts: Sequence[bytes]
) -> bytes:
    together = b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))
    packed = compressor.compress(together)
    body = b"".join(ids) + packed
    return _HEAD.pack(_MAGIC, len(ids), len(packed), received_at, zlib.crc32(body)) + body


def _claimed_size(data: bytes, offset: int) -> int:
    """How long the frame here says that it is; 0 where there is no whole head."""
    if len(data) - offset < _HEAD.size:
        return 0
    magic, reports, size, _, _ = _HEAD.unpack_from(data, offset)
    return _HEAD.size + reports * _ID_BYTES + size if magic == _MAGIC else 0


def _checked(data: bytes) -> tuple[int, list[bytes], bytes]:
    if len(data) < _HEAD.size:
        raise Damaged("a frame ends early")
    magic, reports, size, received_at, crc = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    if magic != _MAGIC or len(body) != reports * _ID_BYTES + size or zlib.crc32(body) != crc:
        raise Damaged("a frame is not what was written")
    end = reports * _ID_BYTES
    return received_at, [body[at : at + _ID_BYTES] for at in range(0, end, _ID_BYTES)], body[end:]


def _texts(unpacked: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(unpacked):
        [length] = _LENGTH.unpack_from(unpacked, at)
        at += _LENGTH.size
        yield unpacked[at : at + length]
        at += length


def flush(path: Path) -> None:
    """Return when a segment that another process wrote is on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """A new file is there after a crash only if its folder is on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
