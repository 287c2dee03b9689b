"""The broken nodes of the laboratory, and what the probe has to say of each. A name tells what is wrong there.

Whether `usable` is right is never decided here: the factory's own command, run on the node, decides. The expectations
below say which cause has to be named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from tests.lab.condition import Condition, combined
from tests.lab.conditions import CMS, OASIS, OSG_BIN
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
    complete: bool | None = True  # None: the deadline may come before the end, or not

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
            "complete": report.get("complete") if self.complete is not None else None,
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
    complete: bool | None


def works(*conditions: str, mode: str = "unprivileged", **expected: Unpack[Expected]) -> Node:
    """A node where containers start."""
    return Node(conditions, usable=True, mode=mode, reason=None, **expected)


def fails(reason: str, *conditions: str, **expected: Unpack[Expected]) -> Node:
    """A node where they don't, and why."""
    return Node(conditions, usable=False, mode=None, reason=reason, **expected)


ALL_FEATURES = ("sandbox", "sif", "sif_zstd", "pid_namespace", "ipc_namespace", "contain", "bind_new_path", "workdir")
WITHOUT_PID = "SINGULARITY_DISABLE_PID_NAMESPACES=1"
SIF_TOO = {"sandbox": OK, "sif": OK, "sif_zstd": OK}
CWD = "host.scratch./scratch/probe"


def no_sif(reason: str) -> dict[str, Said]:
    """SIF images fail for this reason, folders do not."""
    return {"sandbox": OK, "sif": ("fail", reason), "sif_zstd": ("fail", reason)}


NO_FUSE = no_sif("fuse_device_denied")

OSG_CHECK = f"runtimes.{OSG_BIN}/singularity"
USERNS = "GLIDEIN_SINGULARITY_OPTS=--userns"


def modes(privileged: Said, unprivileged: Said) -> dict[str, Said]:
    """The checks of both modes."""
    return {"singularity.modes.privileged": privileged, "singularity.modes.unprivileged": unprivileged}


