"""The broken nodes of the laboratory, and what the probe has to say of each. A name tells what is wrong there.

Whether `usable` is right is never decided here: the factory's own command, run on the node, decides. The expectations
below say which cause has to be named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from tests.lab.conditions import CMS, OASIS, Condition, combined
from tests.lab.conditions import CONDITIONS as CONDITIONS_BY_NAME
from tests.lab.laboratory import Laboratory, Observation

Said = tuple[str, str | None]  # status and reason
OK: Said = ("ok", None)


@dataclass(frozen=True)
class Node:
    """A node and what the report has to say: the verdict, and each feature, check and row that matters there.

    `alternatives` are those that have to be offered: "NAME=VALUE" to status.
    """

    conditions: tuple[str, ...]
    usable: bool
    mode: str | None
    reason: str | None
    features: Mapping[str, Said] = field(default_factory=dict)
    checks: Mapping[str, Said] = field(default_factory=dict)
    images: Mapping[str, Said] = field(default_factory=dict)
    cvmfs: Mapping[str, Said] = field(default_factory=dict)
    alternatives: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True

    @property
    def condition(self) -> Condition:
        """All that is wrong there."""
        return combined(CONDITIONS_BY_NAME[name] for name in self.conditions)

    def observe(self, lab: Laboratory) -> Observation:
        """Makes the node and runs both commands on it."""
        return lab.observe(self.conditions)

    def expected(self) -> dict[str, Any]:
        """What `told` has to give."""
        verdict = {"usable": self.usable, "mode": self.mode, "reason": self.reason, "complete": self.complete}
        parts = {"features": self.features, "checks": self.checks, "images": self.images, "cvmfs": self.cvmfs}
        return {**verdict, **{name: dict(part) for name, part in parts.items()}, "alternatives": dict(self.alternatives)}

    def told(self, seen: Observation) -> dict[str, Any]:
        """What the report says of the things that this node is about."""
        report, singularity = seen.report or {}, seen.singularity
        features = singularity.get("features", {})
        offered = {
            " ".join(f"{name}={value}" for name, value in row["change"].items()): row["check"]["status"]
            for row in singularity.get("alternatives", ())
        }
        return {
            **{name: singularity.get(name) for name in ("usable", "mode", "reason")},
            "complete": report.get("complete"),
            "features": {name: (features[name]["status"], features[name]["reason"]) for name in self.features},
            "checks": {name: seen.check(name) for name in self.checks},
            "images": {name: seen.row("images", "ref", name) for name in self.images},
            "cvmfs": {name: seen.row("cvmfs", "name", name) for name in self.cvmfs},
            "alternatives": {change: offered.get(change) for change in self.alternatives},
        }


class Expected(TypedDict, total=False):
    """The fields of a Node beside the verdict."""

    features: Mapping[str, Said]
    checks: Mapping[str, Said]
    images: Mapping[str, Said]
    cvmfs: Mapping[str, Said]
    alternatives: Mapping[str, str]
    complete: bool


def works(*conditions: str, mode: str = "unprivileged", **expected: Unpack[Expected]) -> Node:
    """A node where containers start."""
    return Node(conditions, usable=True, mode=mode, reason=None, **expected)


def fails(reason: str, *conditions: str, **expected: Unpack[Expected]) -> Node:
    """A node where they don't, and why."""
    return Node(conditions, usable=False, mode=None, reason=reason, **expected)


ALL_FEATURES = ("sandbox", "sif", "sif_zstd", "pid_namespace", "ipc_namespace", "contain", "bind_new_path", "workdir")
WITHOUT_PID = "SINGULARITY_DISABLE_PID_NAMESPACES=1"
NO_FUSE = {"sif": ("fail", "fuse_device_denied"), "sif_zstd": ("fail", "fuse_device_denied"), "sandbox": OK}

NODES: dict[str, Node] = {
    "healthy-unprivileged": works(
        features=dict.fromkeys(ALL_FEATURES, OK),
        checks={
            "singularity.modes.unprivileged": OK,
            "singularity.modes.privileged": ("fail", "setuid_not_installed"),
            "host.user": OK,
            "host.home": OK,
        },
    ),
    "root-privileged": works("root", mode="privileged", features={"sandbox": OK, "pid_namespace": OK}),
    "no_singularity": fails("runtime_not_found", "no_singularity"),
    "userns-disabled": fails(
        "userns_disabled", "userns-disabled", checks={"namespaces.user": ("fail", "userns_disabled")}
    ),
    "userns-none_left": fails(
        "userns_limit_reached", "userns-used_up", checks={"namespaces.user": ("fail", "userns_limit_reached")}
    ),
    "proc-masked": fails(
        "proc_masked",
        "proc_masked",
        features={"pid_namespace": ("fail", "proc_masked"), "sandbox": OK},
        alternatives={WITHOUT_PID: "ok"},
    ),
    "fuse-denied": works("fuse-denied", features=NO_FUSE),
    "user-unknown": fails("user_unknown", "user_unknown", checks={"host.user": ("fail", "user_unknown")}),
    "cvmfs-healthy": works("cvmfs", cvmfs={OASIS: OK, CMS: OK}, features={"cvmfs_inside": OK}),
    "cvmfs-one_hung": works("cvmfs-one_hung", cvmfs={OASIS: OK, CMS: ("timeout", "cvmfs_hung")}),
    "cvmfs-dead": works("cvmfs-dead", cvmfs={CMS: ("fail", "cvmfs_disconnected")}),
    "image-missing": works("image-missing", images={"/scratch/no/such/image": ("fail", "image_missing")}),
    "proc-masked-fuse-denied": fails(
        "proc_masked", "proc_masked", "fuse-denied", features={**NO_FUSE}, alternatives={WITHOUT_PID: "ok"}
    ),
}
