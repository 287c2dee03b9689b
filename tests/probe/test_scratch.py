"""Scratch space: candidates, measurements, judgements, the work folder."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import os
import time
from pathlib import Path

import pytest

from probe.detectors import scratch
from probe.host import Host
from tests.probe.samples import done, settings


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
    late = scratch.judge("/x", "TMPDIR", "late", {}, None)
    assert (late["status"], late["reason"]) == ("unknown", "deadline_reached")
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


def looked(tmp_path, bindpath: str) -> tuple[dict[str, object], list[tuple[str, str, str]]]:
    """The detector's data, and the checks that are not ok, with scratch space in a folder of the test's."""
    names = {"GLIDEIN_LOCAL_TMP_DIR": str(tmp_path), "GLIDEIN_SINGULARITY_BINDPATH": bindpath}
    (found,) = scratch.detect(Host({"HOME": str(tmp_path)}), settings(names), {})
    checks = [(row["id"], row["status"], row["reason"]) for row in found["checks"] if row["status"] != "ok"]
    return found["data"], checks


def test_binds_and_storage_that_are_there_are_told(tmp_path, monkeypatch):
    (tmp_path / "ceph").mkdir()
    monkeypatch.setattr(scratch, "STORAGE", [str(tmp_path / "hadoop"), str(tmp_path / "ceph")])
    data, _ = looked(tmp_path, f"{tmp_path}:/data:ro,{tmp_path}/no:/x")
    assert data["binds"] == [f"{tmp_path}:/data:ro", *[path for path in scratch.DEFAULT_BINDS if Path(path).exists()]]
    assert (data["storage"], data["bind_hung"]) == ([str(tmp_path / "ceph")], None)


def test_a_bind_or_a_storage_folder_that_hangs_is_named(tmp_path, monkeypatch):
    visit = scratch.visit

    def hang(path: str, *roles: bool) -> object:
        return time.sleep(100) if "hung" in path else visit(path, *roles)

    monkeypatch.setattr(scratch, "visit", hang)
    monkeypatch.setattr(scratch, "LIMIT_S", 1.5)
    monkeypatch.setattr(scratch, "is_local", lambda _table, path: "hung" not in path)
    monkeypatch.setattr(scratch, "STORAGE", ["/hung/storage"])
    data, checks = looked(tmp_path, "/hung/bind:/data,/hung/bind/too:/more")
    assert data["bind_hung"] == "/hung/bind"
    assert [row for row in checks if row[0].startswith("host.binds.")] == [
        (f"host.binds.{path}", "timeout", "bind_hung") for path in ("/hung/bind", "/hung/bind/too", "/hung/storage")
    ]
    assert data["storage"] == []


AUTOFS = "30 1 0:50 / {} rw - autofs auto rw,fd=6,pgrp=812,timeout=300,minproto=5,maxproto=5,indirect\n"


@pytest.mark.parametrize(("point", "limit_s"), [("/home", 10.0), ("/cvmfs", 4.0), ("/other", 4.0)])
def test_a_home_that_is_mounted_by_being_looked_at_has_the_time_that_it_takes(tmp_path, monkeypatch, point, limit_s):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n" + AUTOFS.format(point))
    limits_s = set()

    def attempt_all(_host: Host, limit_s: float, calls: dict[str, object], *_: object) -> dict[str, object]:
        limits_s.add(limit_s)
        return dict.fromkeys(calls, done({}))

    monkeypatch.setattr(Host, "attempt_together", attempt_all)
    monkeypatch.setattr(Host, "attempt_all", attempt_all)
    list(scratch.detect(Host({"HOME": "/home/somebody"}, str(tmp_path)), settings(), {}))
    assert limits_s == {limit_s}


@pytest.mark.parametrize(("wanted_s", "hung"), [(0.3, True), (60.0, False)])
def test_a_home_that_the_deadline_left_no_time_for_does_not_hang(tmp_path, monkeypatch, wanted_s, hung):
    monkeypatch.setattr(scratch, "visit", lambda path, *_: path.startswith(str(tmp_path)) and time.sleep(100))
    monkeypatch.setattr(scratch, "LIMIT_S", wanted_s)
    monkeypatch.setattr(scratch, "is_local", lambda _table, path: not path.startswith(str(tmp_path)))
    monkeypatch.setattr(scratch, "candidates", lambda *_: {})
    host = Host({"HOME": str(tmp_path)})
    host.ends_at = time.monotonic() + 1.0
    names = {"GLIDEIN_SINGULARITY_BINDPATH": f"{tmp_path}/bind"}
    (found,) = scratch.detect(host, settings(names), {})
    told = found["data"]
    assert (told["home_hung"], told["bind_hung"]) == (hung, f"{tmp_path}/bind" if hung else None)
    assert f"{tmp_path}/bind" in told["binds"]


@pytest.mark.parametrize(("environment", "home"), [({"HOME": "/h"}, "/h"), ({"HOME": ""}, "/root"), ({}, "/root")])
def test_the_home_is_that_of_the_environment_or_of_the_passwd_entry(environment, home):
    assert scratch.home_of(environment, 0) == home


def test_a_user_without_an_entry_has_no_home():
    assert scratch.home_of({}, 2**31 - 2) is None


DEFAULTS = ["/cvmfs", "/etc/hosts", "/etc/localtime"]


@pytest.mark.parametrize(
    ("glidein", "mount_dir", "expected"),
    [
        ({}, None, DEFAULTS),
        ({}, "/cvmfs", DEFAULTS),
        ({}, "/tmp/x/cvmfs", ["/tmp/x/cvmfs:/cvmfs", "/etc/hosts", "/etc/localtime"]),
        # Of two binds on one place the first counts: the glidein's own outweigh the others.
        ({"GLIDEIN_SINGULARITY_BINDPATH": "/a,/b:/cvmfs:ro"}, None, ["/a", "/b:/cvmfs:ro", *DEFAULTS]),
        (
            {"GLIDEIN_SINGULARITY_BINDPATH": "/a,,/cvmfs", "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT": "/a,/d"},
            None,
            ["/a", "/cvmfs", "/d", "/etc/hosts", "/etc/localtime"],
        ),
    ],
)
def test_binds_of_a_glidein(glidein, mount_dir, expected):
    assert scratch.requested_binds(settings(glidein, cvmfs_mount_dir=mount_dir)) == expected


def test_the_source_of_a_bind():
    assert [scratch.source_of(bind) for bind in ("/a", "/a:/b", "/a:/b:ro")] == ["/a"] * 3
