"""The command by which a glidein starts a container."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest

from probe import command_line
from probe.command_line import Launch
from tests.probe.samples import settings

DEFAULTS = ["/cvmfs", "/etc/hosts", "/etc/localtime"]


@pytest.mark.parametrize(
    ("glidein", "mount_dir", "expected"),
    [
        ({}, None, DEFAULTS),
        ({}, "/cvmfs", DEFAULTS),
        ({}, "/tmp/x/cvmfs", ["/tmp/x/cvmfs:/cvmfs", "/etc/hosts", "/etc/localtime"]),
        ({"GLIDEIN_SINGULARITY_BINDPATH": "/a,/b:/c:ro"}, None, [*DEFAULTS, "/a", "/b:/c:ro"]),
        (
            {"GLIDEIN_SINGULARITY_BINDPATH": "/a,,/cvmfs", "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT": "/a,/d"},
            None,
            [*DEFAULTS, "/a", "/d"],
        ),
    ],
)
def test_binds_of_a_glidein(glidein, mount_dir, expected):
    assert command_line.requested_binds(settings(glidein, cvmfs_mount_dir=mount_dir)) == expected


OWN = ["--home", "/work:/srv", "--pwd", "/srv", "--ipc", "--contain"]


@pytest.mark.parametrize(
    ("glidein", "options", "global_options"),
    [
        ({}, [*OWN, "--pid"], []),
        ({"SINGULARITY_DISABLE_PID_NAMESPACES": "1"}, OWN, []),
        ({"SINGULARITY_DISABLE_PID_NAMESPACES": "0"}, [*OWN, "--pid"], []),
        ({"GLIDEIN_SINGULARITY_OPTS": "--userns  --nv"}, [*OWN, "--userns", "--nv", "--pid"], []),
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


def test_the_source_of_a_bind():
    assert [command_line.source_of(bind) for bind in ("/a", "/a:/b", "/a:/b:ro")] == ["/a"] * 3
