"""A condition of a node: what is made, changed and put before the commands; and the shell that makes it.

`prepare` is shell that root runs in the node's private root (private_root.sh) after PRELUDE, with these variables:
APPTAINER the binary, CONFIGURATION its private configuration file, IMAGE the busybox sandbox, GLIDEIN the ordinary
user, GLIDEIN_HOME its home, LAB_PYTHON and LAB_TOOLS for programs of the lab. Conditions compose: see `combined`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from tests.lab.cvmfs_standin import Fault

GLIDEIN = "glidein"
WORK = "/scratch"  # every command runs in a fresh folder below
FACTORY_LIMIT_S = 20.0
HUNG_DEADLINE_S, HUNG_FACTORY_LIMIT_S = 8.0, 2.5
HANG = (Fault("hang"),)

PRELUDE = """
set -eu
configure() {  # NAME VALUE: one setting of apptainer.conf; the file is a mount, so it is written in place
    sed "/^$1 *=/d" "$CONFIGURATION" > /lab/changed
    echo "$1 = $2" >> /lab/changed
    cat /lab/changed > "$CONFIGURATION"
}
hide() {  # PROGRAM..: not there any more for a search of PATH
    : > /lab/hidden; chmod 644 /lab/hidden
    for program in "$@"; do
        path=$(command -v "$program") || continue
        mount --bind /lab/hidden "$(readlink -f "$path")"
    done
}
change() {  # OPTIONS FOLDER..: of the file systems that the user may write to
    options=$1; shift
    for folder in "$@"; do mount -o "remount,$options" "$folder"; done
}
fill() {  # FOLDER..: to the last byte of the little that it is left
    change size=256k "$@"
    for folder in "$@"; do cat /dev/zero > "$folder/filler" 2> /dev/null || :; done
}
glidein_config() {  # NAME VALUE: one line of the glidein's configuration
    echo "$1 $2" >> /lab/glidein_config
}
program() {  # PATH: an executable made of standard input
    mkdir -p "${1%/*}"; cat > "$1"; chmod 755 "$1"
}
"""

# A user namespace of the user's own whose limits it may set; the command in it has no capability left.
OWN_LIMITS = ("unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c")
DROP = "setpriv --inh-caps=-all --ambient-caps=-all"


def own_limits(settings: str) -> tuple[str, ...]:
    """The wrapper that writes limits of its own user namespace ("max_pid_namespaces 0") and goes on without rights."""
    name, value = settings.split()
    return (*OWN_LIMITS, f'echo {value} > /proc/sys/user/{name}; exec {DROP} "$@"', "lab")


@dataclass(frozen=True)
class Mounted:
    """A FUSE mount that is fine while the node is made, and has its faults whenever a command runs."""

    point: str
    faults: tuple[Fault, ...] = ()
    dies: bool = False
    files: Mapping[str, str] = field(default_factory=lambda: {"new_repository": "a small file\n"})

    @property
    def hangs(self) -> bool:
        """Whether callers of it end in uninterruptible sleep."""
        return any(fault.behaviour == "hang" for fault in self.faults)


@dataclass(frozen=True)
class Condition:
    """One thing that is wrong, or special, on a node.

    Order of the command line: `before_user` (as root), the change of user, `wrapper`, for the probe `probe_wrapper`,
    the command. `environment` changes the glidein's (None unsets a name). `touches` are names of what it takes hold of:
    conditions that share one do not go together.
    """

    about: str
    touches: frozenset[str] = frozenset()
    prepare: str = ""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    mounts: tuple[Mounted, ...] = ()
    before_user: tuple[str, ...] = ()
    user: str = GLIDEIN  # a name, or a number without a passwd entry
    wrapper: tuple[str, ...] = ()
    probe_wrapper: tuple[str, ...] = ()
    probe_arguments: tuple[str, ...] = ()
    factory_arguments: tuple[str, ...] | None = None  # instead of --pid: what the glidein's configuration asks for
    factory_binary: tuple[str, ...] = ("apptainer",)  # what finds it in the factory's way, and becomes it
    bars_wrappers: bool = False  # no other program can be started around the command
    folder: str = WORK  # where the folders of the commands are
    deadline_s: float = 30.0
    least_deadline_s: float = 0.0  # with less the probe cannot know that a program never answers
    factory_limit_s: float = FACTORY_LIMIT_S
    side_by_side: int = 0  # further detectors that look at what hangs at the same time as the first

    @property
    def is_wrapped(self) -> bool:
        """Whether programs stand around the command."""
        return bool(self.before_user or self.wrapper or self.probe_wrapper)

    def goes_with(self, other: "Condition") -> bool:
        """Whether both can be made on one node."""
        barred = (self.bars_wrappers and other.is_wrapped) or (other.bars_wrappers and self.is_wrapped)
        return not self.touches & other.touches and not barred

    @property
    def mounts_that_hang(self) -> int:
        """How many processes in uninterruptible sleep may be left by a run: one a hung mount, as a rule."""
        return sum(mounted.hangs for mounted in self.mounts) + self.side_by_side


def combined(conditions: Iterable[Condition]) -> Condition:
    """All conditions at once, in this order."""
    return reduce(_both, conditions, Condition("nothing is wrong"))


def _both(one: Condition, two: Condition) -> Condition:
    return Condition(
        about=two.about if one.about == "nothing is wrong" else f"{one.about}; {two.about}",
        touches=one.touches | two.touches,
        prepare=f"{one.prepare}\n{two.prepare}",
        environment={**one.environment, **two.environment},
        mounts=one.mounts + two.mounts,
        before_user=one.before_user + two.before_user,
        user=two.user if two.user != GLIDEIN else one.user,
        wrapper=one.wrapper + two.wrapper,
        probe_wrapper=one.probe_wrapper + two.probe_wrapper,
        probe_arguments=one.probe_arguments + two.probe_arguments,
        factory_arguments=two.factory_arguments if two.factory_arguments is not None else one.factory_arguments,
        factory_binary=two.factory_binary if two.factory_binary != ("apptainer",) else one.factory_binary,
        bars_wrappers=one.bars_wrappers or two.bars_wrappers,
        folder=two.folder if two.folder != WORK else one.folder,
        deadline_s=max(min(one.deadline_s, two.deadline_s), one.least_deadline_s, two.least_deadline_s),
        least_deadline_s=max(one.least_deadline_s, two.least_deadline_s),
        factory_limit_s=min(one.factory_limit_s, two.factory_limit_s),
        side_by_side=one.side_by_side + two.side_by_side,
    )


def touching(*names: str) -> frozenset[str]:
    """Names of what a condition takes hold of."""
    return frozenset(names)


def seccomp(denied: str) -> tuple[str, ...]:
    """The filter's program, run by root before the change of user."""
    return ("{LAB_PYTHON}", "{LAB_TOOLS}/seccomp.py", "--deny", denied, "--")


