"""Blocks in the text of a log: plain, among megabytes, in sections that GlideinWMS encodes, cut, hostile."""

import base64
import gzip
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import packing
from reports import log_text
from reports.log_text import LogText
from reports.packed_reports import Block, Broken, Open
from tests.sample_reports import sample_report

REPORTS = [sample_report("healthy"), sample_report("privileged")]
TEXT = packing.block(REPORTS[0]).encode()
OTHER = packing.block(REPORTS[1]).encode()


def read(pieces: Iterable[bytes], *, close: bool = True) -> tuple[list[Block | Broken], LogText]:
    text = LogText()
    found = [item for piece in pieces for item in text.feed(piece)]
    found += text.end()
    return [*found, *(text.close() if close else ())], text


def ids(found: list[Block | Broken]) -> list[str]:
    return [json.loads(item.raw)["report_id"] for item in found if isinstance(item, Block)]


BOTH = [report["report_id"] for report in REPORTS]


def section(data: bytes, width: int = 76, name: bytes = b"StartdLog") -> bytes:
    """As `gzip --stdout FILE | b64uuencode 1>&2` leaves it."""
    encoded = base64.b64encode(data)
    lines = [encoded[start : start + width] for start in range(0, len(encoded), width)]
    head = name + b"\n======== gzip | uuencode =============\nbegin-base64 644 -\n"
    return head + b"\n".join(lines) + b"\n====\n\n"


@given(st.lists(st.integers(0, len(TEXT) * 2), max_size=6))
def test_it_does_not_matter_how_the_text_is_cut_into_pieces(cuts: list[int]):
    text = b"a line\n" + TEXT + b"x" * 500 + b"\n" + OTHER
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    found, _ = read(text[start:end] for start, end in itertools.pairwise(edges))
    assert ids(found) == BOTH
    assert [item.line for item in found] == [2, 3 + TEXT.count(b"\n")]


@pytest.mark.parametrize("width", [60, 76])
def test_a_section_of_a_glideins_stderr_is_read(width: int):
    log = b"".join(b"11/20/26 10:00:00 " + line + b"\n" for line in TEXT.splitlines())
    text = (
        b"before\n" + section(gzip.compress(b"MasterLog\n" * 5000), width) + section(gzip.compress(log), width) + OTHER
    )
    found, _ = read([text])
    assert ids(found) == BOTH
    assert found[0].line == 1 + text[: text.rfind(b"begin-base64")].count(b"\n")


@pytest.mark.skipif(shutil.which("base64") is None, reason="no base64")
def test_a_section_is_read_as_the_tools_of_a_node_write_it():
    script = 'echo "begin-base64 644 -"; gzip --stdout - | base64 -; echo "===="'
    encoded = subprocess.run(["bash", "-c", script], input=TEXT, check=True, capture_output=True).stdout
    assert ids(read([encoded])[0]) == BOTH[:1]


def test_several_logs_in_one_section_are_read():
    assert ids(read([section(gzip.compress(TEXT) + gzip.compress(OTHER))])[0]) == BOTH


def test_a_section_that_is_no_gzip_is_passed_over():
    found, _ = read([section(b"just some text" * 100) + OTHER])
    assert ids(found) == BOTH[1:]
    assert len(found) == 1


def test_what_is_readable_of_a_section_that_was_cut_counts():
    whole = section(gzip.compress(TEXT) + gzip.compress(b"more" * 10_000, 0))
    found, text = read([b"line 1\n" + whole[: len(whole) // 2]], close=False)
    assert text.unfinished() == [Open(len(b"line 1\nStartdLog\n======== gzip | uuencode =============\n"), 4)]
    found += text.close()
    assert ids(found) == BOTH[:1]
    assert [(item.line, item.detail) for item in found if isinstance(item, Broken)] == [
        (4, "an encoded log is cut off")
    ]


def test_a_section_into_which_another_writes_ends_there_and_the_rest_goes_on():
    lines = section(gzip.compress(b"x" * 50) + gzip.compress(bytes(range(256)) * 300, 0)).split(b"\n")
    found, _ = read([b"\n".join([*lines[:9], b"a line of something else", *TEXT.splitlines(), *lines[9:]])])
    assert ids(found) == BOTH[:1]
    assert [item.detail for item in found if isinstance(item, Broken)] == [
        "an encoded log has a line of something else in it"
    ]


def test_a_damaged_section_is_told_once():
    data = bytearray(gzip.compress(TEXT * 20))
    data[200:210] = b"0123456789"
    found, _ = read([section(bytes(data)) + OTHER])
    assert BOTH[1] in ids(found)
    assert sum(isinstance(item, Broken) and "an encoded log is damaged" in item.detail for item in found) == 1


def test_a_bomb_in_a_section_is_stopped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_text, "UNFOLDED_LIMIT_BYTES", 1_000_000)
    found, _ = read([section(gzip.compress(b"\n" * 5_000_000))])
    assert [item.detail for item in found if isinstance(item, Broken)] == [
        "an encoded log unfolds to more than 1000000 bytes"
    ]


def test_a_damaged_block_in_a_section_has_the_sections_place():
    lines = TEXT.splitlines()
    found, _ = read([section(gzip.compress(b"\n".join([*lines[:3], *lines[4:]])))])
    [broken] = found
    assert isinstance(broken, Broken)
    assert (broken.line, broken.detail[:46]) == (3, "in line 1 of an encoded log: the block lacks 1")


def test_reading_can_go_on_where_a_half_written_block_begins():
    text = b"a line\n" + TEXT + OTHER
    cut = len(b"a line\n") + len(TEXT) + 300
    found, first = read([text[:cut]], close=False)
    assert ids(found) == BOTH[:1]
    start = first.resume()
    assert start == Open(len(b"a line\n") + len(TEXT), 2 + TEXT.count(b"\n"))
    second = LogText(start)
    found = [*second.feed(text[start.offset :]), *second.end()]
    assert ids(found) == BOTH[1:]
    assert found[0].line == start.line
    assert second.resume().offset == len(text)


def test_a_line_without_end_is_not_held(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_text, "LINE_LIMIT_BYTES", 1000)
    text = LogText()
    for _ in range(100):
        assert list(text.feed(b"x" * 500)) == []
        assert len(text._carried) <= 1500
    assert ids([*text.feed(b"\n" + TEXT), *text.end()]) == BOTH[:1]


@given(
    st.lists(st.binary(max_size=80) | st.sampled_from([b"begin-base64 644 -", b"====", b"H4sI", *TEXT.splitlines()]))
)
def test_whatever_a_log_holds_the_reader_lives(lines: list[bytes]):
    for item in read([line + b"\n" for line in lines])[0]:
        if isinstance(item, Block):
            assert json.loads(item.raw) == REPORTS[0]
