"""Scratch space: candidates, measurements, judgements, the work folder."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import os
import stat
from pathlib import Path

import pytest

from probe import minimal_image
from probe.detectors import scratch
from tests.probe.samples import settings


@pytest.mark.parametrize(
    ("glidein", "environment", "folder", "expected"),
    [
        ({}, {}, None, {"/tmp": "/tmp", "/var/tmp": "/var/tmp"}),
        ({}, {}, "/work", {"/work": "working folder", "/tmp": "/tmp", "/var/tmp": "/var/tmp"}),
        ({}, {"TMPDIR": "/tmp"}, "/tmp", {"/tmp": "TMPDIR", "/var/tmp": "/var/tmp"}),
        (
            {"TMP_DIR": "/g", "GLIDEIN_LOCAL_TMP_DIR": "/l"},
            {"TMPDIR": "relative"},
            None,
            {"/l": "GLIDEIN_LOCAL_TMP_DIR", "/g": "TMP_DIR", "/tmp": "/tmp", "/var/tmp": "/var/tmp"},
        ),
    ],
)
def test_candidates_in_their_order(glidein, environment, folder, expected):
    found = scratch.candidates(settings(glidein), environment, folder)
    assert list(found.items()) == list(expected.items())


GOOD = {"errno": 0, "free_bytes": 10**10, "free_inodes": 1000, "filesystem": "xfs", "noexec": False, "nosuid": False}


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({}, "ok", None),
        ({"free_inodes": None}, "ok", None),
        ({"nosuid": True}, "ok", None),
        ({"noexec": True}, "fail", "scratch_noexec"),
        ({"free_inodes": 0}, "fail", "scratch_out_of_inodes"),
        ({"free_bytes": 1024}, "fail", "scratch_full"),
        ({"errno": errno.ENOSPC}, "fail", "scratch_full"),
        ({"errno": errno.ENOSPC, "free_inodes": 0}, "fail", "scratch_out_of_inodes"),
        ({"errno": errno.EDQUOT}, "fail", "scratch_full"),
        ({"errno": errno.EROFS}, "fail", "scratch_read_only"),
        ({"errno": errno.EACCES}, "fail", "scratch_read_only"),
        ({"errno": errno.EIO}, "fail", "scratch_unusable"),
    ],
)
def test_a_folder_is_judged_by_what_was_measured(changes, status, reason):
    row = scratch.judge("/tmp", "TMPDIR", "done", {**GOOD, **changes}, None)
    assert (row["status"], row["reason"]) == (status, reason)


def test_a_folder_that_does_not_answer_or_is_not_there():
    assert scratch.judge("/x", "TMPDIR", "timeout", {}, None)["status"] == "timeout"
    missing = scratch.judge("/x", "TMPDIR", "died", {}, errno.ENOENT)
    assert (missing["status"], missing["reason"]) == ("fail", "scratch_unusable")
    assert os.strerror(errno.ENOENT) in missing["message"]


def test_a_folder_is_measured_and_nothing_stays_in_it(tmp_path):
    found = scratch.measure(str(tmp_path))
    assert (found["errno"], found["free_bytes"] > 0) == (0, True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        scratch.measure(str(tmp_path / "no"))


def test_a_work_folder_is_made_and_removed_with_its_traces(tmp_path):
    home = tmp_path / "home"
    (home / ".singularity").mkdir(parents=True)
    traces = scratch.absent_traces(str(home))
    made = scratch.prepare(str(tmp_path), os.uname().machine)
    assert stat.S_IMODE(Path(made["work_folder"]).stat().st_mode) == 0o700
    assert Path(made["sandbox"] + minimal_image.PAYLOAD_PATH).exists()
    (home / ".apptainer").mkdir()
    scratch.remove(made["work_folder"], traces)
    assert list(tmp_path.iterdir()) == [home]
    assert list(home.iterdir()) == [home / ".singularity"]


def test_a_trace_that_somebody_uses_meanwhile_stays(tmp_path):
    traces = scratch.absent_traces(str(tmp_path))
    (tmp_path / ".apptainer/cache").mkdir(parents=True)
    scratch.remove(str(tmp_path / "no"), traces)
    assert (tmp_path / ".apptainer/cache").is_dir()


def test_without_a_payload_for_the_architecture_there_is_a_folder_and_no_image(tmp_path):
    made = scratch.prepare(str(tmp_path), "vax")
    assert (made["sandbox"], made["sif"]) == (None, None)
    assert Path(made["work_folder"]).is_dir()
