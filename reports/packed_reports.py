"""Reports that probes have packed into text (probe/packing.py): blocks among the lines of a log, attributes of an ad.

The text is anybody's. What is held in memory is bounded, and what comes out is bytes that should be a report; nothing
in them is judged here.
"""

import binascii
import re
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from reports.intake import REPORT_LIMIT_BYTES

# So far below its beginning the rest of a block is waited for. This bounds what is held as well: all data of open
# blocks lies in this window.
WINDOW_BYTES = 8 * 1024 * 1024
# Longer attributes exist in no ad: HTCondor loses lines of 64 KiB.
ATTRIBUTE_LIMIT_CHARACTERS = 8 * 1024 * 1024
MARK = b"[probe:"
_PIECE = re.compile(
    rb"\[probe:([0-9a-f]{8}):(?:begin:([1-9][0-9]{0,5}):([1-9][0-9]{0,7})|(end)|([1-9][0-9]{0,5}):([A-Za-z0-9_-]{1,512}))\]"
)
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


class NotPacked(Exception):
    """Data that is no packed report, or a damaged one; the text says what is wrong."""


class Block(NamedTuple):
    """A whole block. `line` is the number of its first line."""

    line: int
    raw: bytes


class Broken(NamedTuple):
    """A block that can't be put together, and why. `line` is where it begins, or where the first of it was seen."""

    line: int
    detail: str


class Open(NamedTuple):
    """A block whose end has not been seen: where it begins, in bytes and lines of its stream."""

    offset: int
    line: int


class _Parts:
    def __init__(self, place: Open, count: int, size_bytes: int) -> None:
        self.place, self.count, self.size_bytes = place, count, size_bytes
        self.texts: dict[int, bytes] = {}


class Blocks:
    """Puts blocks together out of one stream's lines, given in their order."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Parts] = {}
        self._past = b""  # the last block that was ended or given up: more of its lines may come

    def open_blocks(self) -> list[Open]:
        """Blocks that have begun and not ended, the first one first."""
        return sorted(parts.place for parts in self._open.values())

    def feed(self, line: bytes, number: int, offset: int) -> Iterator[Block | Broken]:
        """Take one line; `number` counts from 1, `offset` is where it begins. Yields what is complete by it."""
        yield from self._forget_old(offset)
        if MARK not in line:
            return
        for match in _PIECE.finditer(line):
            name, count, size, end, part, text = match.groups()
            if count:
                yield from self._begin(name, int(count), int(size), Open(offset, number))
            elif name not in self._open:
                yield from self._without_beginning(name, number)
            elif end:
                self._past = name
                yield _complete(name, self._open.pop(name))
            elif int(part) <= self._open[name].count:
                self._open[name].texts.setdefault(int(part), text)

    def close(self) -> Iterator[Broken]:
        """Nothing more will come: each open block is one that was cut off."""
        for place in self.open_blocks():
            yield Broken(place.line, "the block is cut off: its end is missing")
        self._open.clear()

    def _begin(self, name: bytes, count: int, size_bytes: int, place: Open) -> Iterator[Broken]:
        if size_bytes > REPORT_LIMIT_BYTES:
            yield Broken(place.line, f"the block claims {size_bytes} bytes, more than a report may have")
        elif name not in self._open:
            self._open[name] = _Parts(place, count, size_bytes)

    def _without_beginning(self, name: bytes, number: int) -> Iterator[Broken]:
        if name != self._past:  # said once for all its lines
            yield Broken(number, "the block has no beginning in this file")
        self._past = name

    def _forget_old(self, offset: int) -> Iterator[Broken]:
        # Blocks are held in the order in which they began, so looking at the first one is enough.
        while self._open:
            name, parts = next(iter(self._open.items()))
            if offset - parts.place.offset <= WINDOW_BYTES:
                return
            del self._open[name]
            self._past = name
            yield Broken(parts.place.line, f"the block is cut off: no end within {WINDOW_BYTES} bytes")


def _complete(name: bytes, parts: _Parts) -> Block | Broken:
    line = parts.place.line
    missing = parts.count - len(parts.texts)
    if missing:
        return Broken(line, f"the block lacks {missing} of its {parts.count} lines")
    try:
        data = _decoded(b"".join(parts.texts[number] for number in range(1, parts.count + 1)))
        if len(data) != parts.size_bytes or zlib.crc32(data) != int(name, 16):
            raise NotPacked("its checksum is wrong")
        return Block(line, _decompressed(data))
    except NotPacked as error:
        return Broken(line, f"the block is damaged: {error}")


def unpacked_attribute(text: str) -> bytes:
    """The report in an attribute's value. Raises NotPacked."""
    form, separator, data = text.partition(":")
    if form != "1" or not separator:
        raise NotPacked("it is not of the form that this release reads (1:...)")
    if len(data) > ATTRIBUTE_LIMIT_CHARACTERS:
        raise NotPacked(f"it is longer than {ATTRIBUTE_LIMIT_CHARACTERS} characters")
    if not re.fullmatch("[A-Za-z0-9_-]+", data):
        raise NotPacked("it has characters that base64 does not have")
    return _decompressed(_decoded(data.encode("ascii")))


def _decoded(text: bytes) -> bytes:
    padded = text.translate(_TO_STANDARD) + b"=" * (-len(text) % 4)
    try:
        return binascii.a2b_base64(padded)
    except binascii.Error as error:
        raise NotPacked("its base64 ends in the middle") from error


def _decompressed(data: bytes) -> bytes:
    decoder = zlib.decompressobj()
    try:
        raw = decoder.decompress(data, REPORT_LIMIT_BYTES + 1)
    except zlib.error as error:
        raise NotPacked(f"its compressed data is broken ({error})") from error
    if len(raw) > REPORT_LIMIT_BYTES:
        raise NotPacked(f"it unfolds to more than {REPORT_LIMIT_BYTES} bytes")
    if not decoder.eof or decoder.unused_data:
        raise NotPacked("its compressed data " + ("has something behind it" if decoder.eof else "ends early"))
    return raw
