import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from reports import compression
from reports.reading import Found, Unreadable, lines, read_reports

LIMIT = 10_000
Pack = Callable[[bytes], bytes]
A, B = b'{"a": 1}', b'{"b": [\n 2]}'
ONE_LINE_B = b'{"b": [2]}'


def read(*paths: object, stdin: bytes = b"", limit: int = LIMIT) -> list[Found | Unreadable]:
    return list(read_reports([str(path) for path in paths], limit, io.BytesIO(stdin)))


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("one.json", B, [("", B)]),
        ("one.json", A + b"\n", [("", A + b"\n")]),
        ("indented", b'{\n  "a": 1\n}\n', [("", b'{\n  "a": 1\n}\n')]),
        ("many.json", A + b"\n" + ONE_LINE_B + b"\n", [(":1", A), (":2", ONE_LINE_B)]),
        ("many.ndjson", A + b"\r\n\n" + ONE_LINE_B, [(":1", A + b"\r"), (":3", ONE_LINE_B)]),
        ("first-cut", b'{"a": \n' + ONE_LINE_B + b"\n", [(":1", b'{"a": '), (":2", ONE_LINE_B)]),
        ("second-broken", A + b"\nrubbish\n", [(":1", A), (":2", b"rubbish")]),
        ("single-cut.jsonl", b'{"a": ', [(":1", b'{"a": ')]),
    ],
)
def test_documents_and_lines_are_told_apart(
    tmp_path: Path, pack: Pack, name: str, text: bytes, found: list[tuple[str, bytes]]
):
    path = tmp_path / name
    path.write_bytes(pack(text))
    assert [(str(item.place).removeprefix(str(path)), item.raw) for item in read(path)] == found


def test_standard_input_is_read_like_a_file():
    found = read("-", stdin=gzip.compress(A + b"\n" + A))
    assert [(str(item.place), item.raw) for item in found] == [("-:1", A), ("-:2", A)]


def test_a_folder_is_searched_in_order_and_its_troubles_do_not_stop_it(tmp_path: Path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "x.json.gz").write_bytes(gzip.compress(A))
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    (tmp_path / "a.json").write_bytes(A)
    (tmp_path / "b.json").write_bytes(b"")
    (tmp_path / "c.json").symlink_to(tmp_path / "nowhere.json")
    os.mkfifo(tmp_path / "d.json")
    (tmp_path / "self.json").symlink_to(tmp_path / "self.json")
    (tmp_path / "README").write_bytes(b"not a report")
    (tmp_path / "z.ndjson").write_bytes(A + b"\n" + A)
    told = [
        (str(item.place).removeprefix(str(tmp_path) + "/"), item.detail if isinstance(item, Unreadable) else item.raw)
        for item in read(tmp_path)
    ]
    assert told == [
        ("a.json", A),
        ("b.json", "is empty"),
        ("c.json", "cannot be read: No such file or directory"),
        ("d.json", "is no ordinary file"),
        ("deep/er/x.json.gz", A),
        ("deep/loop", "is a link back to a folder above it; not followed"),
        ("self.json", "cannot be read: Too many levels of symbolic links"),
        ("z.ndjson:1", A),
        ("z.ndjson:2", A),
    ]


def test_a_folder_without_reports_is_a_problem(tmp_path: Path):
    [problem] = read(tmp_path)
    assert isinstance(problem, Unreadable)
    assert "holds no file named *.json" in problem.detail


@pytest.mark.parametrize("path", ["missing.json", "nul\0.json", "x" * 5000])
def test_a_path_that_cannot_be_opened_is_one_problem(path: str):
    [problem] = read(path)
    assert isinstance(problem, Unreadable)
    assert "cannot be read" in problem.detail
    assert str(problem.place).isprintable()


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_compressed_file_that_ends_early_keeps_its_whole_lines(tmp_path: Path, pack: Pack):
    path = tmp_path / "cut.ndjson"
    texts = [orjson.dumps({"n": os.urandom(300).hex()}) for _ in range(2000)]
    path.write_bytes(pack(b"\n".join(texts))[:-5000])
    *found, problem = read(path)
    assert [item.raw for item in found] == texts[: len(found)]
    assert len(found) > 1000
    assert "ends early" in problem.detail
    assert f"line {len(found)} and those before it were read" in problem.detail


@pytest.mark.parametrize("head", [b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd"])
def test_rubbish_behind_a_magic_number_is_one_problem(tmp_path: Path, head: bytes):
    path = tmp_path / "broken.json"
    path.write_bytes(head + b"\xff" * 50)
    [problem] = read(path)
    assert "broken" in problem.detail


def test_an_oversized_line_is_cut_measured_and_passed():
    text = A + b"\n" + b"x" * 50_000 + b"\n" + A
    first, second, third = lines([text[start : start + 7] for start in range(0, len(text), 7)], 100)
    assert (first.raw, third.raw, third.number) == (A, A, 3)
    assert (len(second.raw), second.size_bytes) == (100, 50_000)


def test_blank_lines_are_lines_and_a_last_line_needs_no_end():
    assert list(lines([b"a\n", b"", b"\n\nb"], 10)) == [(1, b"a", 1), (2, b"", 0), (3, b"", 0), (4, b"b", 1)]


@given(st.lists(st.binary(max_size=5)), st.integers(min_value=1, max_value=4))
def test_lines_do_not_depend_on_how_the_pieces_fall(parts: list[bytes], limit: int):
    text = b"".join(parts)
    assert list(lines(parts, limit)) == list(lines([text] if text else [], limit))
    assert [line.raw for line in lines(parts, 100)] == text.removesuffix(b"\n").split(b"\n")[: None if text else 0]


def test_an_oversized_document_is_cut(tmp_path: Path):
    path = tmp_path / "big.json"
    path.write_bytes(b'{"a":\n"' + b"x" * 500_000 + b'"}')
    [found] = read(path)
    assert len(found.raw) == LIMIT
    assert found.size_bytes > LIMIT


@given(
    st.lists(st.binary(max_size=40), max_size=8),
    st.integers(min_value=1, max_value=9),
    st.sampled_from(["gzip", "zstd"]),
)
def test_decompression_gives_back_members_and_frames_in_a_row(parts: list[bytes], step: int, encoding: str):
    pack = gzip.compress if encoding == "gzip" else zstd
    packed = b"".join(pack(part) for part in parts)

    class Trickle(io.BytesIO):
        def read(self, _size: int = -1, /) -> bytes:
            return super().read(step)

    assert b"".join(compression.pieces(Trickle(packed), encoding)) == b"".join(parts)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_unfolds_in_pieces(encoding: str):
    zeros = bytes(200 * 1024 * 1024)
    bomb = gzip.compress(zeros, 9) if encoding == "gzip" else zstd(zeros)
    largest = 0
    for total, piece in enumerate(compression.pieces(io.BytesIO(bomb), encoding)):
        largest = max(largest, len(piece))
        if total > 500:
            break
    assert 0 < largest <= 16 * 1024 * 1024


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd"]))
def test_any_bytes_are_read_or_reported(data: bytes, head: bytes):
    for item in read("-", stdin=head + data):
        assert isinstance(item, Found | Unreadable)
