"""What a factory could configure instead."""

import pytest

from probe import alternatives
from probe.command_line import factory_launch
from tests.probe.samples import settings


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({"PATH": "/bin", "HOME": "/h"}, []),
        ({"APPTAINER_BIND": "/x", "SINGULARITYENV_A": "1", "SINGULARITY_CACHEDIR": "/c"},
         ["APPTAINER_BIND", "SINGULARITYENV_A", "SINGULARITY_CACHEDIR"]),
        ({"SINGULARITY_BIN": "/b", "SINGULARITY_IMAGES_DICT": "x", "SINGULARITY_DISABLE_PID_NAMESPACES": "1"}, []),
        ({"MY_APPTAINER_BIND": "1", "APPTAINERX": "1"}, []),
    ],
)  # fmt: skip
def test_variables_that_singularity_reads_for_itself(environment: dict[str, str], names: list[str]):
    assert alternatives.runtime_variables(environment) == names


NO_PID = {"SINGULARITY_DISABLE_PID_NAMESPACES": "1"}


@pytest.mark.parametrize(
    ("glidein", "environment", "changes"),
    [
        (
            {},
            {},
            [NO_PID, {"GLIDEIN_SINGULARITY_OPTS": "--userns"}, {**NO_PID, "GLIDEIN_SINGULARITY_OPTS": "--userns"}],
        ),
        (NO_PID, {}, [{"GLIDEIN_SINGULARITY_OPTS": "--userns"}]),
        ({**NO_PID, "GLIDEIN_SINGULARITY_OPTS": "--nv -q"}, {}, [{"GLIDEIN_SINGULARITY_OPTS": "--nv -q --userns"}]),
        (NO_PID, {"APPTAINER_BIND": "/x"}, [{"GLIDEIN_SINGULARITY_OPTS": "--userns"}, {"APPTAINER_BIND": None}]),
        # The glidein's LD_LIBRARY_PATH and LD_PRELOAD may be what breaks it, where it is to keep them.
        (
            {**NO_PID, "GLIDEIN_CONTAINER_ENV": "keepall"},
            {},
            [{"GLIDEIN_SINGULARITY_OPTS": "--userns"}, {"GLIDEIN_CONTAINER_ENV": "clearpaths"}],
        ),
    ],
)
def test_the_least_change_comes_first(glidein: dict[str, str], environment: dict[str, str], changes: list[object]):
    launch = factory_launch(settings(glidein), "a", "/work", [])
    assert [found.change for found in alternatives.possible(launch, environment)] == changes


def test_a_change_and_its_start_are_the_same_thing():
    launch = factory_launch(settings(), "a", "/work", [])
    for found in alternatives.possible(launch, {"APPTAINER_BIND": "/x"}):
        assert ("--pid" not in found.launch.options) == ("SINGULARITY_DISABLE_PID_NAMESPACES" in found.change)
        assert ("--userns" in found.launch.options) == ("GLIDEIN_SINGULARITY_OPTS" in found.change)
        assert (found.unset == ("APPTAINER_BIND",)) == ("APPTAINER_BIND" in found.change)
    *_, last = alternatives.possible(factory_launch(settings({"GLIDEIN_CONTAINER_ENV": "keepall"}), "a", "/work", []), {})
    assert last.launch.changes["LD_LIBRARY_PATH"] is None
