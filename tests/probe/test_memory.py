"""What runs of one glidein remember: when it counts, what has changed, and which start comes next."""

import sys
from pathlib import Path
from typing import Any

import pytest

from probe import memory
from probe.keeper import FOLDER, NONCE
from probe.settings import combine
from probe.version import VERSION
from tests.sample_reports import sample_report


def check(identifier: str, status: str = "ok", reason: str | None = None) -> dict[str, Any]:
    return {"id": identifier, "status": status, "reason": reason}


def remembered(**changes: object) -> dict[str, Any]:
    findings = {"cvmfs": {"data": {}, "checks": [check("cvmfs.a")]}, "host": {"data": {}, "checks": []}}
    kept = {
        "version": VERSION, "around": 1, "whole_at": 1000.0, "findings": findings, "files": {}, "folder": "/w",
        "complete": True, "launch": ["/a"], "published": [],
    }  # fmt: skip
    return dict(kept, **changes)


@pytest.mark.parametrize(
    ("now", "around", "changes", "expected"),
    [
        (1001.0, 1, {}, True),
        (1099.9, 1, {}, True),
        (1100.0, 1, {}, False),
        (999.0, 1, {}, False),
        (1001.0, 2, {}, False),
        (1001.0, 1, {"launch": None}, False),
        (1001.0, 1, {"around": {"x": 1}}, False),  # an older version's
    ],
)
def test_it_counts_while_it_is_young_and_nothing_around_has_changed(now, around, changes, expected):  # noqa: ANN001  a table's row
    assert memory.is_fresh(remembered(**changes), around, now, 100.0) is expected


@pytest.mark.parametrize(
    "content", [None, "a message", b"", b"{", b"null", b"[1]", b'{"version": "other"}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_memory_is_none(content: object):
    assert memory.load(content) is None


def test_it_comes_back_as_it_was_saved(tmp_path: Path):
    kept = remembered(launch=None)
    memory.save(str(tmp_path), kept, "x86_64")
    assert memory.load((tmp_path / "memory.json").read_bytes()) == kept
    assert not (tmp_path / "launch").exists()


def test_an_image_that_a_cleaner_of_old_files_has_been_at_is_made_anew(tmp_path: Path):
    findings = {"singularity": {"data": {"path": None}, "checks": []}, "runtimes": {"data": [], "checks": []}}
    kept = remembered(findings=findings)
    memory.save(str(tmp_path), kept, "x86_64")
    (tmp_path / "image/payload").unlink()
    memory.save(str(tmp_path), kept, "x86_64")
    assert (tmp_path / "image/payload").exists()
    assert (tmp_path / "image/etc/hosts").exists()


def test_what_a_run_depends_on_comes_back_equal():
    settings = combine("periodic", {}, {}, None, "", {"GLIDEIN_Site": "S", "OTHER": "x"})
    once = memory.surroundings(settings, {"PATH": "/bin", "APPTAINER_BIND": "/x", "USER": "u"}, "boot")
    assert once == memory.surroundings(settings, {"PATH": "/bin", "APPTAINER_BIND": "/x"}, "boot")
    assert once != memory.surroundings(settings, {"PATH": "/bin"}, "boot")
    assert once != memory.surroundings(settings, {"PATH": "/bin", "APPTAINER_BIND": "/x"}, "another boot")
    other = settings._replace(glidein={"GLIDEIN_Site": "S", "OTHER": "y"})
    assert once == memory.surroundings(other, {"PATH": "/bin", "APPTAINER_BIND": "/x"}, "boot")
    other = settings._replace(glidein={"GLIDEIN_Site": "T"})
    assert once != memory.surroundings(other, {"PATH": "/bin", "APPTAINER_BIND": "/x"}, "boot")


def test_no_value_of_a_variable_or_setting_is_kept():
    settings = combine("periodic", {"collector": "https://u:hunter2@h"}, {}, None, "", {})
    assert isinstance(memory.surroundings(settings, {"APPTAINER_DOCKER_PASSWORD": "hunter2"}, "boot"), int)


@pytest.mark.parametrize(
    ("executable", "libraries", "expected"),
    [("/a/python3", None, "/a/python3\n\n"), ("/a/python3", "/l", "/a/python3\n/l\n"), ("", "/l", "\n/l\n")],
)
def test_the_python_is_kept_with_the_libraries_that_it_starts_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str, libraries: str | None, expected: str
):
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    if libraries:
        monkeypatch.setenv("LD_LIBRARY_PATH", libraries)
    memory.save(str(tmp_path), remembered(launch=None), "x86_64")
    assert (tmp_path / "python").read_text() == expected


def test_changes_are_checks_that_answer_otherwise():
    after = {"cvmfs": {"data": {}, "checks": [check("cvmfs.a", "timeout", "cvmfs_hung"), check("cvmfs.b")]}}
    assert memory.changes(remembered(), after, "/w") == [
        {"check": "cvmfs.a", "before": "ok", "after": "timeout:cvmfs_hung"},
        {"check": "cvmfs.b", "before": None, "after": "ok"},
    ]


def test_another_working_folder_is_no_change():
    before = remembered(findings={"scratch": {"data": {}, "checks": [check("host.scratch./w")]}})
    assert memory.changes(before, {"scratch": {"data": {}, "checks": [check("host.scratch./w/tmp.1")]}}, "/w/tmp.1") == []


def test_gpus_are_looked_at_again_only_where_there_were_some():
    kept = remembered()
    assert memory.again(kept, ["cvmfs", "host"]) == ["cvmfs"]
    kept["findings"]["gpus"] = {"data": {"status": "ok"}, "checks": []}
    assert memory.again(kept, ["cvmfs", "gpus"]) == ["cvmfs", "gpus"]


def test_the_next_start_is_the_glideins_with_our_image():
    command = "/opt/a b/apptainer exec --home '/w x:/srv' --pwd /srv --pid --bind /etc/hosts IMAGE cat /proc/self/uid_map"
    command = command.replace("/opt/a b/", "'/opt/a b/'")
    report = sample_report("healthy", singularity__command=command)
    words = memory.launch_words(report, "/state/image", {"PATH": "/usr/bin:/bin", "LD_PRELOAD": None})
    assert words == [
        "PATH=/usr/bin:/bin", "LD_PRELOAD=",
        "/opt/a b/apptainer", "exec", "--home", FOLDER, "--pwd", "/srv", "--pid", "--bind", "/etc/hosts",
        "/state/image", "/payload", NONCE,
    ]  # fmt: skip
    assert memory.launch_words(sample_report("no_runtime"), "/state/image", {}) is None


def test_a_file_is_known_by_inode_time_and_size(tmp_path: Path):
    path = tmp_path / "runtime"
    path.write_text("1")
    once = memory.identities([str(path), "/no/such/file"])
    assert once["/no/such/file"] is None
    path.write_text("22")
    assert memory.identities([str(path)])[str(path)] != once[str(path)]
