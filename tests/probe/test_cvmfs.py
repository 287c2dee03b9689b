"""CVMFS: how it is mounted and whether repositories give data."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import hashlib
import os
import zlib

import pytest

from probe import repository_sets
from probe.detectors import cvmfs, cvmfs_content, cvmfs_look, cvmfs_mounts, cvmfs_rows
from probe.detectors.cvmfs_rows import Known
from probe.host import Host
from probe.settings import WrongUse, combine
from tests.probe.samples import HUNG, died, done, settings


def mount(point: str, kind: str, options: str = "rw") -> dict[str, str]:
    return {"root": "/", "point": point, "options": "rw", "type": kind, "source": "x", "super": options}


AUTOFS = "rw,fd=6,pgrp={},timeout=300,minproto=5,maxproto=5,indirect"


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
        ([mount("/srv/cvmfs", "ext4")], "/srv/cvmfs", False, "bind"),
        ([mount("/net/cvmfs", "nfs4")], "/net/cvmfs", False, "nfs"),
        # GlideinWMS takes the site's own where there is one, whatever the setting says.
        ([mount("/cvmfs", "autofs", AUTOFS.format(812)), mount("/cvmfs/a", "fuse")], "/cvmfs", True, "autofs"),
        ([mount("/cvmfs", "autofs", AUTOFS.format(0)), mount("/cvmfs/a", "fuse")], "/cvmfs", False, "bind"),
        ([mount("/cvmfs", "overlay"), mount("/cvmfs/a", "fuse")], "/cvmfs", False, "bind"),
    ],
)
def test_the_mount_table_tells_the_kind(mounts, mount_dir, cvmfsexec, kind):
    assert cvmfs_mounts.kind_of(mounts, mount_dir, cvmfsexec) == kind


def test_a_folder_that_is_a_link_is_found_in_the_mount_table(tmp_path):
    (tmp_path / "cvmfs").symlink_to("var/mounts")
    target = cvmfs.link_of(str(tmp_path / "cvmfs"))
    assert (target, cvmfs.link_of(str(tmp_path))) == (str(tmp_path / "var/mounts"), None)
    mounts = [mount("/", "ext4"), mount(f"{target}/a.example", "fuse"), mount(f"{target}2", "fuse")]
    seen = cvmfs_mounts.as_linked(mounts, "/cvmfs", target)
    assert [row["point"] for row in seen] == ["/", "/cvmfs/a.example", f"{target}2"]
    assert cvmfs_mounts.kind_of(seen, "/cvmfs", False) == "fuse"
    assert cvmfs_mounts.as_linked(mounts, "/cvmfs", None) == mounts


@pytest.mark.parametrize(
    ("copies", "kind", "rows", "ids"),
    [
        (["a.example/", "a.example/file"], "bind", [("a.example", "ok", None)], ["cvmfs.a.example"]),
        (["a.example/"], "none", [("a.example", "fail", "cvmfs_not_mounted")], ["cvmfs.a.example"]),
        (["plain/"], "none", [], ["cvmfs"]),
    ],
)
def test_unpacked_copies_where_cvmfs_would_be_are_looked_at(tmp_path, copies, kind, rows, ids):
    for name in copies:
        path = tmp_path / name
        path.write_text("data") if name.endswith("file") else path.mkdir()
    (found,) = cvmfs.detect(Host({}), settings(cvmfs_mount_dir=str(tmp_path)), {})
    told = found["data"]
    assert (told["kind"], [(row["name"], row["status"], row["reason"]) for row in told["repositories"]]) == (kind, rows)
    assert [row["id"] for row in found["checks"]] == ids


def test_parrot_mounts_nothing_and_is_known_by_its_sign():
    assert cvmfs_mounts.kind_of([], "/cvmfs", False, in_parrot=True) == "parrot"
    assert cvmfs_mounts.kind_of([mount("/cvmfs/a", "fuse")], "/cvmfs", False, in_parrot=True) == "fuse"


def test_the_last_mount_at_a_path_counts():
    mounts = [mount("/cvmfs/a", "autofs"), mount("/cvmfs/a", "fuse"), mount("/cvmfs/a/b", "ext4")]
    assert cvmfs_mounts.mount_of(mounts, "/cvmfs/a") == mounts[1]
    assert cvmfs_mounts.mount_of(mounts, "/cvmfs/c") is None


def found(step: str | None = None, error: int | None = None, names: int = 3, **others: object) -> dict[str, object]:
    attributes = others.pop("attributes", {})
    return {"names": names, "attributes": attributes, "read": "f", "step": step, "errno": error, **others}


FUSE = Known(was_mounted=True, kind="fuse", limit_s=4.0)
LEFT = Known(was_mounted=False, kind="fuse", limit_s=4.0)
BIND = Known(was_mounted=False, kind="bind", limit_s=4.0)
NONE = Known(was_mounted=False, kind="none", limit_s=4.0)
ASKED = Known(was_mounted=True, kind="fuse", limit_s=4.0, least_revision=10)


@pytest.mark.parametrize(
    ("looked", "state", "known", "status", "reason"),
    [
        (found(), "done", FUSE, "ok", None),
        (found(names=0, plain=False), "done", FUSE, "ok", None),
        (found(names=0, plain=True, attributes={"fqrn": "a.example"}), "done", LEFT, "ok", None),
        (found(names=5, plain=True), "done", LEFT, "ok", None),  # an unpacked copy is data, too
        # What a dead client leaves: before we looked, while we did, and where there was none.
        (found(names=0, plain=True), "done", LEFT, "fail", "cvmfs_repository_missing"),
        (found(names=0, plain=True), "done", FUSE, "fail", "cvmfs_disconnected"),
        (found("list", errno.ENOENT), "done", FUSE, "fail", "cvmfs_disconnected"),
        (found(names=0, plain=True), "done", NONE, "fail", "cvmfs_not_mounted"),
        (found("list", errno.ENOENT), "done", NONE, "fail", "cvmfs_not_mounted"),
        (found(names=0, plain=True), "done", BIND, "fail", "cvmfs_repository_missing"),
        ({}, "timeout", FUSE, "timeout", "cvmfs_hung"),
        ({}, "late", FUSE, "unknown", "deadline_reached"),
        ({}, "died", FUSE, "unknown", "probe_error"),
        (found("list", errno.ENOENT), "done", LEFT, "fail", "cvmfs_repository_missing"),
        (found("list", errno.ENOTDIR), "done", LEFT, "fail", "cvmfs_repository_missing"),
        (found("list", errno.ELOOP), "done", BIND, "fail", "autofs_not_visible_inside"),
        (found("list", errno.ENOTCONN), "done", FUSE, "fail", "cvmfs_disconnected"),
        (found("attributes", errno.ENOTCONN), "done", FUSE, "fail", "cvmfs_disconnected"),
        (found("read", errno.ECONNABORTED), "done", FUSE, "fail", "cvmfs_disconnected"),
        (found("list", errno.EACCES), "done", FUSE, "fail", "cvmfs_access_denied"),
        (found("list", errno.EPERM), "done", FUSE, "fail", "cvmfs_access_denied"),
        (found("read", errno.EACCES), "done", FUSE, "fail", "cvmfs_access_denied"),
        (found("list", errno.EIO), "done", FUSE, "fail", "cvmfs_io_error"),
        (found("attributes", errno.EIO), "done", FUSE, "fail", "cvmfs_io_error"),
        (found("read", errno.EIO), "done", FUSE, "fail", "cvmfs_data_unreadable"),
        (found("read", errno.ENOENT), "done", FUSE, "fail", "cvmfs_data_unreadable"),
        (found("read", errno.ESTALE), "done", FUSE, "fail", "cvmfs_data_unreadable"),
        (found(short_read=[10, 20]), "done", FUSE, "fail", "cvmfs_data_unreadable"),
        (found(attributes={"revision": "9"}), "done", ASKED, "fail", "cvmfs_stale"),
        (found(attributes={"revision": "10"}), "done", ASKED, "ok", None),
        (found(), "done", ASKED, "ok", None),  # no revision is no evidence
    ],
)
def test_a_repository_is_judged_by_step_and_errno(looked, state, known, status, reason):
    judged = cvmfs_rows.judge(looked, state, known)
    assert judged[:2] == (status, reason)
    assert (judged[2] is None) == (status == "ok")


def test_what_was_not_read_is_said_of_a_good_one():
    judged = cvmfs_rows.judge(dict(found(), read=None), "done", FUSE)
    assert judged == ("ok", None, "its listing only: no small file is near its root")


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


def sets(name: str) -> list[str]:
    return repository_sets.repositories(name)


MOUNTED = [mount("/cvmfs", "autofs"), mount("/cvmfs/m.example", "fuse"), mount("/cvmfs/m.example/in/side", "ext4")]


@pytest.mark.parametrize(
    ("changes", "mounts", "kind", "names"),
    [
        ({"cvmfs_repositories": ["b", "a", "b"]}, MOUNTED, "autofs", ["b", "a"]),
        ({"cvmfs_repositories": ["b"], "cvmfs_sets": ["lhcb"]}, MOUNTED, "autofs", ["b", *sets("lhcb")]),
        ({"cvmfs_sets": ["atlas", "cms"]}, [], "none", list(dict.fromkeys(sets("atlas") + sets("cms")))),
        ({}, MOUNTED, "autofs", ["m.example", *sets("default")]),
        ({}, MOUNTED, "bind", ["m.example", *sets("default")]),  # an automounter's folder, bound in
        ({}, [], "parrot", sets("default")),
        ({}, MOUNTED[1:], "fuse", ["m.example"]),
        ({}, [], "none", []),
        ({"images": ["/cvmfs/i.example/img", "docker://x"]}, [], "none", ["i.example"]),
        ({"images": ["/cvmfs/m.example/img", "/data/y"]}, MOUNTED[1:], "fuse", ["m.example"]),
    ],
)
def test_which_repositories_are_looked_at(changes, mounts, kind, names):
    assert cvmfs.wanted(settings(**changes), mounts, "/cvmfs", kind) == names


def test_the_repositories_that_the_glidein_mounts_are_looked_at():
    asked = settings({"GLIDEIN_CVMFS_REPOS": "x.example:y.example:"})
    assert cvmfs.wanted(asked, MOUNTED[1:], "/cvmfs", "cvmfsexec") == ["x.example", "y.example", "m.example"]


def test_the_repositories_of_the_glideins_images_are_looked_at():
    asked = settings({"SINGULARITY_IMAGES_DICT": "el9:/cvmfs/i.example/el9,el8:/cvmfs/j.example/x,u:docker://a/b"})
    assert cvmfs.wanted(asked, [], "/cvmfs", "none") == ["i.example", "j.example"]


@pytest.mark.parametrize("name", ["..", "../etc", "/etc", "a/b", "", "-x", "a\nb", "x" * 256])
def test_what_would_lead_out_of_cvmfs_is_no_name(name):
    assert not cvmfs.is_name(name)


@pytest.mark.parametrize("name", [name for known in repository_sets.names() for name in sets(known)])
def test_the_names_of_the_sets_are_names(name):
    assert cvmfs.is_name(name)


def test_files_that_are_known_are_of_repositories_of_the_sets_and_lie_within_them():
    known = {name for each in repository_sets.names() for name in sets(each)}
    assert set(repository_sets.files()) <= known
    assert not [path for path in repository_sets.files().values() if path.startswith("/") or ".." in path]


@pytest.mark.parametrize(
    ("name", "value"), [("PROBE_CVMFS_SETS", "default,nonsense"), ("PROBE_CVMFS_MIN_REVISIONS", "a.example")]
)
def test_a_wrong_setting_is_told(name, value):
    with pytest.raises(WrongUse, match=name):
        combine("manual", {}, {name: value}, None, "", {})


def test_least_revisions_are_pairs():
    found = combine("manual", {}, {"PROBE_CVMFS_MIN_REVISIONS": "a.example=12, b.example=3"}, None, "", {})
    assert found.cvmfs_min_revisions == {"a.example": 12, "b.example": 3}


def test_a_folder_is_listed_and_a_small_file_in_it_read(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/small").write_text("data")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    seen = cvmfs_look.look(str(tmp_path))
    assert (seen["names"], seen["read"], seen["step"], seen["errno"]) == (4, str(tmp_path / "a/b/small"), None, None)
    assert 0 < seen["warm_latency_s"] < 5
    assert 0 < seen["latency_s"] < 5


def test_files_known_by_name_are_read_first(tmp_path):
    (tmp_path / "lcg").mkdir()
    (tmp_path / "a").write_text("data")
    (tmp_path / "new_repository").write_text("data")
    (tmp_path / "lcg/lastUpdate").write_text("now")
    assert cvmfs_look.look(str(tmp_path), "lcg/lastUpdate")["read"] == str(tmp_path / "lcg/lastUpdate")
    assert cvmfs_look.look(str(tmp_path), "no/such/file")["read"] == str(tmp_path / "new_repository")
    (tmp_path / "new_repository").unlink()
    assert cvmfs_look.look(str(tmp_path))["read"] == str(tmp_path / "a")


def test_an_empty_folder_is_plain_and_nothing_is_read(tmp_path):
    seen = cvmfs_look.look(str(tmp_path))
    assert (seen["names"], seen["plain"], seen["read"], seen["errno"]) == (0, True, None, None)


def test_a_wide_and_deep_tree_without_a_file_is_given_up(tmp_path):
    for number in range(200):
        (tmp_path / f"{number:03}/a/b/c").mkdir(parents=True)
    seen = cvmfs_look.look(str(tmp_path))
    assert (seen["read"], seen["errno"]) == (None, None)
    assert seen["latency_s"] < 2


def test_large_files_devices_and_links_are_not_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(10 * 1024**3)
    os.mkfifo(tmp_path / ".cvmfsdirtab")
    (tmp_path / "new_repository").symlink_to("/dev/zero")
    assert cvmfs_look.look(str(tmp_path))["read"] is None


def test_what_cannot_be_listed_is_told_by_step_and_errno(tmp_path):
    seen = cvmfs_look.look(str(tmp_path / "no"))
    assert (seen["step"], seen["errno"]) == ("list", errno.ENOENT)


def row(looked: dict[str, object], now: float = 0.0) -> dict[str, object]:
    return cvmfs_rows.row_of("a.example", done(looked), FUSE, now)


def test_the_clients_attributes_become_numbers_and_ages():
    told = {"revision": "17", "nioerr": "2", "timestamp_last_ioerr": "900", "version": "2.12.0.0"}
    made = row(found(attributes=told), 1000.5)
    assert (made["revision"], made["nioerr"], made["last_ioerr_age_s"], made["client_version"]) == (
        17,
        2,
        100,
        "2.12.0.0",
    )


@pytest.mark.parametrize("text", ["", "-1", "never (fixed root catalog)", "1.5", "9" * 30, "\u0661"])
def test_attributes_that_are_no_numbers_are_none(text):
    made = row(found(attributes={"revision": text, "nioerr": text, "timestamp_last_ioerr": text}))
    fields = ("revision", "nioerr", "last_ioerr_age_s")
    assert [made[name] for name in fields] == [None] * 3


def test_no_error_so_far_has_no_age():
    assert row(found(attributes={"timestamp_last_ioerr": "0"}))["last_ioerr_age_s"] is None


def test_the_clients_proxies_are_shown_without_passwords():
    hosts = {"proxy": "http://user:secret@p.example:3128", "host": "http://user:secret@s.example/cvmfs/a"}
    assert "secret" not in str(row(found(attributes=hosts)))


DATA = b"this is a small file\n"
ZLIB, RAW = hashlib.sha1(zlib.compress(DATA)).hexdigest(), hashlib.sha1(DATA).hexdigest()


@pytest.mark.parametrize(
    ("data", "wanted", "compression", "answer"),
    [
        (DATA, ZLIB, "zlib", "verified"),
        (DATA, RAW, "none", "verified"),
        (DATA + b"x", ZLIB, "zlib", "differs"),
        (DATA, RAW, "zlib", "differs"),
        (DATA, ZLIB + "-rmd160", "zlib", None),
        (DATA, "", "zlib", None),
        (DATA, ZLIB, "", None),
        (b"x" * 9000, ZLIB, "zlib", None),
    ],
)
def test_bytes_are_compared_with_the_catalogs_hash(data, wanted, compression, answer):
    assert cvmfs_content.judge(data, wanted, compression) == answer


@pytest.mark.parametrize(
    ("data", "compression", "answer"),
    [(DATA, "zlib", "verified"), (DATA + b"x", "zlib", None), (DATA + b"x", "none", "differs")],
)
def test_a_relative_of_zlib_makes_other_streams_of_the_same_bytes(monkeypatch, data, compression, answer):
    monkeypatch.setattr(zlib, "ZLIB_RUNTIME_VERSION", "1.3.1.zlib-ng")  # as in EL10 and Fedora
    assert cvmfs_content.judge(data, ZLIB if compression == "zlib" else RAW, compression) == answer


def test_without_the_attributes_there_is_no_comparison(tmp_path):
    (tmp_path / "file").write_bytes(DATA)
    with (tmp_path / "file").open("rb") as file:
        assert cvmfs_content.compare(file.fileno(), DATA) is None


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (["verified", "differs"], [("ok", "verified"), ("fail", "differs")]),
        (["differs", "differs"], [("ok", None), ("ok", None)]),  # then it may be our zlib
        ([None, "verified"], [("ok", None), ("ok", "verified")]),
    ],
)
def test_bytes_that_differ_count_where_others_agree(contents, expected):
    rows = [row(found(content=content)) for content in contents]
    cvmfs_rows.settle_content(rows)
    assert [(made["status"], made["content"]) for made in rows] == expected


def test_the_clients_cleanups_and_descriptors_are_told_as_evidence():
    result = done(found(attributes={"ncleanup24": "12", "maxfd": "1024", "usedfd": "1000"}))
    evidence = cvmfs_rows.check_of(cvmfs_rows.row_of("a.example", result, FUSE, 0.0), result)["evidence"]
    assert {name: evidence[name] for name in cvmfs_look.COUNTS} == {"ncleanup24": 12, "maxfd": 1024, "usedfd": 1000}
    untold = cvmfs_rows.check_of(cvmfs_rows.row_of("a.example", done(found()), FUSE, 0.0), done(found()))["evidence"]
    assert not set(cvmfs_look.COUNTS) & set(untold)


@pytest.mark.parametrize(("wanted_s", "status"), [(4.0, "timeout"), (10.0, "unknown")])
def test_a_repository_that_the_deadline_left_no_time_for_does_not_hang(wanted_s, status):
    assert cvmfs_rows.row_of("a.example", HUNG, FUSE._replace(wanted_s=wanted_s), 0.0)["status"] == status


def test_results_of_every_kind_make_rows_and_checks():
    for result in (done(found()), HUNG, died("no")):
        made = cvmfs_rows.row_of("a.example", result, FUSE, 0.0)
        assert cvmfs_rows.check_of(made, result)["status"] == made["status"]
    assert cvmfs_rows.check_of(cvmfs_rows.no_name(".."), None)["reason"] == "cvmfs_repository_missing"