def only_by_userns(reason: str, *conditions: str) -> Node:
    """A setuid installation that fails, where --userns would help."""
    return fails(reason, *conditions, checks=modes(("fail", reason), OK), alternatives={USERNS: "ok"})


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
    "userns-few": works("userns-few", checks={"namespaces.user_several": ("fail", "userns_limit_reached")}),
    "user-unknown": fails("user_unknown", "user_unknown", checks={"host.user": ("fail", "user_unknown")}),
    "cvmfs-healthy": works("cvmfs", cvmfs={OASIS: OK, CMS: OK}, features={"cvmfs_inside": OK}),
    "cvmfs-one_hung": works("cvmfs-one_hung", cvmfs={OASIS: OK, CMS: ("timeout", "cvmfs_hung")}),
    "cvmfs-dead": works("cvmfs-dead", cvmfs={CMS: ("fail", "cvmfs_disconnected")}),
    "image-missing": works("image-missing", images={"/scratch/no/such/image": ("fail", "image_missing")}),
    "proc-masked-fuse-denied": fails(
        "proc_masked", "proc_masked", "fuse-denied", features=NO_FUSE, alternatives={WITHOUT_PID: "ok"}
    ),
    "fuse-missing": works("fuse-missing", features=no_sif("fuse_device_missing")),
    "squashfuse-missing": works("squashfuse-missing", features=no_sif("sif_converted_to_sandbox")),
    "scratch-full": works("scratch-full", checks={CWD: ("fail", "scratch_full")}),
    "scratch-out_of_inodes": works("scratch-out_of_inodes", checks={CWD: ("fail", "scratch_out_of_inodes")}),
    "scratch-read_only": works("scratch-read_only", checks={CWD: ("fail", "scratch_read_only")}),
    "scratch-all_full": works(
        "scratch-all_full",
        checks={CWD: ("fail", "scratch_full"), "host.scratch./tmp": ("fail", "scratch_full")},
    ),
    "scratch-and_memory_full": works("scratch-and_memory_full", checks={CWD: ("fail", "scratch_full")}),
    "scratch-all_noexec": works("scratch-all_noexec", checks={CWD: ("fail", "scratch_noexec")}),
    "tmpdir-noexec": works("tmpdir-noexec", checks={"host.scratch./lab/tmpdir": ("fail", "scratch_noexec")}),
    "tmpdir-missing": works("tmpdir-missing", checks={"host.scratch./no/such/folder": ("fail", "scratch_unusable")}),
    "tmpdir-hung": works("tmpdir-hung", checks={"host.scratch./hung/tmp": ("timeout", "scratch_unusable")}),
    "home-missing": works("home-missing", checks={"host.home": ("fail", "home_unusable")}),
    "home-unset": works("home-unset", checks={"host.home": ("fail", "home_unusable")}),
    "home-denied": works("home-denied", checks={"host.home": ("fail", "home_unusable")}),
    "home-read_only": works("home-read_only"),
    "home-hung": fails(
        "home_unusable", "home-hung", checks={"host.home": ("timeout", "home_unusable")}, complete=None
    ),
    "cwd-hung": fails(
        "folder_unusable",
        "cwd-hung",
        checks={"host.scratch./hung/work/probe": ("timeout", "scratch_unusable")},
        complete=None,
    ),
    "stdin-closed": works("stdin-closed"),
    "stdout-closed": works("stdout-closed"),
    "locale-broken": works("locale-broken"),
    "path-empty": fails("runtime_not_found", "path-empty"),
    "path-hung": fails("runtime_timeout", "path-hung", complete=None),
    "path-end_hung": fails("runtime_timeout", "path-end_hung", complete=None),
    "python-foreign": works("python-foreign"),
    "nproc-64": works("nproc-64", features=SIF_TOO),
    "nproc-8": fails("resources_exhausted", "nproc-8", complete=None),
    "nofile-64": works("nofile-64", features=SIF_TOO),
    "fsize-64k": works("fsize-64k"),
    "address_space-2g": works("address_space-2g"),
    "address_space-300m": fails("resources_exhausted", "address_space-300m"),
    "mntns-disabled": fails("mount_denied", "mntns-disabled", checks={"namespaces.mount": ("fail", "mount_denied")}),
    "pidns-disabled": fails(
        "pid_namespace_denied",
        "pidns-disabled",
        checks={"namespaces.pid": ("fail", "pid_namespace_denied")},
        alternatives={WITHOUT_PID: "ok"},
    ),
    "ipcns-disabled": fails(
        "ipc_namespace_denied", "ipcns-disabled", checks={"namespaces.ipc": ("fail", "ipc_namespace_denied")}
    ),
    "netns-disabled": works("netns-disabled", checks={"namespaces.net": ("fail", "net_namespace_denied")}),
    "no_new_privs": works("no_new_privs", features=SIF_TOO),
    "seccomp-userns": fails(
        "userns_denied", "seccomp-userns", checks={"namespaces.user": ("fail", "userns_denied")}
    ),
    "seccomp-unshare": fails("userns_denied", "seccomp-unshare"),
    "seccomp-mount": fails("mount_denied", "seccomp-mount", checks={"namespaces.mount": ("fail", "mount_denied")}),
    "docker": fails("userns_denied", "docker", checks={"namespaces.user": ("fail", "userns_denied")}),
    "docker-root": fails("userns_denied", "docker", "root-few_capabilities"),
    "kubernetes": fails(
        "proc_masked",
        "kubernetes",
        checks={"namespaces.pid": ("fail", "proc_masked")},
        alternatives={WITHOUT_PID: "ok"},
    ),
    "kubernetes-pid_off": works("kubernetes", "pid-off", features={"pid_namespace": ("fail", "proc_masked")}),
    "kubernetes-cvmfs-one_hung": fails(
        "proc_masked",
        "kubernetes",
        "cvmfs-one_hung",
        cvmfs={OASIS: OK, CMS: ("timeout", "cvmfs_hung")},
        alternatives={WITHOUT_PID: "ok"},
    ),
    "inside_apptainer": works("inside_apptainer"),
    "rootless_container": works("rootless_container", mode="fakeroot"),
    "chroot": fails("userns_denied", "chroot", checks={"namespaces.user": ("fail", "userns_denied")}),
    "proc-hidepid": works("proc-hidepid", features={"pid_namespace": OK}),
    "root-few_capabilities": works("root-few_capabilities", mode="privileged"),
    "root-capability_missing": fails("capabilities_missing", "root-full_wanted"),
    "bind-bad": fails("runtime_options_invalid", "bind-bad"),
    "bind-bad-old_name": fails("runtime_options_invalid", "bind-bad-old_name"),
    "overlay-bad": fails("runtime_options_invalid", "overlay-bad"),
    "debug": works("debug", features=SIF_TOO),
    "opts-wrong": fails("runtime_options_invalid", "opts-wrong"),
    "pid-off": works("pid-off", features={"pid_namespace": OK}),
    "config-no_sandbox": fails(
        "sandbox_disallowed_by_config",
        "config-no_sandbox",
        features={"sandbox": ("fail", "sandbox_disallowed_by_config"), "sif": OK},
    ),
    "config-no_sif": works("config-no_sif", features=no_sif("sif_disallowed_by_config")),
    "config-no_binds": fails("bind_ignored_by_config", "config-no_binds", features={"sandbox": OK}),
    "config-no_proc": fails("runtime_config_invalid", "config-no_proc"),
    "config-no_pid_ns": works("config-no_pid_ns", features={"pid_namespace": ("fail", "pid_namespace_denied")}),
    "config-no_user_ns": fails("userns_disabled_by_config", "config-no_user_ns", checks={"namespaces.user": OK}),
    "config-no_loop": works("config-no_loop", features=SIF_TOO),
    "config-no_setuid": works("config-no_setuid", features=SIF_TOO),
    "config-paths": fails("sif_disallowed_by_config", "config-paths"),
    "config-images_only_there": works("images-only_there", images={"/lab/allowed/busybox": OK}),
    "config-images_by_dict": works("images-only_there-by_dict", images={"/lab/allowed/busybox": OK}),
    "config-no_layer": works(
        "config-no_layer", features={"bind_new_path": ("fail", "no_overlay_or_underlay"), "sandbox": OK}
    ),
    "config-not_roots": works("config-not_roots"),
    "config-garbled": fails("runtime_config_invalid", "config-garbled"),
    "binary-hangs": fails("runtime_timeout", "binary-hangs"),
    "binary-hangs-and-forks": fails("runtime_timeout", "binary-hangs-and-forks", complete=None),
    "binary-fatal-exit_0": fails("runtime_wrong_output", "binary-fatal-exit_0"),
    "binary-silent": fails("runtime_wrong_output", "binary-silent"),
    "binary-killed": fails("runtime_crashed", "binary-killed"),
    "binary-not_executable": fails("runtime_not_executable", "binary-not_executable"),
    "binary-hung": fails("runtime_timeout", "binary-hung", complete=None),
    "image-hung": works("image-hung", images={f"/cvmfs/{CMS}/images/el9": ("timeout", "cvmfs_hung")}),
    "image-denied": works("image-denied", images={"/lab/image": ("fail", "image_unreadable")}),
    "image-broken": works("image-broken", images={"/lab/image.sif": ("fail", "image_invalid")}),
    "image-foreign": works("image-foreign", images={"/lab/foreign": ("fail", "image_wrong_arch")}),
    "full-and-fuse-denied": works("scratch-all_full", "fuse-denied", features=NO_FUSE),
    "no_layer-proc-masked": fails("proc_masked", "config-no_layer", "proc_masked", alternatives={WITHOUT_PID: "ok"}),
    # --- a setuid installation: the privileged mode beside the unprivileged one ---
    "setuid": works("setuid", mode="privileged", features=dict.fromkeys(ALL_FEATURES, OK), checks=modes(OK, OK)),
    "setuid-userns-denied": works(
        "setuid", "seccomp-userns", mode="privileged", checks=modes(OK, ("fail", "userns_denied"))
    ),
    "setuid-proc-masked": works("setuid", "proc_masked", mode="privileged", features={"pid_namespace": OK}),
    "setuid-disabled": works(
        "setuid", "config-no_setuid", checks=modes(("fail", "setuid_disabled_by_config"), OK), features=SIF_TOO
    ),
    "setuid-bit_missing": only_by_userns("setuid_bit_missing", "setuid-bit_missing"),
    "setuid-owner_wrong": only_by_userns("setuid_bit_missing", "setuid-owner_wrong"),
    "setuid-group_only": only_by_userns("setuid_bit_missing", "setuid-group_only"),
    "setuid-nosuid": only_by_userns("setuid_on_nosuid_mount", "setuid-nosuid"),
    "setuid-no_new_privs": only_by_userns("setuid_in_namespace", "setuid", "no_new_privs"),
    "setuid-bounding": only_by_userns("setuid_in_namespace", "setuid", "bounding-no_sys_admin"),
    "setuid-inside_apptainer": only_by_userns("setuid_in_namespace", "setuid", "inside_apptainer"),
    "setuid-config-not_roots": only_by_userns("runtime_config_invalid", "setuid", "config-not_roots"),
    "setuid-neither_mode": fails(
        "setuid_in_namespace",
        "setuid",
        "userns-disabled",
        checks=modes(("fail", "setuid_in_namespace"), ("fail", "userns_disabled")),
        alternatives={USERNS: "fail"},
    ),
    "setuid-rootless_container": works("setuid", "rootless_container", mode="fakeroot"),
    "setuid-docker": fails("userns_denied", "setuid", "docker"),
    "setuid-chroot": fails("runtime_config_invalid", "setuid", "chroot"),
    "setuid-fuse-denied": works("setuid", "fuse-denied", mode="privileged", features=NO_FUSE),
    "setuid-sif_by_kernel": works(
        "setuid", "config-kernel_squashfs", "fuse-missing", mode="privileged", features=SIF_TOO
    ),
    "setuid-sif_by_kernel-no_loop": works(
        "setuid",
        "config-kernel_squashfs",
        "config-no_loop",
        "fuse-missing",
        mode="privileged",
        features=no_sif("loop_unavailable"),
    ),
    "setuid-config-no_sandbox": fails(
        "sandbox_disallowed_by_config", "setuid", "config-no_sandbox", features={"sif": OK}
    ),
    "setuid-config-owners": fails("sif_disallowed_by_config", "setuid", "config-owners"),
    "config-groups": fails("sif_disallowed_by_config", "config-groups"),
    "image-private": works("image-private", images={"/lab/private-image": OK}),
    "setuid-image-private": works(
        "setuid", "image-private", mode="privileged", images={"/lab/private-image": ("fail", "image_unreadable")}
    ),
    "fusermount-missing": works("fusermount-missing", features=SIF_TOO),
    # --- what is tried only where something fails ---
    "newuidmap-missing": fails(
        "proc_masked",
        "proc_masked",
        "newuidmap-missing",
        features={"fakeroot": ("fail", "newuidmap_missing"), "cgroups": ("fail", "cgroup_denied")},
    ),
    "fakeroot-root_mapped": fails("bind_ignored_by_config", "config-no_binds", "subuid-none", features={"fakeroot": OK}),
    # --- the search order ---
    "osg-before-broken": works("osg-good", "binary-fatal-exit_0", checks={OSG_CHECK: OK}),
    "osg-after-broken": works("osg-good-last", "binary-fatal-exit_0", checks={OSG_CHECK: OK}),
    "osg-broken": works("osg-fatal"),
    "osg-broken-mntns-disabled": fails("mount_denied", "osg-fatal", "mntns-disabled"),
    "osg-hung": fails(
        "cvmfs_hung",
        "osg-hung",
        cvmfs={OASIS: ("timeout", "cvmfs_hung")},
        alternatives={"SINGULARITY_BIN=PATH": "ok"},
        complete=None,
    ),
    # --- what is around a start: binds, the environment, a script around the binary ---
    "bind-hung": fails("bind_hung", "bind-hung", checks={"host.binds./hung/bind": ("timeout", "bind_hung")}),
    "cvmfs_dir-hung": fails(
        "bind_hung",
        "cvmfs_dir-hung",
        checks={"host.binds./hung/dist/cvmfs": ("timeout", "bind_hung"), "cvmfs": ("timeout", "cvmfs_hung")},
    ),
    "storage": works("storage", checks={"singularity.storage": OK}),
    "storage-no_layer": works(
        "storage",
        "config-no_layer",
        features={"bind_new_path": ("fail", "no_overlay_or_underlay"), "sandbox": OK},
        checks={"singularity.storage": ("fail", "no_overlay_or_underlay")},
    ),
    "storage-hung": works("storage-hung", checks={"host.binds./hadoop": ("timeout", "bind_hung")}),
    "wrapper-banner": fails("runtime_wrong_output", "wrapper-banner"),
    "wrapper-libraries": works("wrapper-libraries", features=SIF_TOO),
    "folder-colon": fails("folder_unusable", "folder-colon"),
    # --- environment modules ---
    "module-singularity": works("module-singularity"),
    "module-singularitypro": works("module-singularitypro"),
    "module-none": fails("runtime_not_found", "module-none"),
    "module-other_name": fails("runtime_not_found", "module-other_name"),
    "module-hangs": fails("runtime_timeout", "module-hangs"),
}
