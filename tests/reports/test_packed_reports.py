"""Packed reports: what the probe packs is read again, whatever a log does to it; damage is told; nothing unfolds."""

import json
import random
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import packing
from reports import packed_reports
from reports.packed_reports import Block, Blocks, Broken, NotPacked, Open, unpacked_attribute
from tests.sample_reports import sample_report

REPORT = sample_report("healthy")
LINES = packing.block(REPORT).encode().splitlines()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
documents = st.dictionaries(st.text(max_size=12), json_values, max_size=8)


def read(lines: Iterable[bytes], *, close: bool = True) -> list[Block | Broken]:
    blocks, found, offset = Blocks(), [], 0
    for number, line in enumerate(lines, 1):
        found += blocks.feed(line, number, offset)
        offset += len(line) + 1
    return [*found, *blocks.close()] if close else found


@given(documents)
def test_any_document_comes_back_from_a_block(document: dict[str, object]):
    [found] = read(packing.block(document).encode().splitlines())
    assert isinstance(found, Block)
    assert json.loads(found.raw) == document


@given(documents)
def test_any_document_comes_back_from_an_attribute(document: dict[str, object]):
    text = packing.attribute(document)
    assert text is not None
    assert json.loads(unpacked_attribute(text)) == document


def test_the_lines_of_a_block_are_short_and_plain():
    assert len(LINES) > 5
    assert max(map(len, LINES)) < 256
    assert all(line.isascii() and line.decode().isprintable() for line in LINES)
    assert not any(line.startswith((b"-", b"=", b"begin")) for line in LINES)


def test_an_attribute_is_one_short_string_that_needs_no_escape():
    text = packing.attribute(REPORT)
    assert text is not None
    assert len(text) <= packing.ATTRIBUTE_LIMIT_BYTES < 64 * 1024
    assert text.isascii()
    assert not set(text) & set('"\\ \n')


def test_a_report_that_does_not_fit_is_no_attribute():
    text = packing.attribute(REPORT)
    assert text is not None
    assert packing.attribute(REPORT, len(text)) == text
    assert packing.attribute(REPORT, len(text) - 1) is None
    big = dict(REPORT, noise="".join(random.Random(1).choices("0123456789abcdef", k=200_000)))
    assert packing.attribute(big) is None


LOGS = {
    "time stamps before each line": [b"2026-11-20T10:00:00Z stdout F " + line for line in LINES],
    "HTCondor's own prefix": [b"11/20/26 10:00:00 (pid:7) job (stderr): " + line for line in LINES],
    "CR+LF": [line + b"\r" for line in LINES],
    "blanks behind": [line + b" \t " for line in LINES],
    "JSON of a log system": [b'{"log":"' + line + b'\\n","stream":"stdout"}' for line in LINES],
    "lines of others between": [other for line in LINES for other in (b"condor_startup: x", line, b"[probe:", b"\xff")],
    "all on one line": [b" ".join(LINES)],
    "each line twice": [line for line in LINES for _ in range(2)],
    "lines out of order": [LINES[0], *reversed(LINES[1:-1]), LINES[-1]],
    "the middle of another's line": [b"progress 50%" + line + b"progress 60%" for line in LINES],
}


@pytest.mark.parametrize("lines", LOGS.values(), ids=LOGS.keys())
def test_a_block_is_read_whatever_a_log_does_to_its_lines(lines: list[bytes]):
    [found] = read(lines)
    assert isinstance(found, Block)
    assert json.loads(found.raw) == REPORT


def test_two_blocks_whose_lines_are_mixed_are_two_reports():
    others = packing.block(dict(REPORT, report_id="other")).encode().splitlines()
    mixed = (
        [line for pair in zip(LINES, others, strict=False) for line in pair]
        + LINES[len(others) :]
        + others[len(LINES) :]
    )
    found = read([b"first line of the log", *mixed])
    assert {json.loads(block.raw)["report_id"] for block in found if isinstance(block, Block)} == {
        "other",
        REPORT["report_id"],
    }
    assert [block.line for block in found] == [2, 3]


