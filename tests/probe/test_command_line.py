"""The command by which a glidein starts a container."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest

from probe import command_line
from probe.command_line import CLEARED, Launch
from tests.probe.samples import settings

DEFAULTS = ["/cvmfs", "/etc/hosts", "/etc/localtime"]


OWN = ["--home", "/work:/srv", "--pwd", "/srv", "--ipc", "--contain"]


@pytest.mark.parametrize(
    ("glidein", "options", "global_options"),
    [
        ({}, [*OWN, "--pid"], []),
        ({"SINGULARITY_DISABLE_PID_NAMESPACES": "1"}, OWN, []),
        ({"SINGULARITY_DISABLE_PID_NAMESPACES": "0"}, [*OWN, "--pid"], []),
        ({"GLIDEIN_SINGULARITY_OPTS": "--userns  --nv"}, [*OWN, "--userns", "--nv", "--pid"], []),
        ({"GLIDEIN_CONTAINER_ENV": "clear", "GLIDEIN_SINGULARITY_OPTS": "--nv"}, [*OWN, "--nv", "--pid", "--cleanenv"], []),
        ({"GLIDEIN_CONTAINER_ENV": "clearall,condorset"}, [*OWN, "--pid", "--cleanenv"], []),
        ({"GLIDEIN_CONTAINER_ENV": "keepall"}, [*OWN, "--pid"], []),
        ({"GLIDEIN_SINGULARITY_GLOBAL_OPTS": "--silent"}, [*OWN, "--pid"], ["--silent"]),
    ],
)
def test_options_are_the_factorys(glidein, options, global_options):
    launch = command_line.factory_launch(settings(glidein), "/bin/apptainer", "/work", ["/cvmfs"])
    assert (launch.options, launch.global_options, launch.binds) == (options, global_options, ["/cvmfs"])


def test_the_command_is_the_one_of_the_factorys_own_test():
    launch = command_line.factory_launch(settings(), "apptainer", "/work", DEFAULTS)
    assert launch.text("IMAGE", ["cat", "/proc/self/uid_map"]) == (
        "apptainer exec --home /work:/srv --pwd /srv --ipc --contain --pid --bind /cvmfs,/etc/hosts,/etc/localtime"
        " IMAGE cat /proc/self/uid_map"
    )


@pytest.mark.parametrize(
    ("glidein", "changes"),
    [
        ({}, CLEARED),
        ({"GLIDEIN_CONTAINER_ENV": "clearpaths"}, CLEARED),
        ({"GLIDEIN_CONTAINER_ENV": "osgset,clear"}, CLEARED),
        ({"GLIDEIN_CONTAINER_ENV": "keepall"}, {}),
        ({"GLIDEIN_CONTAINER_ENV": "condorset"}, {}),
        ({"GLIDEIN_CONTAINER_ENV_CLEARLIST": "A,,B C"}, {**CLEARED, "A": None, "B": None, "C": None}),
        (
            {"GLIDEIN_CONTAINER_ENV": "keepall", "GLIDEIN_CONTAINER_ENV_CLEARLIST": "PATH,LD_PRELOAD"},
            {"PATH": "/usr/bin:/bin", "LD_PRELOAD": None},
        ),
    ],
)
def test_what_a_glidein_changes_of_the_environment(glidein, changes):
    launch = command_line.factory_launch(settings(glidein), "/bin/apptainer", "/work", [])
    assert launch.changes == launch.bare("--pid").changes == changes


def test_a_bare_start_has_nothing_but_its_options():
    bare = Launch("a", ["--pid"], ["/x"], ["-s"], {}).bare("--ipc")
    assert bare == ("a", ["--ipc"], [], [], {})


def test_without_binds_there_is_no_bind_option_and_global_options_come_first():
    assert Launch("a", ["--pid"], [], ["-s"]).command("i", ["p"]) == ["a", "-s", "exec", "--pid", "i", "p"]


def test_a_launch_is_changed_without_changing_the_first():
    launch = Launch("a", ["--pid", "--ipc"], ["/x"])
    assert launch.without("--pid").options == ["--ipc"]
    assert launch.with_options("--userns").options == ["--pid", "--ipc", "--userns"]
    assert launch.with_binds("/y").binds == ["/x", "/y"]
    assert launch == Launch("a", ["--pid", "--ipc"], ["/x"])


def test_blanks_and_quotes_are_quoted_in_the_text_only():
    launch = Launch("/my apps/a", [], [])
    assert launch.text("it's", ["x"]) == "'/my apps/a' exec 'it'\"'\"'s' x"
    assert launch.command("it's", ["x"])[2] == "it's"