CONFIG_FILE = ("--config", "/lab/glidein_config")


def configured(name: str, value: str, about: str) -> Condition:
    """One setting of apptainer.conf."""
    return Condition(about, touches=touching("configuration"), prepare=f"configure '{name}' '{value}'")


def refusing(name: str, value: str, about: str) -> Condition:
    """A setting of apptainer.conf by which the probe's own image is refused: the glidein's decides."""
    return Condition(
        about,
        touches=touching("configuration", "image"),
        prepare=f"configure '{name}' '{value}'; glidein_config SINGULARITY_IMAGES_DICT \"default:$IMAGE\"",
        probe_arguments=CONFIG_FILE,
    )


def binary(about: str, script: str, **fields: Any) -> Condition:  # noqa: ANN401  fields of Condition
    """Another program in Apptainer's place: what it does after a `--version` that is fine, unless it says otherwise."""
    text = f"rm /lab/bin/apptainer; program /lab/bin/apptainer <<'END'\n#!/bin/sh\n{script}\nEND\n"
    return Condition(about, touches=touching("binary"), prepare=text, **fields)


def environment(about: str, *touches: str, **variables: str | None) -> Condition:
    """Variables of the glidein's environment."""
    return Condition(about, touches=touching(*touches), environment=variables)


def limited(about: str, *options: str) -> Condition:
    """Resource limits, as prlimit sets them."""
    return Condition(about, touches=touching("limits"), wrapper=("prlimit", *options, "--"))


def hung(about: str, point: str, *touches: str, **fields: Any) -> Condition:  # noqa: ANN401  fields of Condition
    """A file system that does not answer."""
    return Condition(
        about,
        touches=touching(*touches),
        mounts=(Mounted(point, HANG, files=fields.pop("files", {"file": "text\n"})),),
        deadline_s=HUNG_DEADLINE_S,
        factory_limit_s=HUNG_FACTORY_LIMIT_S,
        **fields,
    )