DAMAGE = {
    "cut behind the first lines": (LINES[:4], 1, "end is missing"),
    "a line is missing": ([*LINES[:3], *LINES[4:]], 1, "lacks 1 of its"),
    "a line is cut": ([*LINES[:3], LINES[3][:60], *LINES[4:]], 1, "lacks 1 of its"),
    "a character is another": ([*LINES[:3], LINES[3].replace(LINES[3][40:44], b"AAAA"), *LINES[4:]], 1, "checksum"),
    "the beginning is missing": (LINES[3:], 1, "no beginning"),
    "the end comes first": ([LINES[-1], *LINES[:-1]], 1, "no beginning"),
    "a size beyond all": ([b"[probe:00000000:begin:9:99999999]"], 1, "more than a report may have"),
}


@pytest.mark.parametrize(("lines", "line", "words"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_told_with_its_line_and_no_report_comes_of_it(lines: list[bytes], line: int, words: str):
    found = read(lines)
    assert not [item for item in found if isinstance(item, Block)]
    assert isinstance(found[0], Broken)
    assert found[0].line == line
    assert words in found[0].detail


@given(st.data())
def test_a_block_cut_anywhere_is_never_a_report(data: st.DataObject):
    text = packing.block(REPORT).encode()
    cut = data.draw(st.integers(0, len(text) - len(b"[probe:00000000:end]\n")))
    assert not [item for item in read(text[:cut].splitlines()) if isinstance(item, Block)]


@given(st.lists(st.binary(max_size=60) | st.sampled_from([*LINES, *(line[:30] for line in LINES)]), max_size=40))
def test_whatever_lines_come_the_reader_lives_and_only_gives_what_was_packed(lines: list[bytes]):
    for found in read(lines):
        if isinstance(found, Block):
            assert json.loads(found.raw) == REPORT


def test_an_open_block_says_where_to_begin_again():
    blocks = Blocks()
    text = [b"a line", *LINES[:3]]
    offset = 0
    for number, line in enumerate(text, 1):
        assert list(blocks.feed(line, number, offset)) == []
        offset += len(line) + 1
    assert blocks.open_blocks() == [Open(7, 2)]


def test_the_end_of_a_block_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packed_reports, "WINDOW_BYTES", 1000)
    found = read([*LINES[:2], *[b"x" * 99] * 20], close=False)
    assert [(item.line, type(item)) for item in found] == [(1, Broken)]


def packed(data: bytes) -> str:
    return "1:" + urlsafe_b64encode(data).decode().rstrip("=")


WRONG_ATTRIBUTES = {
    "another form": ("2:AAAA", "form"),
    "empty": ("", "form"),
    "nothing packed": ("1:", "characters"),
    "not base64": ('1:ab"c', "characters"),
    "a single character": ("1:A", "base64 ends"),
    "not compressed": (packed(b"hello world"), "broken"),
    "cut": (packed(zlib.compress(b"{}" * 500)[:-6]), "ends early"),
    "more behind it": (packed(zlib.compress(b"{}") + b"x"), "behind it"),
    "a bomb": (packed(zlib.compress(b" " * 50_000_000)), "unfolds to more"),
}


@pytest.mark.parametrize(("text", "words"), WRONG_ATTRIBUTES.values(), ids=WRONG_ATTRIBUTES.keys())
def test_an_attribute_that_is_no_report_is_told(text: str, words: str):
    with pytest.raises(NotPacked, match=words):
        unpacked_attribute(text)


@given(st.text())
def test_whatever_text_an_attribute_has_the_reader_lives(text: str):
    with pytest.raises(NotPacked):
        unpacked_attribute(text)


def test_a_bomb_in_a_block_is_damage():
    data = zlib.compress(b" " * 50_000_000)
    name = f"{zlib.crc32(data):08x}"
    text = urlsafe_b64encode(data).decode().rstrip("=")
    parts = [text[start : start + 192] for start in range(0, len(text), 192)]
    lines = [f"[probe:{name}:begin:{len(parts)}:{len(data)}]"]
    lines += [f"[probe:{name}:{number}:{part}]" for number, part in enumerate(parts, 1)]
    [found] = read([line.encode() for line in [*lines, f"[probe:{name}:end]"]])
    assert isinstance(found, Broken)
    assert "unfolds to more" in found.detail
