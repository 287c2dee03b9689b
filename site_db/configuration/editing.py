"""Editing bytes in place: replace some spans, leave every other byte as it is."""

import itertools
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from site_db.configuration.model import BrokenFile
from site_db.rules import Attribute


@dataclass(frozen=True, order=True)
class Edit:
    """Put `new` in the place of the bytes from `start` up to `end`; an insertion where they are equal."""

    start: int
    end: int
    new: bytes


@dataclass(frozen=True)
class Change:
    """One attribute that an entry shall have. `attribute`: how the factories' files write it."""

    entry: str
    attribute: Attribute
    value: str


class CannotEdit(Exception):
    """This change cannot be made by replacing a few bytes; the text says where and why."""


def apply_edits(data: bytes, edits: Iterable[Edit]) -> bytes:
    """The data with all edits made. Insertions at one place keep their order. Raises ValueError if two overlap."""
    pieces, position = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        if edit.start < position:
            raise ValueError(f"edits overlap at byte {edit.start}")
        pieces += [data[position : edit.start], edit.new]
        position = edit.end
    return b"".join([*pieces, data[position:]])


def line_start(data: bytes, offset: int) -> int:
    """Where the line that holds this byte begins."""
    return data.rfind(b"\n", 0, offset) + 1


def line_end(data: bytes, offset: int) -> int:
    """Where the line that holds this byte ends: after its line feed, or at the end of the data."""
    found = data.find(b"\n", offset)
    return len(data) if found < 0 else found + 1


def indentation(data: bytes, offset: int) -> bytes:
    """The blanks that begin the line of this byte, as far as this byte."""
    line = data[line_start(data, offset) : offset]
    return line[: len(line) - len(line.lstrip(b" \t"))]


def eol_near(data: bytes, offset: int) -> bytes:
    """How lines end there: as the line of this byte does, or the one before it."""
    end = line_end(data, offset)
    line = data[:end] if data[:end].endswith(b"\n") else data[: line_start(data, offset)]
    return b"\r\n" if line.endswith(b"\r\n") else b"\n"


def write_with_backup(path: Path, old: bytes, new: bytes) -> Path:
    """Replace a file's content at once, keeping its mode and owner, with the old content beside it (`NAME.bak`, or the first of
    `NAME.bak2`, `NAME.bak3`, ... that is free: what stood there before the first change is not lost with the second).

    A link stays a link. Raises OSError, and BrokenFile where the file is no longer what was read; then the file is as
    it was.
    """
    path = path.resolve()
    if path.read_bytes() != old:
        raise BrokenFile(str(path), "was changed by somebody else meanwhile", "Nothing was written: run it again.")
    names = (f"{path.name}.bak{number if number > 1 else ''}" for number in itertools.count(1))
    backup = next(free for name in names if not os.path.lexists(free := path.with_name(name)))
    _replace(backup, old, path)
    _replace(path, new, path)
    return backup


def _replace(path: Path, content: bytes, like: Path) -> None:
    about = like.stat()
    number, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(number, about.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(number, about.st_uid, about.st_gid)
            os.fsync(number)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def last_of_each(changes: Sequence[Change]) -> list[Change]:
    """The changes with only the last one for each attribute of an entry."""
    return list({(change.entry, change.attribute.name): change for change in changes}.values())
