"""Installations: where they are looked for, what is read about them, and how they are judged."""
# ruff: noqa: ANN001, ANN003 - the rows of a table give the types of its test's arguments

import errno
import os
from pathlib import Path

import pytest

from probe.detectors import runtimes
from probe.detectors.runtimes import OASIS, Place
from probe.host import Host
from tests.probe.samples import HUNG, done, exited, killed, not_started, settings, timed_out

OASIS_BINARY = OASIS + "/singularity/bin/singularity"


def order(glidein: dict[str, str], environment: dict[str, str] | None = None, **changes) -> list[tuple[str, str, str]]:
    found = runtimes.places(settings(glidein, **changes), {"PATH": "/bin", **(environment or {})})
    return [(place.found_by, place.kind, place.where) for place in found]


PATHS = [("PATH", "folders", "/bin"), ("PATH", "folders", "/bin")]
OASES = [("cvmfs_oasis", "file", OASIS_BINARY), ("cvmfs_oasis", "file", OASIS + "/apptainer/bin/apptainer")]


@pytest.mark.parametrize(
    ("glidein", "environment", "expected"),
    [
        ({}, {}, [*PATHS, *OASES]),
        ({"SINGULARITY_BIN": "PATH"}, {}, [*PATHS, *OASES]),
        ({"SINGULARITY_BIN": "/opt/s/bin"}, {}, [("SINGULARITY_BIN", "folders", "/opt/s/bin"), *PATHS, *OASES]),
        ({"SINGULARITY_BIN": "OSG"}, {}, [("SINGULARITY_BIN:OSG", "file", OASIS_BINARY), *PATHS, *OASES]),
        (
            {"SINGULARITY_BIN": "OSG", "OSG_SINGULARITY_BINARY": "/cvmfs/other/s"},
            {},
            [
                ("SINGULARITY_BIN:OSG", "file", "/cvmfs/other/s"),
                *PATHS,
                ("cvmfs_oasis", "file", "/cvmfs/other/s"),
                OASES[1],
            ],
        ),
        (
            {"SINGULARITY_BIN": "CONDOR", "CONDOR_DIR": "/g/c"},
            {},
            [
                ("SINGULARITY_BIN:CONDOR", "file", "/g/c/usr/libexec/apptainer"),
                *PATHS,
                ("condor", "file", "/g/c/usr/libexec/apptainer"),
                *OASES,
            ],
        ),
        ({"SINGULARITY_BIN": "CONDOR"}, {}, [*PATHS, *OASES]),
        (
            {"GLIDEIN_SINGULARITY_BINARY_OVERRIDE": "/a:/b", "SINGULARITY_BIN": "/opt/s/bin"},
            {},
            [
                ("GLIDEIN_SINGULARITY_BINARY_OVERRIDE", "file_or_folders", "/a:/b"),
                ("SINGULARITY_BIN", "folders", "/opt/s/bin"),
                *PATHS,
                *OASES,
            ],
        ),
        (
            {"CONDOR_DIR": "/c"},
            {"MODULESHOME": "/m"},
            [
                *PATHS,
                ("condor", "file", "/c/usr/libexec/apptainer"),
                ("module", "module", "singularitypro"),
                ("module", "module", "singularity"),
                *OASES,
            ],
        ),
    ],
)
def test_places_are_searched_in_the_glideins_order(glidein, environment, expected):
    assert order(glidein, environment) == expected


def test_in_path_apptainer_comes_before_singularity_and_in_suggested_folders_after():
    found = runtimes.places(settings({"SINGULARITY_BIN": "/s"}), {"PATH": "/bin"})
    assert [place.names for place in found[:3]] == [("singularity", "apptainer"), ("apptainer",), ("singularity",)]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("/opt/x/apptainer", ("option", "file", "/opt/x/apptainer")), ("apptainer", ("option", "folders", "/bin"))],
)
def test_a_binary_given_as_option_is_the_only_place(wanted, expected):
    assert order({"SINGULARITY_BIN": "/s"}, singularity=wanted) == [expected]


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


def test_configuration_keeps_the_decisive_values_and_joins_repeated_ones():
    text = (
        "# allow setuid = no\nallow setuid = yes\nmax loop devices = 256\nlimit container paths = /a\n"
        " limit container paths =  /b \nbind path = /etc/localtime\nallow setuid-mount squashfs = iflimited\nnonsense\n"
    )
    assert runtimes.parse_configuration(text) == {
        "allow setuid": "yes",
        "max loop devices": "256",
        "limit container paths": "/a,/b",
        "allow setuid-mount squashfs": "iflimited",
    }


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
        (exited(0, "hello\n"), "fail", "runtime_wrong_output", "hello"),
        (exited(0), "fail", "runtime_wrong_output", "''"),
        (exited(1, "", "no such module\n"), "fail", "runtime_wrong_output", "no such module"),
        (timed_out(), "timeout", "runtime_timeout", "8 s"),
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


def make_installation(prefix: Path, layout: str = "libexec/apptainer/bin") -> Path:
    for path in (prefix / "bin/apptainer", prefix / layout / "starter-suid", prefix / "etc/apptainer/apptainer.conf"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("allow setuid = no\n")
        path.chmod(0o755)
    return prefix / "bin/apptainer"


@pytest.mark.parametrize("layout", ["libexec/apptainer/bin", "lib/apptainer/bin", "lib64/singularity/bin"])
def test_starter_and_configuration_that_belong_to_a_binary_are_found(tmp_path, layout):
    binary = make_installation(tmp_path, layout)
    found = runtimes.look(Place("PATH", "folders", str(binary.parent)), Host({}))
    assert found is not None
    assert (found["path"], found["executable"]) == (str(binary), True)
    assert (found["starter"]["path"], found["starter"]["setuid"]) == (str(tmp_path / layout / "starter-suid"), False)
    assert found["configuration"]["values"] == {"allow setuid": "no"}


def test_a_path_list_is_searched_name_by_name_and_what_is_not_executable_is_passed(tmp_path):
    for folder, name, mode in (("a", "apptainer", 0o755), ("b", "singularity", 0o755), ("a", "singularity", 0o644)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch(mode)
    place = Place("x", "file_or_folders", f"{tmp_path}/a::{tmp_path}/b", ("singularity", "apptainer"))
    found = runtimes.look(place, Host({}))
    assert found is not None
    assert found["path"] == str(tmp_path / "b/singularity")


def test_nothing_at_a_place_is_none(tmp_path):
    assert runtimes.look(Place("x", "file", str(tmp_path / "no")), Host({})) is None
    assert runtimes.look(Place("x", "file", str(tmp_path)), Host({})) is None


def test_one_real_file_counts_once_and_a_hung_place_stands_under_its_own_path():
    searched = [
        Place("PATH", "folders", "/bin"),
        Place("PATH", "folders", "/usr/bin"),
        Place("cvmfs_oasis", "file", "/cvmfs/s"),
    ]
    same = {"path": "/bin/s", "real": "/usr/bin/s"}
    found = runtimes._unique(searched, [done(same), done({**same, "path": "/usr/bin/s"}), HUNG])
    assert [(place.found_by, row["path"], hung) for place, row, hung in found] == [
        ("PATH", "/bin/s", False),
        ("cvmfs_oasis", "/cvmfs/s", True),
    ]
