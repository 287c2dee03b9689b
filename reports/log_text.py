"""Blocks in the text of one log, given piece by piece: among its lines, and in the logs that a glidein has encoded into it.

GlideinWMS appends HTCondor's logs and the result of its scripts to a glidein's stderr, each as a section: a line
`begin-base64 MODE NAME`, gzip in base64, a line `====` (`cond_print_log` and `print_tail` in its scripts; `uuencode -m`,
`base64` or Python write it, so lines have 60 or 76 characters).
"""

import binascii
import re
import zlib
from collections.abc import Generator, Iterator

from reports.packed_reports import MARK, Block, Blocks, Broken, Open

# No line of ours is longer; what is longer is looked at in parts.
LINE_LIMIT_BYTES = 1024 * 1024
# HTCondor rotates its logs at some 10 MB; more than this is a bomb.
UNFOLDED_LIMIT_BYTES = 256 * 1024 * 1024
_SECTION_BEGINS, _SECTION_ENDS = b"begin-base64 ", b"===="
_BASE64_LINE = re.compile(rb"[A-Za-z0-9+/=]*")
_PIECE_BYTES = 256 * 1024
TOP = Open(0, 1)


class LogText:
    """The text from `start` on. `feed` all pieces, then `end`; `resume` says where to go on when the log has grown."""

    def __init__(self, start: Open = TOP, *, has_sections: bool = True) -> None:
        self._at = start
        self._carried = b""
        self._blocks = Blocks()
        self._section: _Section | None = None
        self._has_sections = has_sections

    def feed(self, piece: bytes) -> Iterator[Block | Broken]:
        """Take a piece; yields what is complete by it."""
        text = self._carried + piece
        end = text.rfind(b"\n") + 1
        if not end and len(text) > LINE_LIMIT_BYTES:
            end = len(text)
        self._carried = text[end:]
        yield from self._whole_lines(text[:end])
        self._at = Open(self._at.offset + end, self._at.line + text.count(b"\n", 0, end))

    def end(self) -> Iterator[Block | Broken]:
        """The text ends here for now. Its last line may be half written; what is whole of it counts."""
        found = False
        for item in self._whole_lines(self._carried):
            found = True
            yield item
        if found:  # else it would be seen once more, when its line feed has come, and be half a block
            self._at = Open(self._at.offset + self._carried.rfind(b"]") + 1, self._at.line)

    def unfinished(self) -> list[Open]:
        """Where blocks and sections begin whose end has not come."""
        section = [self._section.place] if self._section else []
        return [*section, *self._blocks.open_blocks()]

    def resume(self) -> Open:
        """Where reading has to begin again when there is more."""
        return min([self._at, *self.unfinished()])

    def close(self) -> Iterator[Block | Broken]:
        """Nothing more will come: what is unfinished is damaged."""
        if self._section:
            yield from self._section.cut("is cut off")
            self._section = None
        yield from self._blocks.close()

    def _whole_lines(self, text: bytes) -> Iterator[Block | Broken]:
        offset, number = self._at
        if self._section is None and MARK not in text and _SECTION_BEGINS not in text:
            yield from self._blocks.feed(b"", number, offset + len(text))
            return
        for line in text.removesuffix(b"\n").split(b"\n"):
            if self._section or MARK in line or line.startswith(_SECTION_BEGINS):
                yield from self._line(line, number, offset)
            offset, number = offset + len(line) + 1, number + 1
        yield from self._blocks.feed(b"", number, offset)

    def _line(self, line: bytes, number: int, offset: int) -> Iterator[Block | Broken]:
        if self._section is not None:
            stripped = line.strip()
            if _BASE64_LINE.fullmatch(stripped) and stripped != _SECTION_ENDS:
                yield from self._section.take(stripped)
                return
            section, self._section = self._section, None
            if stripped == _SECTION_ENDS:
                yield from section.close()
                return
            yield from section.cut("has a line of something else in it")
        if self._has_sections and line.startswith(_SECTION_BEGINS):
            self._section = _Section(Open(offset, number))
        else:
            yield from self._blocks.feed(line, number, offset)


class _Section:
    """One encoded log. What is no gzip is not ours and passed over."""

    def __init__(self, place: Open) -> None:
        self.place = place
        self._text = LogText(has_sections=False)
        self._base64 = b""
        self._decoder = zlib.decompressobj(wbits=31)
        self._unfolded_bytes = 0
        self._is_ours: bool | None = None

    def take(self, line: bytes) -> Iterator[Block | Broken]:
        """Take a line of base64."""
        if self._is_ours is False:
            return
        self._base64 += line
        if len(self._base64) >= 65536:
            yield from self._decode()

    def close(self) -> Iterator[Block | Broken]:
        """The section has ended as it should."""
        yield from self._decode()
        if self._is_ours and not self._decoder.eof:
            yield from self.cut("ends in the middle of its gzip data")
            return
        yield from self._found(self._text.end())
        yield from self._found(self._text.close())

    def cut(self, how: str) -> Iterator[Block | Broken]:
        """The section has ended as it should not; what is readable of it counts."""
        if self._is_ours is None:
            yield from self._decode()
        if self._is_ours:
            self._is_ours = False
            yield Broken(self.place.line, f"an encoded log {how}")
            yield from self._found(self._text.end())
            yield from self._found(self._text.close())

    def _decode(self) -> Iterator[Block | Broken]:
        usable = len(self._base64) // 4 * 4
        encoded, self._base64 = self._base64[:usable], self._base64[usable:]
        try:
            data = binascii.a2b_base64(encoded)
            if self._is_ours is None:
                self._is_ours = data.startswith(b"\x1f\x8b")
            while data and self._is_ours:
                data = yield from self._unfold(data)
        except (binascii.Error, zlib.error) as error:
            yield from self.cut(f"is damaged ({error})")

    def _unfold(self, data: bytes) -> Generator[Block | Broken, None, bytes]:
        if self._decoder.eof:  # `gzip --stdout A B`: one after the other
            self._decoder = zlib.decompressobj(wbits=31)
        piece = self._decoder.decompress(data, _PIECE_BYTES)
        self._unfolded_bytes += len(piece)
        if self._unfolded_bytes > UNFOLDED_LIMIT_BYTES:
            yield from self.cut(f"unfolds to more than {UNFOLDED_LIMIT_BYTES} bytes")
            return b""
        yield from self._found(self._text.feed(piece))
        return self._decoder.unused_data or self._decoder.unconsumed_tail

    def _found(self, items: Iterator[Block | Broken]) -> Iterator[Block | Broken]:
        for item in items:
            if isinstance(item, Broken):
                yield Broken(self.place.line, f"in line {item.line} of an encoded log: {item.detail}")
            else:
                yield Block(self.place.line, item.raw)
