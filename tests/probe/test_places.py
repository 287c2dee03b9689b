"""Where a glidein looks for Singularity, and what is read about what lies there."""
# ruff: noqa: ANN001, ANN003 - the rows of a table give the types of its test's arguments

import errno
from pathlib import Path
from typing import Any

import pytest

from probe.detectors import places
from probe.detectors.places import OASIS, Place
from probe.host import Host
from probe.workers import Result
from tests.probe.samples import settings

OASIS_BINARY = "/cvmfs" + OASIS


def order(glidein: dict[str, str], environment: dict[str, str] | None = None, **changes) -> list[tuple[str, str, str]]:
    found = places.places(settings(glidein, **changes), {"PATH": "/bin", **(environment or {})})
    return [(place.found_by, place.kind, place.where) for place in found]


PATHS = [("PATH", "folders", "/bin"), ("PATH", "folders", "/bin")]
OSG = [("SINGULARITY_BIN:OSG", "folder", OASIS_BINARY.rpartition("/")[0])]
LAST = [("cvmfs_oasis", "file", OASIS_BINARY)]
OVERRIDE = "GLIDEIN_SINGULARITY_BINARY_OVERRIDE"
MODULES = [("module", "module", "singularitypro"), ("module", "module", "singularity")]


@pytest.mark.parametrize(
    ("glidein", "environment", "expected"),
    [
        ({}, {}, [*OSG, *PATHS, *LAST]),
        ({"SINGULARITY_BIN": "OSG"}, {}, [*OSG, *PATHS, *LAST]),
        ({"SINGULARITY_BIN": "PATH"}, {}, [*PATHS, *LAST]),
        ({"SINGULARITY_BIN": "PASS"}, {}, [*PATHS, *LAST]),
        ({"SINGULARITY_BIN": "/opt/s/bin"}, {}, [("SINGULARITY_BIN", "folder", "/opt/s/bin"), *PATHS, *LAST]),
        (
            {"OSG_SINGULARITY_BINARY": "/cvmfs/other/singularity"},
            {"CVMFS_MOUNT_DIR": "/else"},
            [("SINGULARITY_BIN:OSG", "folder", "/cvmfs/other"), *PATHS, ("cvmfs_oasis", "file", "/cvmfs/other/singularity")],
        ),
        (  # the last part is cut off as text: what is left is no folder, and is found not to be one
            {"OSG_SINGULARITY_BINARY": "/cvmfs/other/s"},
            {},
            [("SINGULARITY_BIN:OSG", "folder", "/cvmfs/other/s"), *PATHS, ("cvmfs_oasis", "file", "/cvmfs/other/s")],
        ),
        (
            {},
            {"CVMFS_MOUNT_DIR": "/work/dist/cvmfs/"},
            [
                ("SINGULARITY_BIN:OSG", "folder", "/work/dist" + OSG[0][2]),
                *PATHS,
                ("cvmfs_oasis", "file", "/work/dist" + OASIS_BINARY),
            ],
        ),
        ({"CVMFS_MOUNT_DIR": "/work/dist/cvmfs"}, {}, [*OSG, *PATHS, *LAST]),
        (
            {"SINGULARITY_BIN": "CONDOR", "CONDOR_DIR": "/g/c"},
            {},
            [
                ("SINGULARITY_BIN:CONDOR", "folder", "/g/c/usr/libexec"),
                *PATHS,
                ("condor", "file", "/g/c/usr/libexec/apptainer"),
                *LAST,
            ],
        ),
        (
            {"SINGULARITY_BIN": "PATH", "GLIDEIN_WORK_DIR": "/g/main"},
            {},
            [*PATHS, ("condor", "file", "/g/main/condor/usr/libexec/apptainer"), *LAST],
        ),
        ({"SINGULARITY_BIN": "CONDOR"}, {}, [*PATHS, *LAST]),
        (
            {OVERRIDE: "/a:/b", "SINGULARITY_BIN": "/opt/s/bin"},
            {},
            [(OVERRIDE, "file_or_folders", "/a:/b"), ("SINGULARITY_BIN", "folder", "/opt/s/bin"), *PATHS, *LAST],
        ),
        (
            {OVERRIDE: "/factorys", "SINGULARITY_BIN": "PATH"},
            {OVERRIDE: "/sites"},
            [(OVERRIDE, "file_or_folders", "/sites"), *PATHS, *LAST],
        ),
        (
            {"SINGULARITY_BIN": "PATH", "CONDOR_DIR": "/c"},
            {"MODULESHOME": "/m"},
            [*PATHS, ("condor", "file", "/c/usr/libexec/apptainer"), *MODULES, *LAST],
        ),
    ],
)
def test_places_are_searched_in_the_glideins_order(glidein, environment, expected):
    assert order(glidein, environment) == expected


