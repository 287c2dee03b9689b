"""glidein_config and the condor vars file: lines of others stay byte by byte, and a change is whole or not at all."""

import fcntl
import os
import resource
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import glidein_files
from probe.classad import Expression, LongText
from probe.glidein_files import Change, apply, changed, config_change, safe_text, vars_change

OURS = Change(["PROBE_X", "PROBE_GONE"], ["PROBE_X 1"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"PROBE_X 1\n"),
        (b"A 1\nB 2\n", b"A 1\nB 2\nPROBE_X 1\n"),
        (b"A 1\r\nB caf\xe9\n", b"A 1\r\nB caf\xe9\nPROBE_X 1\n"),
        (b"A no end", b"A no end\nPROBE_X 1\n"),
        (b"PROBE_X 0\nA 1\nPROBE_X 2\nPROBE_GONE 3\n", b"A 1\nPROBE_X 1\n"),
        (b"PROBE_XY 1\n PROBE_X 2\n#PROBE_X 3\n", b"PROBE_XY 1\n PROBE_X 2\n#PROBE_X 3\nPROBE_X 1\n"),
        (b"PROBE_X\r\nPROBE_X\n", b"PROBE_X 1\n"),
        (b"A 1\n\n\nB\n", b"A 1\n\n\nB\nPROBE_X 1\n"),
    ],
)
def test_only_lines_of_our_names_change(before: bytes, after: bytes):
    assert changed(before, OURS) == after


@given(st.binary(max_size=300))
def test_whatever_is_in_the_file_stays_and_a_second_change_is_none(content: bytes):
    once = changed(content, OURS)
    assert changed(once, OURS) == once
    kept = [line for line in content.split(b"\n") if not line.startswith((b"PROBE_X", b"PROBE_GONE"))]
    assert [line for line in once.split(b"\n") if line in kept][: len(kept) - 1] == kept[: len(kept) - 1]


@given(st.text())
def test_a_text_breaks_no_line_no_shell_and_no_ad(text: str):
    shown = safe_text(text)
    assert shown.isascii()
    assert not set(shown) & set("\"'`$\\\n\r\0")
    assert len(shown) <= glidein_files.VALUE_LIMIT


def test_types_and_columns_are_those_of_glideinwms():
    values = {"S": "a 'b'", "I": 3, "C": True, "E": Expression("A =!= 1"), "L": LongText("x" * 5000)}
    assert config_change(values, ["OLD"]).lines == ["S a ?b?", "I 3", "C True", "E A =!= 1", "L " + "x" * 5000]
    assert vars_change(values, []).lines == [f"{name} {kind} - + N Y -" for name, kind in zip("SICEL", "SICCS", strict=True)]
    assert config_change(values, ["OLD"]).names == ["C", "E", "I", "L", "OLD", "S"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "glidein_config"
    path.write_bytes(b"A 1\nB 2\n")
    return path


def test_mode_and_links_are_kept_and_nothing_is_left(config: Path, tmp_path: Path):
    config.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(config)
    assert apply(str(link), OURS) is None
    assert link.is_symlink()
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    assert names_in(tmp_path) == ["glidein_config", "link"]


def test_what_killed_runs_left_is_removed(config: Path, tmp_path: Path):
    (tmp_path / ("glidein_config" + glidein_files.PART + "123")).write_text("half")
    assert apply(str(config), OURS) is None
    assert names_in(tmp_path) == ["glidein_config"]


def in_a_child(function: Callable[[], object]) -> int:
    """The exit code of a child: 0 where the function gave something true."""
    child = os.fork()
    if child == 0:
        os._exit(0 if function() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("limit_bytes", [0, 1, 7, 17])
def test_where_there_is_no_room_the_file_is_what_it_was(config: Path, tmp_path: Path, limit_bytes: int):
    def try_it() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        return "File too large" in (apply(str(config), OURS) or "")

    assert in_a_child(try_it) == 0
    assert config.read_bytes() == b"A 1\nB 2\n"
    assert names_in(tmp_path) == ["glidein_config"]


def test_a_file_that_is_not_there_is_told_and_not_made(tmp_path: Path):
    assert "No such file" in (apply(str(tmp_path / "condor_vars.lst"), OURS) or "")
    assert names_in(tmp_path) == []


def test_who_has_moved_the_file_away_for_a_moment_is_waited_for(config: Path, tmp_path: Path):
    moved = tmp_path / "glidein_config.old"
    config.rename(moved)
    timer = threading.Timer(0.1, moved.rename, [config])
    timer.start()
    assert apply(str(config), OURS) is None
    timer.join()
    assert config.read_bytes() == b"A 1\nB 2\nPROBE_X 1\n"


def test_the_lock_of_newer_releases_is_waited_for(config: Path, tmp_path: Path):
    lock = tmp_path / "glidein_config.lock"
    lock.symlink_to(config)
    (tmp_path / "glidein_config.pid").write_text(f"{os.getpid()}\n")
    timer = threading.Timer(0.1, lock.unlink)
    timer.start()
    assert apply(str(config), OURS) is None
    assert not timer.is_alive()
    timer.join()
    assert config.read_bytes().endswith(b"PROBE_X 1\n")


def test_a_lock_whose_holder_is_dead_holds_nobody_up(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(glidein_files, "PATIENCE_S", 0.05)
    (tmp_path / "glidein_config.lock").symlink_to(config)
    (tmp_path / "glidein_config.pid").write_text("999999999\n")
    assert apply(str(config), OURS) is None
    (tmp_path / "glidein_config.pid").write_text(f"{os.getpid()}\n")
    assert "others change it" in (apply(str(config), Change([], ["PROBE_Y 1"])) or "")


def test_the_lock_of_older_releases_is_taken(config: Path, tmp_path: Path):
    lock = (tmp_path / "glidein_config.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    timer = threading.Timer(0.1, lock.close)
    timer.start()
    assert apply(str(config), OURS) is None
    assert lock.closed
    timer.join()


def test_what_others_change_meanwhile_is_not_lost(config: Path, monkeypatch: pytest.MonkeyPatch):
    write = glidein_files._write
    changes = iter([b"A 1\nB 2\nNEW 3\n", b"A 1\nB 2\nNEW 3\nNEWER 4\n"])

    def write_late(path: str, content: bytes, like: os.stat_result) -> None:
        write(path, content, like)
        for late in changes:
            config.write_bytes(late)
            return

    monkeypatch.setattr(glidein_files, "_write", write_late)
    assert apply(str(config), OURS) is None
    assert config.read_bytes() == b"A 1\nB 2\nNEW 3\nNEWER 4\nPROBE_X 1\n"
