"""Reports out of files: one document or NDJSON, plain or compressed, folders of them, standard input.

Nothing is judged here: each text comes with its place, and what could not be read is one Unreadable with its place;
the other files go on.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

import orjson

from reports import compression
from reports.safe_text import printable

STDIN = "-"
_MAX_DEPTH = 64
_UNKNOWN_MODE = 0
_LINE_SUFFIXES = (".ndjson", ".jsonl")
_REPORT_SUFFIXES = tuple(
    suffix + packed for suffix in (".json", *_LINE_SUFFIXES) for packed in ("", ".gz", ".zst", ".zstd")
)


class Place(NamedTuple):
    """Where a text came from; `line` counts from 1 and is None for a document that is the whole file."""

    path: str
    line: int | None = None

    def __str__(self) -> str:
        return printable(self.path) + (f":{self.line}" if self.line else "")


class Found(NamedTuple):
    """A text that should be a report. `raw` holds at most the limit's bytes, `size_bytes` may say more."""

    place: Place
    raw: bytes
    size_bytes: int


class Unreadable(NamedTuple):
    """A file, folder or line that could not be read, and why."""

    place: Place
    detail: str


class Line(NamedTuple):
    """One line without its end; `raw` is cut at the limit, `size_bytes` is its real length."""

    number: int
    raw: bytes
    size_bytes: int


def read_reports(paths: Iterable[str], limit_bytes: int, stdin: IO[bytes]) -> Iterator[Found | Unreadable]:
    """Every text under the paths, in a stable order; folders are searched for names that end in _REPORT_SUFFIXES."""
    for path in paths:
        if path == STDIN:
            yield from _read_stream(path, stdin, limit_bytes)
        elif stat.S_ISDIR(_mode(path)):
            yield from _read_folder(path, limit_bytes)
        else:
            yield from _read_file(path, limit_bytes)


def lines(pieces: Iterable[bytes], limit_bytes: int) -> Iterator[Line]:
    """The lines of a stream, blank ones too: whoever bounds their number has to see them.

    A line longer than the limit is cut and never held whole.
    """
    number, held, size = 1, bytearray(), 0
    for piece in pieces:
        start = 0
        while start < len(piece):
            end = piece.find(b"\n", start)
            stop = len(piece) if end < 0 else end
            held += piece[start : min(stop, start + limit_bytes - len(held))]
            size += stop - start
            start = stop + 1
            if end >= 0:
                yield Line(number, bytes(held), size)
                number, held, size = number + 1, bytearray(), 0
    if size:
        yield Line(number, bytes(held), size)


def _read_folder(folder: str, limit_bytes: int) -> Iterator[Found | Unreadable]:
    found = False
    for item in _walk(folder, ()):
        found = True
        if isinstance(item, Unreadable):
            yield item
        else:
            yield from _read_file(item, limit_bytes)
    if not found:
        yield Unreadable(Place(folder), "holds no file named *.json, *.ndjson or *.jsonl (.gz, .zst)")


def _walk(folder: str, parents: tuple[tuple[int, int], ...]) -> Iterator[str | Unreadable]:
    """Paths of report files under a folder. Links are followed, but never back into a folder above."""
    try:
        status = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        yield Unreadable(Place(folder), _reason(error))
        return
    here = (status.st_dev, status.st_ino)
    if here in parents or len(parents) > _MAX_DEPTH:
        looping = "is a link back to a folder above it" if here in parents else "is nested too deeply"
        yield Unreadable(Place(folder), looping + "; not followed")
        return
    for entry in entries:
        mode = _mode(entry.path)
        if stat.S_ISDIR(mode):
            yield from _walk(entry.path, (*parents, here))
        elif entry.name.endswith(_REPORT_SUFFIXES):
            # A pipe or device in a folder would block its reader; what cannot be asked, the reader reports.
            ordinary = stat.S_ISREG(mode) or mode == _UNKNOWN_MODE
            yield entry.path if ordinary else Unreadable(Place(entry.path), "is no ordinary file")


def _mode(path: str) -> int:
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return _UNKNOWN_MODE


def _read_file(path: str, limit_bytes: int) -> Iterator[Found | Unreadable]:
    try:
        with Path(path).open("rb") as source:
            yield from _read_stream(path, source, limit_bytes)
    except (OSError, ValueError) as error:  # as in _mode; what goes wrong later, _read_stream reports itself
        yield Unreadable(Place(path), _reason(error))


def _read_stream(path: str, source: IO[bytes], limit_bytes: int) -> Iterator[Found | Unreadable]:
    last = Place(path)
    empty = True
    try:
        head = source.read(4)
        decoded = compression.pieces(source, compression.encoding_of(head), head)
        for found in _texts(path, decoded, limit_bytes):
            last, empty = found.place, False
            yield found
    except (OSError, compression.Damaged) as error:
        after = f" (line {last.line} and those before it were read)" if last.line else ""
        yield Unreadable(Place(path), _reason(error) + after)
        return
    if empty:
        yield Unreadable(Place(path), "is empty")


def _texts(path: str, decoded: Iterator[bytes], limit_bytes: int) -> Iterator[Found]:
    beginning = bytearray()
    for piece in decoded:
        beginning += piece
        if len(beginning) > limit_bytes:
            break
    if _is_lines(path, beginning):
        for line in lines(chain([bytes(beginning)], decoded), limit_bytes):
            if line.raw.strip():
                yield Found(Place(path, line.number), line.raw, line.size_bytes)
    elif beginning.strip():
        yield Found(Place(path), bytes(beginning[:limit_bytes]), len(beginning))


def _is_lines(path: str, beginning: bytearray) -> bool:
    """Whether a text is NDJSON: by its name, or because its first line is whole or its second begins an object.

    In a document written over several lines the second line never begins at the margin with a brace.
    """
    if any(mark in Path(path).name for mark in _LINE_SUFFIXES):
        return True
    first, _, rest = bytes(beginning).lstrip().partition(b"\n")
    second = rest.lstrip(b"\r\n")
    return bool(second.strip()) and (second.startswith(b"{") or _is_json(first))


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return f"cannot be read: {printable(str(error))}"
