"""Where a glidein looks for Singularity, and what is read about what lies there."""
# ruff: noqa: ANN001, ANN003 - the rows of a table give the types of its test's arguments

from pathlib import Path

import pytest

from probe.detectors import places
from probe.detectors.places import OASIS, Place
from probe.host import Host
from tests.probe.samples import settings

OASIS_BINARY = OASIS + "/singularity/bin/singularity"


def order(glidein: dict[str, str], environment: dict[str, str] | None = None, **changes) -> list[tuple[str, str, str]]:
    found = places.places(settings(glidein, **changes), {"PATH": "/bin", **(environment or {})})
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
    found = places.places(settings({"SINGULARITY_BIN": "/s"}), {"PATH": "/bin"})
    assert [place.names for place in found[:3]] == [("singularity", "apptainer"), ("apptainer",), ("singularity",)]


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


def test_a_path_list_is_searched_name_by_name_and_what_is_not_executable_is_passed(tmp_path):
    for folder, name, mode in (("a", "apptainer", 0o755), ("b", "singularity", 0o755), ("a", "singularity", 0o644)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).touch(mode)
    place = Place("x", "file_or_folders", f"{tmp_path}/a::{tmp_path}/b", ("singularity", "apptainer"))
    found = places.look(place, Host({}))
    assert found is not None
    assert found["path"] == str(tmp_path / "b/singularity")


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
    monkeypatch.setattr(places, "LOOK_LIMIT_S", 1.3)
    environment = module_files(tmp_path, singularity="exec sleep 10")
    with pytest.raises(TimeoutError):
        places.look(module_place("singularity"), Host(environment))
