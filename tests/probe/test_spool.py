"""The folder where reports wait: whole files or none, bounded, for their owner only."""

import json
import os
import stat
import time
from pathlib import Path

import pytest

from probe import delivery, spool
from tests.probe.samples import settings
from tests.sample_reports import sample_report


def test_a_report_is_kept_whole_and_for_its_owner_only(tmp_path: Path):
    folder, report = tmp_path / "a/spool", sample_report("healthy")
    kept = delivery.keep(str(folder), report)
    path = folder / (report["report_id"] + ".json")
    assert (kept.way, kept.status, kept.message) == ("spool", "ok", f"kept as {path}")
    assert json.loads(path.read_text()) == report
    assert list(folder.iterdir()) == [path]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_spool_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    kept = delivery.keep(str(tmp_path / "file"), sample_report("healthy"))
    assert (kept.way, kept.status, kept.reason) == ("spool", "fail", "scratch_unusable")
    assert kept.message


def test_no_reader_of_a_spool_sees_half_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: list[list[str]] = []
    rename = os.rename

    def watch(source: str, target: str) -> None:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        rename(source, target)

    monkeypatch.setattr(os, "rename", watch)
    spool.keep(str(tmp_path), "id", "{}")
    assert seen == [["id.json.part"]]
    assert [path.name for path in tmp_path.iterdir()] == ["id.json"]


def test_a_full_disk_leaves_no_half_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        spool.keep(str(tmp_path), "id", "{}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("limit", "value"), [("FILES_LIMIT", 3), ("LIMIT_BYTES", 6)])
def test_a_spool_is_bounded_and_the_oldest_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
):
    monkeypatch.setattr(spool, limit, value)
    for number in range(5):
        answer = spool.keep(str(tmp_path), str(number), "{}")
        os.utime(answer["path"], (1e9 + number, 1e9 + number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.json", "3.json", "4.json"]
    assert answer["dropped"] == 1


def test_what_a_killed_run_left_half_written_goes_after_an_hour(tmp_path: Path):
    for name, age_s in (("old", 4000), ("new", 10)):
        (tmp_path / f"{name}.json.part").touch()
        os.utime(tmp_path / f"{name}.json.part", (time.time() - age_s,) * 2)
    spool.keep(str(tmp_path), "id", "{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["id.json", "new.json.part"]


@pytest.mark.parametrize(
    ("configured", "glidein", "environment", "folder"),
    [
        ("/s", {"GLIDEIN_WORK_DIR": "/g"}, {"HOME": "/h"}, "/s"),
        (None, {"GLIDEIN_WORK_DIR": "/g"}, {"HOME": "/h"}, "/g/singularity-probe-spool"),
        (None, {}, {"XDG_STATE_HOME": "/x", "HOME": "/h"}, "/x/singularity-probe/spool"),
        (None, {}, {"HOME": "/h"}, "/h/.local/state/singularity-probe/spool"),
    ],
)
def test_where_reports_wait(configured: str | None, glidein: dict[str, str], environment: dict[str, str], folder: str):
    assert delivery.spool_folder(settings(glidein, spool=configured), environment) == folder
