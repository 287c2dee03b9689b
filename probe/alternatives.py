"""What a factory could configure instead, where a start fails: changes of its attributes, and the starts they lead to."""

import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from probe.command_line import CLEARED, PID_OPTION, Launch

Change = Dict[str, Optional[str]]

# Variables that Singularity reads for itself; the glidein's own names look alike and are none.
RUNTIME_VARIABLE = re.compile(r"^(APPTAINER|SINGULARITY)(ENV)?_")
GLIDEIN_VARIABLES = {
    "SINGULARITY_BIN", "SINGULARITY_IMAGES_DICT", "SINGULARITY_IMAGE_RESTRICTIONS", "SINGULARITY_IMAGE_REQUIRED",
    "SINGULARITY_DISABLE_PID_NAMESPACES", "SINGULARITY_PATH", "SINGULARITY_VERSION", "APPTAINER_TEST_IMAGE",
}  # fmt: skip


# What lets a glidein's search pass a place, by the place's name in the report.
PASSING: Dict[str, Change] = {
    "GLIDEIN_SINGULARITY_BINARY_OVERRIDE": {"GLIDEIN_SINGULARITY_BINARY_OVERRIDE": None},
    "SINGULARITY_BIN": {"SINGULARITY_BIN": "PATH"},
    "SINGULARITY_BIN:OSG": {"SINGULARITY_BIN": "PATH"},
    "SINGULARITY_BIN:CONDOR": {"SINGULARITY_BIN": "PATH"},
}


class Alternative(NamedTuple):
    """A change, and the start with it; ``unset``: variables left out of the environment."""

    change: Change
    launch: Launch
    unset: Tuple[str, ...] = ()


def runtime_variables(environment: Mapping[str, str]) -> List[str]:
    """Names of the variables in an environment that change how Singularity behaves."""
    return sorted(name for name in environment if RUNTIME_VARIABLE.match(name) and name not in GLIDEIN_VARIABLES)


def possible(launch: Launch, environment: Mapping[str, str]) -> List[Alternative]:
    """What may help, least change first."""
    no_pid: Change = {"SINGULARITY_DISABLE_PID_NAMESPACES": "1"}
    userns: Change = {"GLIDEIN_SINGULARITY_OPTS": " ".join([*_own_options(launch), "--userns"])}
    without_pid = launch.without(PID_OPTION)
    found = []
    if without_pid != launch:
        found.append(Alternative(no_pid, without_pid))
    found.append(Alternative(userns, launch.with_options("--userns")))
    if without_pid != launch:
        found.append(Alternative(dict(no_pid, **userns), without_pid.with_options("--userns")))
    variables = runtime_variables(environment)[:8]
    if variables:
        found.append(Alternative(dict.fromkeys(variables), launch, tuple(variables)))
    if "LD_LIBRARY_PATH" not in launch.changes:
        found.append(Alternative({"GLIDEIN_CONTAINER_ENV": "clearpaths"}, launch._replace(changes=CLEARED)))
    return found


def _own_options(launch: Launch) -> List[str]:
    """The options that come from GLIDEIN_SINGULARITY_OPTS: those after the factory's own six."""
    return [option for option in launch.options[6:] if option != PID_OPTION]
