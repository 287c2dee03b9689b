"""CVMFS: how it is mounted and whether repositories give data."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import os

import pytest

from probe.detectors import cvmfs, cvmfs_mounts
from tests.probe.samples import done, settings


def mount(point: str, kind: str) -> dict[str, str]:
    return {"root": "/", "point": point, "options": "rw", "type": kind, "source": "x", "super": "rw"}


@pytest.mark.parametrize(
    ("mounts", "mount_dir", "cvmfsexec", "kind"),
    [
        ([], "/cvmfs", False, "none"),
        ([mount("/", "ext4"), mount("/cvmfs2", "fuse")], "/cvmfs", False, "none"),
        ([mount("/cvmfs", "autofs"), mount("/cvmfs/a", "fuse")], "/cvmfs", False, "autofs"),
        ([mount("/cvmfs/a", "fuse")], "/cvmfs", False, "fuse"),
        ([mount("/cvmfs/a", "fuse.cvmfs2")], "/cvmfs", False, "fuse"),
        ([mount("/cvmfs", "nfs4")], "/cvmfs", False, "nfs"),
        ([mount("/cvmfs/a", "nfs")], "/cvmfs", False, "nfs"),
        ([mount("/cvmfs", "ext4")], "/cvmfs", False, "bind"),
        ([mount("/cvmfs/a", "ext4")], "/cvmfs", False, "bind"),
        ([mount("/cvmfs/a", "fuse")], "/cvmfs", True, "cvmfsexec"),
        ([mount("/tmp/x/cvmfs/a", "fuse")], "/tmp/x/cvmfs", False, "cvmfsexec"),
    ],
)
def test_the_mount_table_tells_the_kind(mounts, mount_dir, cvmfsexec, kind):
    assert cvmfs_mounts.kind_of(mounts, mount_dir, cvmfsexec) == kind


def test_the_last_mount_at_a_path_counts():
    mounts = [mount("/cvmfs/a", "autofs"), mount("/cvmfs/a", "fuse"), mount("/cvmfs/a/b", "ext4")]
    assert cvmfs_mounts.mount_of(mounts, "/cvmfs/a") == mounts[1]
    assert cvmfs_mounts.mount_of(mounts, "/cvmfs/c") is None


def found(step: str | None = None, error: int | None = None, names: int = 3, **attributes: str) -> dict[str, object]:
    return {"names": names, "attributes": attributes, "read": None, "step": step, "errno": error}


@pytest.mark.parametrize(
    ("looked", "state", "is_mount", "status", "reason"),
    [
        (found(), "done", True, "ok", None),
        (found(names=0), "done", True, "ok", None),
        (found(names=0, fqrn="a.example"), "done", False, "ok", None),
        (found(names=5), "done", False, "ok", None),  # an unpacked copy is data, too
        (found(names=0), "done", False, "fail", "cvmfs_repository_missing"),  # what a dead client leaves
        ({}, "timeout", True, "timeout", "cvmfs_hung"),
        ({}, "died", True, "unknown", "probe_error"),
        (found("list", errno.ENOENT), "done", False, "fail", "cvmfs_repository_missing"),
        (found("list", errno.ENOTDIR), "done", False, "fail", "cvmfs_repository_missing"),
        (found("list", errno.ENOTCONN), "done", True, "fail", "cvmfs_disconnected"),
        (found("attributes", errno.ENOTCONN), "done", True, "fail", "cvmfs_disconnected"),
        (found("read", errno.ECONNABORTED), "done", True, "fail", "cvmfs_disconnected"),
        (found("list", errno.EACCES), "done", True, "fail", "cvmfs_access_denied"),
        (found("list", errno.EPERM), "done", True, "fail", "cvmfs_access_denied"),
        (found("list", errno.EIO), "done", True, "fail", "cvmfs_io_error"),
        (found("attributes", errno.EIO), "done", True, "fail", "cvmfs_io_error"),
        (found("read", errno.EIO), "done", True, "fail", "cvmfs_data_unreadable"),
        (found("read", errno.ENOENT), "done", True, "fail", "cvmfs_data_unreadable"),
    ],
)
def test_a_repository_is_judged_by_step_and_errno(looked, state, is_mount, status, reason):
    judged = cvmfs.judge(looked, state, is_mount)
    assert judged[:2] == (status, reason)
    assert (judged[2] is None) == (status == "ok")


@pytest.mark.parametrize(
    ("path", "mount_dir", "repository"),
    [
        ("/cvmfs/a.example/x/y", "/cvmfs", "a.example"),
        ("/cvmfs/a.example", "/cvmfs", "a.example"),
        ("/cvmfs", "/cvmfs", None),
        ("/cvmfs/", "/cvmfs", None),
        ("/cvmfs2/a", "/cvmfs", None),
        ("/tmp/c/a.example/x", "/tmp/c", "a.example"),
        ("/cvmfs/a.example/x", "/tmp/c", "a.example"),
        ("docker://a/b", "/cvmfs", None),
        ("/data/x.sif", "/cvmfs", None),
    ],
)
def test_the_repository_of_a_path(path, mount_dir, repository):
    assert cvmfs.repository_of(path, mount_dir) == repository


MOUNTED = [mount("/cvmfs", "autofs"), mount("/cvmfs/m.example", "fuse"), mount("/cvmfs/m.example/in/side", "ext4")]


@pytest.mark.parametrize(
    ("changes", "mounts", "kind", "names"),
    [
        ({"cvmfs_repositories": ["b", "a", "b"]}, MOUNTED, "autofs", ["b", "a"]),
        ({}, MOUNTED, "autofs", ["m.example", *cvmfs.DEFAULT_REPOSITORIES]),
        ({}, MOUNTED[1:], "fuse", ["m.example"]),
        ({}, [], "none", []),
        ({"images": ["/cvmfs/i.example/img", "docker://x"]}, [], "none", ["i.example"]),
        ({"images": ["/cvmfs/m.example/img", "/data/y"]}, MOUNTED[1:], "fuse", ["m.example"]),
    ],
)
def test_which_repositories_are_looked_at(changes, mounts, kind, names):
    assert cvmfs.wanted(settings(**changes), mounts, "/cvmfs", kind) == names


def test_a_folder_is_listed_and_a_small_file_in_it_read(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/small").write_text("data")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    seen = cvmfs.look(str(tmp_path))
    assert (seen["names"], seen["read"], seen["step"], seen["errno"]) == (4, str(tmp_path / "a/b/small"), None, None)
    assert 0 < seen["warm_latency_s"] < 5
    assert 0 < seen["latency_s"] < 5


def test_what_cannot_be_listed_is_told_by_step_and_errno(tmp_path):
    seen = cvmfs.look(str(tmp_path / "no"))
    assert (seen["step"], seen["errno"]) == ("list", errno.ENOENT)


def test_the_clients_attributes_become_numbers_and_ages():
    looked = found(revision="17", nioerr="2", timestamp_last_ioerr="900", version="2.12.0.0", root_hash="ab")
    row = cvmfs._row("a.example", done(looked), ("ok", None, None), "fuse", 1000.5)
    assert (row["revision"], row["nioerr"], row["last_ioerr_age_s"], row["client_version"]) == (17, 2, 100, "2.12.0.0")


def test_attributes_that_are_no_numbers_or_say_never_are_none():
    looked = found(revision="", nioerr="-1", timestamp_last_ioerr="0")
    row = cvmfs._row("a.example", done(looked), ("ok", None, None), "fuse", 1000.5)
    assert (row["revision"], row["nioerr"], row["last_ioerr_age_s"]) == (None, None, None)


def test_a_repository_where_nothing_is_mounted_is_called_not_mounted():
    row = cvmfs._row("a", done(found("list", errno.ENOENT)), ("fail", "cvmfs_repository_missing", "x"), "none", 0.0)
    assert (row["status"], row["reason"]) == ("fail", "cvmfs_not_mounted")


def test_the_clients_proxies_are_shown_without_passwords():
    looked = found(proxy="http://user:secret@p.example:3128", host="http://user:secret@s.example/cvmfs/a")
    row = cvmfs._row("a.example", done(looked), ("ok", None, None), "fuse", 0.0)
    assert "secret" not in str(row)
