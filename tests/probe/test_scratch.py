"""Scratch space: candidates, measurements, judgements, the work folder."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import os

import pytest

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


def test_a_home_is_looked_at_with_the_traces_that_singularity_will_leave(tmp_path):
    (tmp_path / ".singularity").mkdir()
    assert scratch.look_at_home(str(tmp_path)) == {"writable": True, "traces": [str(tmp_path / ".apptainer")]}


def test_a_folder_in_two_roles_is_visited_once_and_each_role_has_its_errno(tmp_path):
    found = scratch.visit(str(tmp_path), True, True)
    assert (found["scratch"]["errno"], found["home"]["writable"]) == (0, True)
    missing = scratch.visit(str(tmp_path / "no"), True, True)
    assert missing == {"scratch": {"failed": errno.ENOENT}, "home": {"failed": errno.ENOENT}}
    assert set(scratch.visit(str(tmp_path), False, True)) == {"home"}


@pytest.mark.parametrize(("environment", "home"), [({"HOME": "/h"}, "/h"), ({"HOME": ""}, "/root"), ({}, "/root")])
def test_the_home_is_that_of_the_environment_or_of_the_passwd_entry(environment, home):
    assert scratch.home_of(environment, 0) == home


def test_a_user_without_an_entry_has_no_home():
    assert scratch.home_of({}, 2**31 - 2) is None
