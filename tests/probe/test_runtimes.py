"""Installations: where they are looked for, what is read about them, and how they are judged."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import os

import pytest

from probe.detectors import runtimes
from tests.probe.samples import exited, killed, not_started, timed_out


@pytest.mark.parametrize(
    ("text", "product", "version"),
    [
        ("apptainer version 1.4.5\n", "apptainer", "1.4.5"),
        ("apptainer version 1.4.0-rc.1+12-gabc\n", "apptainer", "1.4.0-rc.1+12-gabc"),
        ("singularity version 3.8.7-1.el7\n", "singularity", "3.8.7-1.el7"),
        ("singularity-ce version 4.1.0-jammy\n", "singularity-ce", "4.1.0-jammy"),
        ("SingularityPRO version 3.9-10.el8\n", "singularity-pro", "3.9-10.el8"),
        ("singularity-pro version 4.1.6\n", "singularity-pro", "4.1.6"),
        ("2.6.1-dist\n", "singularity", "2.6.1-dist"),
        ("WARNING: something\nsingularity version 3.4.2\n", "singularity", "3.4.2"),
        ("apptainer version 1.4.5\r\n", "apptainer", "1.4.5"),
        ("", None, None),
        ("podman version 5.1\n", None, None),
        ("hello 2.0 world\n", None, None),
    ],
)
def test_product_and_version_of_every_product(text, product, version):
    assert runtimes.parse_version(text) == (product, version)


def looked(starter: dict[str, object] | None, **values: str) -> dict[str, object]:
    found = (
        None if starter is None else {"path": "/p/starter-suid", "setuid": True, "owner": 0, "nosuid": False, **starter}
    )
    configuration = {"path": "/etc/x.conf", "values": {name.replace("_", " "): value for name, value in values.items()}}
    return {"starter": found, "configuration": configuration}


@pytest.mark.parametrize(
    ("found", "identity_map", "no_new_privs", "installed", "reason"),
    [
        (looked(None), True, False, False, "setuid_not_installed"),
        (looked({}), True, False, True, None),
        (looked({}), None, None, True, None),
        (looked({"setuid": False}), True, False, True, "setuid_bit_missing"),
        (looked({"owner": 1001}), True, False, True, "setuid_bit_missing"),
        (looked({"executable": False}), True, False, True, "setuid_bit_missing"),
        (looked({"owner": 65534, "nosuid": True}), False, True, True, "setuid_in_namespace"),
        (looked({"setuid": False}, allow_setuid="no"), True, False, True, "setuid_disabled_by_config"),
        (looked({"nosuid": True}), True, False, True, "setuid_on_nosuid_mount"),
        (looked({}, allow_setuid="no"), True, False, True, "setuid_disabled_by_config"),
        (looked({}, allow_setuid="yes"), True, False, True, None),
        (looked({}), False, False, True, "setuid_in_namespace"),
        (looked({}), True, True, True, "setuid_in_namespace"),
        ({**looked({}), "configuration": None}, True, False, True, None),
    ],
)
def test_what_stands_in_the_way_of_a_setuid_starter(found, identity_map, no_new_privs, installed, reason):
    facts = runtimes.setuid_facts(found, identity_map, no_new_privs)
    assert (facts["installed"], facts["reason"], facts["usable"]) == (installed, reason, reason is None)


@pytest.mark.parametrize(
    ("outcome", "status", "reason", "said"),
    [
        (exited(0, "apptainer version 1.4.5\n"), "ok", None, None),
        (exited(0, "apptainer version unknown\n"), "ok", None, None),  # a build by hand
        (exited(0, "hello\n"), "ok", None, None),  # a glidein tries it
        (exited(1, "hello\n"), "fail", "runtime_wrong_output", "hello"),
        (exited(0), "fail", "runtime_wrong_output", "''"),
        (exited(1, "", "no such module\n"), "fail", "runtime_wrong_output", "no such module"),
        (exited(255, "", "FATAL:   user: unknown userid 54321\n"), "fail", "user_unknown", "unknown userid"),
        (not_started(errno.EAGAIN), "fail", "resources_exhausted", os.strerror(errno.EAGAIN)),
        (timed_out()._replace(duration_s=15.0), "timeout", "runtime_timeout", "15 s"),
        (timed_out(), "unknown", "deadline_reached", "5 s"),
        (timed_out()._replace(duration_s=1.4), "unknown", "deadline_reached", "1 s"),
        (timed_out()._replace(duration_s=1.4, left_running=True), "timeout", "runtime_timeout", "1 s"),
        (not_started(errno.ENOENT), "fail", "runtime_not_found", os.strerror(errno.ENOENT)),
        (not_started(errno.ENOEXEC), "fail", "runtime_not_executable", os.strerror(errno.ENOEXEC)),
        (not_started(errno.EACCES), "fail", "runtime_not_executable", os.strerror(errno.EACCES)),
        (killed(11), "fail", "runtime_crashed", "signal 11"),
    ],
)
def test_a_version_run_is_judged(outcome, status, reason, said):
    found = runtimes.judge_version(outcome)
    assert found[:2] == (status, reason)
    assert (found[2] is None) if said is None else said in (found[2] or "")


def row(
    found_by: str, where: str, real: str | None = None, hung: bool = False, errno: int | None = None
) -> dict[str, object]:
    looked = real and {"path": where, "real": real}
    return {"found_by": found_by, "where": where, "looked": looked, "hung": hung, "cut_short": False, "errno": errno}


def test_one_real_file_counts_once_and_a_hung_place_stands_under_its_own_path():
    rows = [
        row("PATH", "/bin/s", "/usr/bin/s"),
        row("PATH", "/usr/bin/s", "/usr/bin/s"),
        row("condor", "/c/s"),
        row("cvmfs_oasis", "/cvmfs/s", hung=True),
    ]
    found = runtimes._unique(rows)
    assert [(found_row["found_by"], runtimes._path(found_row)) for found_row in found] == [
        ("PATH", "/bin/s"),
        ("cvmfs_oasis", "/cvmfs/s"),
    ]


@pytest.mark.parametrize(
    ("where", "cut_short", "status", "reason"),
    [
        ("/opt/s/bin", False, "timeout", "runtime_timeout"),
        ("/cvmfs/oasis.opensciencegrid.org/mis/singularity/bin", False, "timeout", "cvmfs_hung"),
        ("/opt/s/bin", True, "unknown", "deadline_reached"),
    ],
)
def test_a_place_that_does_not_answer(where: str, cut_short: bool, status: str, reason: str):
    place = {**row("SINGULARITY_BIN", where, hung=True), "cut_short": cut_short}
    found = runtimes._runtime(place, None, True, False)
    assert (found["path"], found["status"], found["reason"]) == (where, status, reason)
