"""Captured hosts, played back: each is answered as its name says, and its whole report stays as it was."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.hosts.masking import Masker, masked_notes, to_text
from tests.hosts.playing import without_volatile
from tests.hosts.replay import NotRecorded, ReplayHost, replayed_report
from tests.probe.samples import ROOT, SCHEMA

HOSTS = Path(__file__).parent

# What a reader of the host's name expects: usable, mode, reason; and what else decides, by path into the report.
ANSWERS: dict[str, tuple[bool, str | None, str | None, dict[str, object]]] = {
    "debian12-root-no_apptainer": (False, None, "runtime_not_found", {"runtimes": []}),
    "debian12-root-capabilities_missing": (False, None, "capabilities_missing", {"namespaces.user.status": "ok"}),
    "debian12-unprivileged-fuse_denied": (
        True,
        "unprivileged",
        None,
        {
            "singularity.features.sif.reason": "fuse_device_denied",
            "singularity.features.sandbox.status": "ok",
            "singularity.features.pid_namespace.status": "ok",
            "singularity.modes.privileged.reason": "setuid_not_installed",
            "cvmfs.kind": "none",
        },
    ),
    "debian12-masked_proc": (
        False,
        None,
        "proc_masked",
        {
            "host.security.proc_masked": ["/proc/keys"],
            "namespaces.pid.reason": "proc_masked",
            "singularity.features.sandbox.status": "ok",
            "singularity.features.pid_namespace.reason": "proc_masked",
            "singularity.alternatives.0.change": {"SINGULARITY_DISABLE_PID_NAMESPACES": "1"},
            "singularity.alternatives.0.check.status": "ok",
        },
    ),
    "debian12-user_unknown": (False, None, "user_unknown", {"host.identity.user": None}),
    "debian12-userns_disabled": (False, None, "userns_disabled", {"namespaces.user.reason": "userns_disabled"}),
    "el8-setuid-userns_disabled": (
        True,
        "privileged",
        None,
        {
            "singularity.modes.privileged.status": "ok",
            "singularity.modes.unprivileged.reason": "userns_disabled",
            "singularity.features.sif.status": "ok",
            "runtimes.0.setuid.usable": True,
            "host.cgroup.version": 1,
            "host.security.selinux": "enforcing",
        },
    ),
    "el9-cvmfs_hung": (
        True,
        "unprivileged",
        None,
        {
            "cvmfs.kind": "autofs",
            "cvmfs.client_version": "2.12.0.0",
            "cvmfs.repositories.0.status": "ok",
            "cvmfs.repositories.1.reason": "cvmfs_hung",
            "images.0.reason": "cvmfs_hung",
            "images.1.status": "ok",
            "images.1.os.id": "rocky",
            "glidein.entry": "Example_T2_EL9",
        },
    ),
    "ubuntu24-apparmor_userns": (
        False,
        None,
        "userns_restricted_apparmor",
        {"namespaces.user.reason": "userns_restricted_apparmor", "host.security.apparmor": "unconfined"},
    ),
}


def notes_of(name: str) -> dict[str, Any]:
    return json.loads((HOSTS / name / "host.json").read_text(encoding="utf-8"))


def at(report: Any, path: str) -> object:  # noqa: ANN401 - a report is JSON
    """A value by its dotted path."""
    for word in path.split("."):
        report = report[int(word)] if isinstance(report, list) else report[word]
    return report


def test_every_captured_host_has_its_answer_and_every_answer_its_host():
    assert {path.parent.name for path in HOSTS.glob("*/host.json")} == set(ANSWERS)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_captured_host_is_answered_as_its_name_says(name: str):
    usable, mode, reason, others = ANSWERS[name]
    report = replayed_report(notes_of(name))
    found = report["singularity"]
    assert (found["usable"], found["mode"], found["reason"]) == (usable, mode, reason)
    assert {path: at(report, path) for path in others} == others


@pytest.mark.parametrize("name", ANSWERS)
def test_the_whole_report_of_a_captured_host_is_as_it_was(name: str):
    """After a change that is meant: scripts/capture-host --replay NAME, and read the difference."""
    report = replayed_report(notes_of(name))
    expected = json.loads((HOSTS / name / "expected-report.json").read_text(encoding="utf-8"))
    assert without_volatile(report) == expected


@pytest.mark.parametrize("name", ANSWERS)
def test_the_report_of_a_captured_host_fits_the_schema(name: str):
    report = replayed_report(notes_of(name))
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(report)] == []


@pytest.mark.parametrize("name", ANSWERS)
def test_a_captured_host_says_where_it_is_from_and_holds_no_names(name: str):
    assert (HOSTS / name / "source.txt").read_text(encoding="utf-8").startswith(("Captured on ", "Made by hand."))
    notes = notes_of(name)
    again, masked = masked_notes(notes, notes["attempts"]["machine.user"][0]["value"], "/home/user", [])
    assert (again, masked) == (notes, {})


# --- playing ---


def test_playing_touches_neither_files_nor_programs(monkeypatch: pytest.MonkeyPatch):
    notes = notes_of("debian12-unprivileged-fuse_denied")
    replayed_report(notes)  # whatever is imported is imported now

    def forbidden(*arguments: object, **_: object) -> None:
        raise AssertionError(f"a played host reached the machine: {arguments}")

    for name in ("fork", "listdir", "scandir", "stat", "mkdir", "uname", "getxattr"):
        monkeypatch.setattr(f"os.{name}", forbidden)
    assert replayed_report(notes)["singularity"]["usable"] is True


def test_what_was_not_recorded_is_told_by_name():
    host = ReplayHost(notes_of("debian12-root-no_apptainer"))
    with pytest.raises(NotRecorded, match="'/no/such/file'"):
        host.read("/no/such/file")
    with pytest.raises(NotRecorded, match=r"'cvmfs\.x'"):
        host.attempt("cvmfs.x", 1.0, print)
    with pytest.raises(NotRecorded, match="'rm'"):
        host.run(["rm"], 1.0)
    with pytest.raises(ValueError, match="format 99"):
        ReplayHost({"format": 99})


# --- masking ---


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("nothing to hide", "nothing to hide"),
        ("node17 is here, node17.", "node is here, node."),
        ("/proc/sys/node17 and my-node17x", "/proc/sys/node17 and my-node17x"),
        ("alice:x", "user:x"),
        ("/data/alice/job", "/home/user/job"),
        ("/home/bob/x /home/carol", "/home/user1/x /home/user2"),
        ("at 10.1.2.3 and 10.1.2.3:80, 127.0.0.1", "at 192.0.2.1 and 192.0.2.1:80, 127.0.0.1"),
        ("kernel 6.8.0-45 version 2.12.0", "kernel 6.8.0-45 version 2.12.0"),
        ("fe80::1 ::1 0::/user.slice 0:42", "2001:db8::1 ::1 0::/user.slice 0:42"),
        ("00:1a:2b:3c:4d:5e", "02:00:00:00:00:01"),
        ("GPU-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f", "GPU-00000000-0000-4000-8000-000000000001"),
        ("http://squid.site.edu:3128;DIRECT", "http://server1.example:3128;DIRECT"),
        ("nfs01.site.edu:/export/data", "server1.example:/export/data"),
        ("docker://docker.io/library/x", "docker://docker.io/library/x"),
    ],
)
def test_names_are_masked_and_facts_are_kept(text: str, masked: str):
    masker = Masker()
    masker.word("node17", "node")
    masker.word("alice", "user")
    masker.path("/data/alice", "/home/user")
    assert masker.apply(text) == masked
    assert masker.apply(masked) == masked
    assert bool(masker.masked) == (text != masked)


def test_the_same_name_is_masked_by_the_same_word_everywhere():
    masker = Masker()
    assert masker.apply("10.0.0.1 10.0.0.2") == "192.0.2.1 192.0.2.2"
    assert masker.apply("10.0.0.2 10.0.0.3") == "192.0.2.2 192.0.2.3"


def test_keys_and_the_whole_domain_are_masked():
    notes = notes_of("debian12-root-no_apptainer")
    notes["facts"]["hostname"] = "wn17.site.edu"
    notes["reads"]["/home/alice/x"] = "wn17 asks squid.site.edu:3128"
    notes["reads"]["/etc/machine-id"] = "a1" * 16 + "\n"
    notes["attempts"].update({"network.10.1.2.3:80": [], "network.ce.site.edu:443": [], "scratch./home/alice/tmp": []})
    text = to_text(masked_notes(notes, "alice", "/home/alice", [("squid", "proxy")])[0])
    assert [word for word in ("wn17", "alice", "site.edu", "a1a1", "10.1.2.3") if word in text] == []
    assert '"/home/user/x": "node asks server' in text
    assert '"network.192.0.2.' in text
    assert '"scratch./home/user/tmp"' in text


def test_a_version_of_four_numbers_is_no_address():
    notes = notes_of("el9-cvmfs_hung")
    assert '"version": "2.12.0.0"' in to_text(masked_notes(notes, None, None, [])[0])


# --- capturing ---


@pytest.mark.parametrize("interpreter", [sys.executable])
def test_this_machine_can_be_captured_and_played_back(tmp_path: Path, interpreter: str):
    (tmp_path / "config").write_text("GLIDEIN_Site SOMEWHERE\n")
    command = [
        interpreter,
        ROOT / "scripts/capture-host",
        "here",
        "--output",
        tmp_path,
        "--config",
        tmp_path / "config",
    ]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "SECRET": "xyzzy", "TMPDIR": str(tmp_path)}
    answer = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    assert "masked" in answer.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config", "here"]
    written = sorted((tmp_path / "here").iterdir())
    assert [path.name for path in written] == ["expected-report.json", "host.json", "source.txt"]
    assert not any("xyzzy" in path.read_text() for path in written)
    before = (tmp_path / "here/expected-report.json").read_text()
    assert json.loads(before)["glidein"]["site"] == "SOMEWHERE"
    shutil.copy(tmp_path / "here/source.txt", tmp_path / "here/expected-report.json")
    again = [interpreter, ROOT / "scripts/capture-host", "--replay", "--output", tmp_path]
    subprocess.run(again, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "here/expected-report.json").read_text() == before


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["../up"], [".hidden"], ["x", "--mask", "nothing"]])
def test_wrong_use_of_the_capture_is_told(arguments: list[str]):
    answer = subprocess.run(
        [sys.executable, ROOT / "scripts/capture-host", *arguments], capture_output=True, text=True, timeout=60
    )
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
