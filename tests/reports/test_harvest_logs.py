"""`site-db harvest logs`: a folder as a factory has it, harvested again and again while it changes."""

import gzip
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result

from probe import packing
from reports.cli import cli
from reports.harvest_logs import LogHarvest
from reports.harvest_state import HarvestState
from reports.intake import utc_now
from reports.reading import Found, Unreadable
from site_db.store import Store
from site_db.views import list_entries
from tests.reports.test_log_text import section
from tests.sample_reports import sample_report
from tests.site_db.factory_files import ENTRY

Harvest = Callable[..., dict[str, Any]]
LONG_AGO = time.time() - 86400


def report(**changes: object) -> dict[str, Any]:
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return sample_report("healthy", created_at=made, **changes)


def block() -> bytes:
    return packing.block(report()).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    entry = tmp_path / "client/user_frontend/glidein_gfactory" / f"entry_{ENTRY}"
    entry.mkdir(parents=True)
    return entry


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("SITE_DB_DATABASE", f"sqlite:///{tmp_path / 'site.db'}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(cli, ["harvest", "logs", *map(str, arguments)], prog_name="site-db")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def harvest(run: Callable[..., Result], tmp_path: Path) -> Harvest:
    def invoke(*arguments: object, code: int = 0) -> dict[str, Any]:
        result = run(tmp_path / "client", "--format", "json", *arguments)
        assert result.exit_code == code, result.output
        data: dict[str, Any] = json.loads(result.stdout)["data"]
        return data

    return invoke


def counts(data: dict[str, Any]) -> tuple[int, int, int, int]:
    return data["blocks"], data["new"], data["known"], data["damaged"]


def test_plain_compressed_and_encoded_logs_are_read(folder: Path, harvest: Harvest):
    (folder / "job.1.0.out").write_bytes(b"glidein_startup.sh\n" + block() + b"=== end ===\n")
    (folder / "job.2.0.out.gz").write_bytes(gzip.compress(block() + block()))
    (folder / "job.3.0.err").write_bytes(b"+ set\n" + section(gzip.compress(block())))
    (folder / "job.4.0.err").write_bytes(b"")
    data = harvest()
    assert counts(data) == (4, 4, 0, 0)
    assert (data["files"], data["unchanged"], data["unfinished"], data["rejected"]) == (4, 0, [], [])


def test_the_next_harvest_reads_only_what_is_new(folder: Path, harvest: Harvest):
    log = folder / "job.1.0.out"
    log.write_bytes(block())
    (folder / "job.2.0.out").write_bytes(block())
    harvest()
    with log.open("ab") as stream:
        added = block() + b"a line\n"
        stream.write(added)
    data = harvest()
    assert counts(data) == (1, 1, 0, 0)
    assert (data["files"], data["unchanged"], data["read_bytes"]) == (2, 1, len(added))
    assert counts(harvest()) == (0, 0, 0, 0)


def test_a_block_that_is_being_written_is_taken_when_it_is_whole(folder: Path, harvest: Harvest):
    log, text = folder / "job.1.0.out", b"line 1\n" + block()
    for end in range(400, len(text), 500):
        log.write_bytes(text[:end])
        data = harvest()
        assert counts(data) == (0, 0, 0, 0)
        assert data["unfinished"] == [f"{log}:2"]
    log.write_bytes(text)
    data = harvest()
    assert (counts(data), data["unfinished"]) == ((1, 1, 0, 0), [])


def test_a_block_that_is_never_finished_is_damaged_once_the_log_rests(folder: Path, harvest: Harvest):
    log = folder / "job.1.0.out"
    log.write_bytes(b"line 1\n" + block()[:700])
    assert harvest()["unfinished"] == [f"{log}:2"]
    os.utime(log, (LONG_AGO, LONG_AGO))
    data = harvest(code=1)
    assert counts(data) == (0, 0, 0, 1)
    assert data["rejected"][0]["place"] == f"{log}:2"
    assert "cut off" in data["rejected"][0]["problems"][0]["detail"]
    assert counts(harvest()) == (0, 0, 0, 0)


def test_a_log_that_is_rotated_is_not_read_twice_and_its_successor_is_read(folder: Path, harvest: Harvest):
    log = folder / "job.1.0.out"
    log.write_bytes(block())
    harvest()
    with log.open("ab") as stream:
        stream.write(block())
    log.rename(folder / "job.1.0.out.1")
    log.write_bytes(block())
    data = harvest()
    assert counts(data) == (2, 2, 0, 0)


@pytest.mark.parametrize("longer", [False, True])
def test_a_log_that_was_emptied_and_written_anew_is_read_from_its_beginning(
    folder: Path, harvest: Harvest, longer: bool
):
    log = folder / "job.1.0.out"
    log.write_bytes(b"the first\n" + block() + b"x" * 5000)
    harvest()
    with log.open("r+b") as stream:
        stream.truncate()
        stream.write(block() + (b"y" * 9000 if longer else b""))
    assert counts(harvest()) == (1, 1, 0, 0)


def test_a_compressed_log_that_is_still_being_written_is_read_again(folder: Path, harvest: Harvest):
    log, data = folder / "job.1.0.out.gz", gzip.compress(block() + block())
    log.write_bytes(data[: len(data) // 2])
    assert harvest()["unfinished"][0] == str(log)
    log.write_bytes(data)
    assert harvest()["blocks"] == 2


def test_a_compressed_log_that_was_cut_is_told_once(folder: Path, harvest: Harvest):
    log, data = folder / "job.1.0.out.gz", gzip.compress(block() + block())
    log.write_bytes(data[: len(data) // 2])
    os.utime(log, (LONG_AGO, LONG_AGO))
    assert harvest(code=1)["unreadable"] == 1
    assert harvest()["unreadable"] == 0


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_log_that_unfolds_to_more_than_any_log_is_told_once(folder: Path, harvest: Harvest, encoding: str):
    log = folder / "job.1.0.out"
    text = block() + b"[probe:00000000:begin:2:100]\n" + bytes(64 * 1024 * 1024)
    log.write_bytes(gzip.compress(text, 9) if encoding == "gzip" else zstandard.compress(text))
    data = harvest(code=1)
    assert (data["new"], data["unreadable"], data["unfinished"]) == (1, 1, [])
    assert data["read_bytes"] <= max(16 * 1024 * 1024, 200 * log.stat().st_size)
    assert "unfolds to more than" in data["rejected"][-1]["problems"][0]["detail"]
    assert harvest()["unchanged"] == 1


def test_a_compressed_log_that_is_much_the_same_is_no_bomb(folder: Path, harvest: Harvest):
    (folder / "job.1.0.out.gz").write_bytes(gzip.compress(b"a line\n" * 1_000_000 + block()))
    assert counts(harvest()) == (1, 1, 0, 0)


@pytest.mark.parametrize("more", [b"\n", b"\nmore text\n", b" and more\n" + b"x\n"])
def test_a_block_whose_last_line_feed_has_not_come_is_whole(folder: Path, harvest: Harvest, more: bytes):
    log = folder / "job.1.0.out"
    log.write_bytes(b"hello\n" + block().rstrip(b"\n"))
    assert counts(harvest()) == (1, 1, 0, 0)
    with log.open("ab") as stream:
        stream.write(more)
    assert counts(harvest()) == (0, 0, 0, 0)
    number = len(log.read_bytes().splitlines()) + 1
    with log.open("ab") as stream:
        stream.write(block()[:100])
    assert harvest()["unfinished"] == [f"{log}:{number}"]  # lines are still counted right


def test_damage_is_named_with_file_and_line_and_the_rest_is_stored(folder: Path, harvest: Harvest):
    lines = block().splitlines(keepends=True)
    (folder / "job.1.0.out").write_bytes(b"one\ntwo\n" + b"".join([*lines[:3], *lines[4:]]) + block())
    data = harvest(code=1)
    assert counts(data) == (1, 1, 0, 1)
    assert data["rejected"][0]["place"] == f"{folder / 'job.1.0.out'}:3"


def test_a_whole_block_that_is_no_report_is_refused_and_can_be_kept(folder: Path, harvest: Harvest, tmp_path: Path):
    (folder / "job.1.0.out").write_bytes(packing.block({"schema_version": "1.0"}).encode())
    data = harvest("--rejects", tmp_path / "refused", code=1)
    assert data["rejected"][0]["kind"] == "schema"
    assert len(list((tmp_path / "refused").glob("*.json"))) == 1


def test_a_log_speaks_for_its_own_entry_only(folder: Path, harvest: Harvest):
    (folder / "job.1.0.out").write_bytes(packing.block(report(glidein__entry="Victim")).encode() + block())
    (folder / "job.2.0.out").write_bytes(packing.block(report(glidein__entry=None)).encode())
    elsewhere = folder.parents[3] / "client" / "other"
    elsewhere.mkdir()
    (elsewhere / "entry_Victim.out").write_bytes(packing.block(report(glidein__entry="Anybody")).encode())
    data = harvest(code=1)
    assert counts(data) == (4, 3, 0, 0)
    [refused] = data["rejected"]
    assert refused["place"] == f"{folder / 'job.1.0.out'}:1"
    assert f"says entry 'Victim', but is from '{ENTRY}'" in refused["problems"][0]["detail"]
    store = Store.open(f"sqlite:///{folder.parents[3] / 'site.db'}")
    assert {(item.name, item.freshness.nodes_ever) for item in list_entries(store, utc_now())} == {(ENTRY, 1), ("Anybody", 1)}
    store.close()


@pytest.mark.parametrize(("option", "member"), [("--factory", "factory"), ("--site", "site")])
def test_factory_and_site_are_pinned(folder: Path, harvest: Harvest, option: str, member: str):
    for number, name in enumerate(("Mine", "Other", None)):
        text = packing.block(report(**{f"glidein__{member}": name}))
        (folder / f"job.{number}.0.out").write_bytes(text.encode())
    data = harvest(option, "Mine", code=1)
    assert (counts(data), len(data["rejected"])) == ((3, 2, 0, 0), 1)


def test_links_are_not_followed_and_what_is_no_file_is_not_opened(folder: Path, harvest: Harvest, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.out").write_bytes(block())
    (folder / "link.out").symlink_to(outside / "secret.out")
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.out")
    data = harvest()
    assert (counts(data), data["files"], data["links"]) == ((0, 0, 0, 0), 0, 3)


def test_a_folder_may_itself_be_given_as_a_link(folder: Path, run: Callable[..., Result], tmp_path: Path):
    (folder / "job.1.0.out").write_bytes(block())
    (tmp_path / "link").symlink_to(folder)
    assert "1 new" in run(tmp_path / "link").output


def test_what_cannot_be_read_is_named_and_passed_over(folder: Path, harvest: Harvest, monkeypatch: pytest.MonkeyPatch):
    for number in (1, 2):
        (folder / f"job.{number}.0.out").write_bytes(block())
    opened = os.open

    def refuse(path: str, flags: int, *, dir_fd: int) -> int:  # root may read everything
        if path == "job.1.0.out":
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    data = harvest(code=1)
    assert (counts(data), data["unreadable"]) == ((1, 1, 0, 0), 1)
    assert data["rejected"][0]["place"] == f"{folder / 'job.1.0.out'}"
    assert "Permission denied" in data["rejected"][0]["problems"][0]["detail"]


def test_names_that_are_no_text_and_hostile_ones_do_no_harm(folder: Path, run: Callable[..., Result]):
    for name in (b"job.\xff\xfe.out", b"\x1b[2J.out", b"a\nb.out"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(block()[:-30])
    result = run(folder)
    assert "\x1b" not in result.output
    assert "not complete yet" in result.output


def test_only_files_of_the_names_asked_for_are_read(folder: Path, harvest: Harvest):
    for name in ("a.out", "b.err", "c.txt"):
        (folder / name).write_bytes(block())
    assert harvest("--name", "*.out", "--name", "*.err")["files"] == 2
    assert counts(harvest()) == (1, 1, 0, 0)


def test_everything_is_read_again_on_request_and_stored_once(folder: Path, harvest: Harvest):
    (folder / "job.1.0.out").write_bytes(block())
    harvest()
    assert counts(harvest("--again")) == (1, 0, 1, 0)


def test_another_database_gets_everything(folder: Path, harvest: Harvest, tmp_path: Path):
    (folder / "job.1.0.out").write_bytes(block())
    harvest()
    assert counts(harvest("--database", f"sqlite:///{tmp_path / 'other.db'}")) == (1, 1, 0, 0)


def test_a_state_that_cannot_be_kept_is_told(folder: Path, run: Callable[..., Result], tmp_path: Path):
    (tmp_path / "state").write_text("this is no database, " * 100)
    result = run(folder, "--state", tmp_path / "state")
    assert result.exit_code == 1
    assert "--state FILE" in result.output
    assert "Traceback" not in result.output


def items_of(harvest: LogHarvest) -> list[Found | Unreadable]:
    return list(harvest.items())


def test_an_interrupted_harvest_reads_again_what_was_not_stored(folder: Path, tmp_path: Path):
    for number in range(4):
        (folder / f"job.{number}.out").write_bytes(block())
    state = HarvestState(tmp_path / "state")
    first = LogHarvest(folder, state)
    taking = first.items()
    next(taking)
    next(taking)
    next(taking)  # two files are finished, the third is under way
    first.stored()
    taking.close()
    assert len(items_of(LogHarvest(folder, state))) == 2
    state.close()


def test_logs_that_were_removed_are_forgotten(folder: Path, tmp_path: Path):
    state = HarvestState(tmp_path / "state")
    log = folder / "job.1.out"
    log.write_bytes(block())
    status = log.stat()
    for _ in range(2):
        pass_over = LogHarvest(folder, state)
        items_of(pass_over)
        pass_over.stored()
        assert (state.find(os.fsencode(log), status.st_ino) is None) is not log.exists()
        log.unlink(missing_ok=True)
    state.close()


def test_the_memory_does_not_grow_with_the_log(folder: Path, tmp_path: Path):
    with (folder / "big.out").open("wb") as stream:
        for _ in range(10):
            stream.write(b"11/20/26 10:00:00 something that a daemon says about itself\n" * 32_000)
            stream.write(block())
        stream.write(b"\0" * 8_000_000)
    state = HarvestState(tmp_path / "state")
    tracemalloc.start()
    found = sum(1 for _ in LogHarvest(folder, state).items())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    state.close()
    assert found == 10
    assert peak < 5_000_000


def test_text_for_people_has_the_totals_and_a_pipe_sees_no_progress(folder: Path, run: Callable[..., Result]):
    (folder / "job.1.0.out").write_bytes(block())
    (folder / "link").symlink_to("job.1.0.out")
    told = run(folder)
    output = told.stdout
    assert told.stderr == ""
    assert "1 files, 0 of them unchanged; 0.0 MB read; 1 reports found, 0 damaged" in output
    assert "1 links were not followed" in output
    assert "1 new, 0 known already, 0 refused" in output


def test_a_terminal_sees_progress(folder: Path, tmp_path: Path):
    (folder / "job.1.0.out").write_bytes(block())
    program = f"""
import os, pty, sys
os.environ.update(SITE_DB_DATABASE="sqlite:///{tmp_path}/t.db", XDG_DATA_HOME="{tmp_path}/d", TERM="xterm")
sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, "-m", "reports", "harvest", "logs", {str(folder)!r}])))
"""
    if not (Path(__file__).parents[2] / "reports/__main__.py").exists():
        program = program.replace('"-m", "reports"', '"-c", "from reports.cli import main; main()"')
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert shown.returncode == 0
    assert b"\x1b[" in shown.stdout
    assert b"1 new" in shown.stdout