def test_apptainer_comes_before_singularity_but_in_the_override():
    found = places.places(settings({"SINGULARITY_BIN": "/s", OVERRIDE: "/a:/b"}), {"PATH": "/bin"})
    assert [place.names for place in found[:4]] == [
        ("singularity", "apptainer"),
        ("apptainer", "singularity"),
        ("apptainer",),
        ("singularity",),
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [("/opt/x/apptainer", ("option", "file", "/opt/x/apptainer")), ("apptainer", ("option", "folders", "/bin"))],
)
def test_a_binary_given_as_option_is_the_only_place(wanted, expected):
    assert order({"SINGULARITY_BIN": "/s"}, singularity=wanted) == [expected]


def test_configuration_keeps_the_decisive_values_and_joins_repeated_ones():
    text = (
        "# allow setuid = no\nallow setuid = yes\nmax loop devices = 256\nlimit container paths = /a\n"
        " limit container paths =  /b \nbind path = /etc/localtime\nallow setuid-mount squashfs = iflimited\nnonsense\n"
    )
    assert places.parse_configuration(text) == {
        "allow setuid": "yes",
        "max loop devices": "256",
        "limit container paths": "/a,/b",
        "allow setuid-mount squashfs": "iflimited",
    }


def make_installation(prefix: Path, layout: str = "libexec/apptainer/bin") -> Path:
    for path in (prefix / "bin/apptainer", prefix / layout / "starter-suid", prefix / "etc/apptainer/apptainer.conf"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("allow setuid = no\n")
        path.chmod(0o755)
    return prefix / "bin/apptainer"


@pytest.mark.parametrize("layout", ["libexec/apptainer/bin", "lib/apptainer/bin", "lib64/singularity/bin"])
def test_starter_and_configuration_that_belong_to_a_binary_are_found(tmp_path, layout):
    binary = make_installation(tmp_path, layout)
    found = places.look(Place("PATH", "folders", str(binary.parent)), Host({}))
    assert found is not None
    assert (found["path"], found["executable"]) == (str(binary), True)
    assert (found["starter"]["path"], found["starter"]["setuid"]) == (str(tmp_path / layout / "starter-suid"), False)
    assert found["configuration"]["values"] == {"allow setuid": "no"}


def configuration_of(tmp_path: Path, binary: str, *files: str) -> str | None:
    for file in (binary, *files):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch(0o755)
    found = places.look(Place("x", "file", str(tmp_path / binary)), Host({}))
    assert found is not None
    return found["configuration"] and str(Path(found["configuration"]["path"]).relative_to(tmp_path))


APPTAINERS = "etc/apptainer/apptainer.conf"  # of another product, in the system's own place
OLD = "opt/singularity/3.8/etc/singularity/singularity.conf"


@pytest.mark.parametrize(
    ("binary", "files", "expected"),
    [
        ("opt/singularity/3.8/bin/singularity", [APPTAINERS, OLD], OLD),
        ("opt/singularity/3.8/bin/singularity", [APPTAINERS], None),
        ("usr/bin/singularity", [APPTAINERS, "usr/libexec/singularity/bin/starter"], None),
        (
            "usr/bin/singularity",
            [APPTAINERS, "etc/singularity/singularity.conf", "usr/libexec/singularity/bin/starter-suid"],
            "etc/singularity/singularity.conf",
        ),
        ("usr/bin/singularity", [APPTAINERS, "usr/lib64/apptainer/bin/starter"], APPTAINERS),
    ],
)
def test_the_configuration_is_the_products_own(tmp_path, monkeypatch, binary, files, expected):
    monkeypatch.setattr(places, "ETC", str(tmp_path / "etc"))
    assert configuration_of(tmp_path, binary, *files) == expected


def test_a_path_list_is_searched_name_by_name_and_what_is_not_executable_is_passed(tmp_path):
    for folder, name, mode in (("a", "apptainer", 0o755), ("b", "singularity", 0o755), ("a", "singularity", 0o644)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch(mode)
    place = Place("x", "file_or_folders", f"{tmp_path}/a::{tmp_path}/b", ("singularity", "apptainer"))
    found = places.look(place, Host({}))
    assert found is not None
    assert found["path"] == str(tmp_path / "b/singularity")


def test_an_override_that_is_a_folder_is_what_the_glidein_tries_to_start(tmp_path):
    (tmp_path / "singularity").touch(0o755)
    found = places.look(Place("x", "file_or_folders", str(tmp_path), ("singularity", "apptainer")), Host({}))
    assert found is not None
    assert found["path"] == str(tmp_path)


@pytest.mark.parametrize(
    ("there", "expected"),
    [(("apptainer", "singularity"), "apptainer"), (("singularity",), "singularity")],
)
def test_a_suggested_folder_is_one_whatever_is_in_its_name(tmp_path, there, expected):
    folder = tmp_path / "a:b"
    folder.mkdir()
    for name in there:
        (folder / name).touch(0o755)
    found = places.look(Place("x", "folder", str(folder)), Host({}))
    assert found is not None
    assert found["path"] == str(folder / expected)


def test_nothing_at_a_place_is_none(tmp_path):
    assert places.look(Place("x", "file", str(tmp_path / "no")), Host({})) is None
    assert places.look(Place("x", "file", str(tmp_path)), Host({})) is None


def module_files(folder: Path, **files: str) -> dict[str, str]:
    """An environment with environment modules that are a shell function alone."""
    (folder / "init").mkdir()
    (folder / "init/bash").write_text('module() { . "$MODULESHOME/$2"; }\n')
    for name, text in files.items():
        (folder / name).write_text(text)
    return {"PATH": "/usr/bin:/bin", "MODULESHOME": str(folder)}


def module_place(name: str) -> Place:
    return Place("module", "module", name, ("singularity",))


def test_a_module_is_loaded_though_the_shell_that_started_us_dropped_the_function(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/singularity"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    environment = module_files(tmp_path, singularity=f"echo loading; PATH={tmp_path}/bin:$PATH")
    found = places.look(module_place("singularity"), Host(environment))
    assert found is not None
    assert found["path"] == str(program)


def test_a_module_with_a_program_of_another_name_gives_nothing_as_for_a_glidein(tmp_path: Path):
    environment = module_files(tmp_path, singularity="apptainer() { :; }")
    assert places.look(module_place("singularity"), Host(environment)) is None


def test_a_module_that_does_not_load_in_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(places, "MODULE_LIMIT_S", 1.3)
    environment = module_files(tmp_path, singularity="exec sleep 10")
    with pytest.raises(TimeoutError):
        places.look(module_place("singularity"), Host(environment))


def rows_of(host: Host, **glidein: str) -> list[tuple[str, str | None, bool, int | None]]:
    (found,) = places.detect(host, settings(glidein), {})
    return [
        (row["found_by"], row["looked"] and row["looked"]["path"], row["hung"], row["errno"]) for row in found["data"]
    ]


def test_every_place_is_looked_at_with_one_child_for_a_folder(tmp_path: Path):
    (tmp_path / "apptainer").touch(0o755)
    (tmp_path / "singularity").touch(0o755)
    host = Children({"PATH": str(tmp_path)})
    osg = {"OSG_SINGULARITY_BINARY": str(tmp_path / "osg/singularity")}
    assert rows_of(host, **osg) == [
        ("SINGULARITY_BIN:OSG", None, False, None),
        ("PATH", str(tmp_path / "apptainer"), False, None),
        ("PATH", str(tmp_path / "singularity"), False, None),
        ("cvmfs_oasis", None, False, None),
    ]
    assert host.names == [f"places.{tmp_path}/osg", f"places.{tmp_path}"]


@pytest.mark.parametrize(("after_s", "killed", "cut_short"), [(4.9, True, False), (1.1, True, True), (1.1, False, False)])
def test_a_look_that_had_no_time_is_told_from_one_that_hangs(tmp_path: Path, after_s, killed, cut_short):
    result = Result("timeout", None, "", None, after_s, left_running=not killed)
    (found,) = places.detect(Children({"PATH": str(tmp_path)}, result), settings(), {})
    assert {row["cut_short"] for row in found["data"]} == {cut_short}


def test_a_folder_that_hangs_costs_all_that_is_in_it(tmp_path: Path):
    host = Children({"PATH": str(tmp_path)}, Result("timeout", None, "", None, 5.0, left_running=True))
    assert rows_of(host) == [(name, None, True, None) for name in ("SINGULARITY_BIN:OSG", "PATH", "PATH", "cvmfs_oasis")]


AUTOFS = "30 1 0:50 / /cvmfs rw - autofs auto.cvmfs rw,fd=6,pgrp=812,timeout=300,minproto=5,maxproto=5,indirect\n"
MOUNTED = "31 30 0:60 / /cvmfs/oasis.opensciencegrid.org rw - fuse cvmfs2 rw\n"


@pytest.mark.parametrize(("table", "limit_s"), [("", 5.0), (AUTOFS, 10.0), (AUTOFS + MOUNTED, 5.0)])
def test_a_repository_that_is_mounted_by_being_looked_at_has_the_time_that_it_takes(tmp_path: Path, table, limit_s):
    host = Children({"PATH": str(tmp_path)}, Result("timeout", None, "", None, 1.0))
    root = tmp_path / "root/proc/self"
    root.mkdir(parents=True)
    (root / "mountinfo").write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n" + table)
    host._root = str(tmp_path / "root")
    rows_of(host)
    assert host.limits_s == {limit_s, 5.0}


def test_a_node_without_processes_is_told_by_its_errno(tmp_path: Path):
    host = Children({"PATH": str(tmp_path)}, Result("died", None, "no", errno.EAGAIN, 0.0))
    assert {row[2:] for row in rows_of(host)} == {(False, errno.EAGAIN)}


class Children(Host):
    """A host that notes which children it has, and may let all of them come to the same."""

    def __init__(self, environment: dict[str, str], result: Result | None = None) -> None:
        super().__init__(environment)
        self.names: list[str] = []
        self.limits_s: set[float] = set()
        self.result = result

    def attempt_all(self, limit_s: float, calls: dict[str, list[Any]], at_once: int = 64) -> dict[str, Result]:
        self.names = list(calls)
        self.limits_s.add(limit_s)
        return dict.fromkeys(calls, self.result) if self.result else super().attempt_all(limit_s, calls, at_once)
