"""What can be wrong on a node, as data: each condition is made for real inside throw-away namespaces.

`prepare` is shell that root runs in the node's private root (private_root.sh) after PRELUDE, with these variables:
APPTAINER the binary, CONFIGURATION its private configuration file, IMAGE the busybox sandbox, GLIDEIN the ordinary
user, GLIDEIN_HOME its home, LAB_PYTHON and LAB_TOOLS for programs of the lab. Conditions compose: see `combined`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import reduce

from tests.lab.cvmfs_standin import Fault

GLIDEIN = "glidein"
WORK = "/scratch"  # every command runs in a fresh folder below
FACTORY_LIMIT_S = 20.0

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
work_on() {  # OPTIONS: a small file system for the commands' folders
    mount -t tmpfs -o "mode=1777,$1" lab-work /scratch
    mkdir /scratch/factory /scratch/probe
    chown "$GLIDEIN:" /scratch/factory /scratch/probe
}
program() {  # PATH: an executable made of standard input
    mkdir -p "${1%/*}"; cat > "$1"; chmod 755 "$1"
}
"""

# A user namespace of the user's own whose limits it may set; the command in it has no capability left.
OWN_LIMITS = ("unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c")
DROP = "setpriv --inh-caps=-all --ambient-caps=-all"
# The descriptor keeps the namespace alive, and counted, without a process.
HOLD_ONE_USERNS = f"""
echo 1 > /proc/sys/user/max_user_namespaces
unshare --user sleep 60 & holder=$!
until [ "$(readlink /proc/$holder/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do :; done
exec 9< /proc/$holder/ns/user
kill $holder; wait $holder 2> /dev/null
{DROP} "$@" 9<&-
"""


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
    folder: str = WORK  # where the folders of the commands are
    deadline_s: float = 30.0
    factory_limit_s: float = FACTORY_LIMIT_S

    @property
    def mounts_that_hang(self) -> int:
        """How many processes in uninterruptible sleep may be left by a run: one a hung mount."""
        return sum(mounted.hangs for mounted in self.mounts)


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
        folder=two.folder if two.folder != WORK else one.folder,
        deadline_s=min(one.deadline_s, two.deadline_s),
        factory_limit_s=min(one.factory_limit_s, two.factory_limit_s),
    )


def touching(*names: str) -> frozenset[str]:
    """Names of what a condition takes hold of."""
    return frozenset(names)


OASIS, CMS = "oasis.opensciencegrid.org", "cms.cern.ch"
HANG = (Fault("hang"),)

CONDITIONS: dict[str, Condition] = {
    "root": Condition(
        "the glidein runs as root, and apptainer.conf gives root no capabilities",
        touches=touching("user", "configuration"),
        user="root",
        prepare="configure 'root default capabilities' no",
    ),
    "no_singularity": Condition(
        "no Apptainer and no Singularity anywhere",
        touches=touching("binary", "path"),
        prepare='rm /lab/bin/apptainer; hide "$APPTAINER"',
    ),
    "userns-disabled": Condition(
        "user.max_user_namespaces is 0",
        touches=touching("userns"),
        wrapper=(*OWN_LIMITS, f'echo 0 > /proc/sys/user/max_user_namespaces; exec {DROP} "$@"', "lab"),
    ),
    "userns-used_up": Condition(
        "user.max_user_namespaces is 1, and the one is taken",
        touches=touching("userns"),
        wrapper=(*OWN_LIMITS, HOLD_ONE_USERNS, "lab"),
    ),
    "proc_masked": Condition(
        "an outer container masks a part of /proc",
        touches=touching("proc"),
        prepare="mount --bind /dev/null /proc/keys",
    ),
    "fuse-denied": Condition(
        "/dev/fuse belongs to root alone (mode 0600)",
        touches=touching("fuse"),
        prepare="chmod 600 /dev/fuse",
    ),
    "user_unknown": Condition(
        "the user has no passwd entry",
        touches=touching("user", "home"),
        user="54321",
        prepare='chown 54321:54321 "$GLIDEIN_HOME" /scratch/factory /scratch/probe',
    ),
    "cvmfs": Condition(
        "two repositories of CVMFS are mounted and fine",
        touches=touching("cvmfs"),
        mounts=(Mounted(f"/cvmfs/{OASIS}"), Mounted(f"/cvmfs/{CMS}")),
    ),
    "cvmfs-one_hung": Condition(
        "one of two repositories does not answer",
        touches=touching("cvmfs"),
        mounts=(Mounted(f"/cvmfs/{OASIS}"), Mounted(f"/cvmfs/{CMS}", HANG)),
        deadline_s=12.0,
    ),
    "cvmfs-dead": Condition(
        "the client of a repository was killed: its mount answers ENOTCONN",
        touches=touching("cvmfs"),
        mounts=(Mounted(f"/cvmfs/{CMS}", dies=True),),
    ),
    "image-missing": Condition(
        "the image that jobs ask for is not there",
        touches=touching("image"),
        probe_arguments=("--image", "/scratch/no/such/image"),
    ),
}
