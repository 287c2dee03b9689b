"""Kinds of nodes and what can befall them, as changes to one template report. Data first; the functions only write it in.

Every condition names the capability it takes away (`loses`), and the others that go with it (`also`): the ground truth.
"""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Report = dict[str, Any]
TEMPLATE: Report = json.loads(Path(__file__).with_name("report.json").read_text(encoding="utf-8"))


class Kind(NamedTuple):
    """One kind of worker node."""

    name: str
    os: tuple[str, str]
    kernel: tuple[int, int, int]
    libc: str
    setuid: bool = False
    gpus: int = 0
    cvmfs: str = "autofs"
    conditions: tuple[str, ...] = ()  # what is wrong with it from the beginning


KINDS = {
    kind.name: kind
    for kind in (
        Kind("el7-setuid", ("centos", "7.9"), (3, 10, 0), "glibc 2.17", setuid=True),
        Kind("el7-no_userns", ("centos", "7.9"), (3, 10, 0), "glibc 2.17", conditions=("no_userns",)),
        Kind("el8", ("rocky", "8.10"), (4, 18, 0), "glibc 2.28"),
        Kind("el8-setuid", ("almalinux", "8.10"), (4, 18, 0), "glibc 2.28", setuid=True),
        Kind("el9", ("almalinux", "9.4"), (5, 14, 0), "glibc 2.34"),
        Kind("el9-gpu", ("almalinux", "9.4"), (5, 14, 0), "glibc 2.34", gpus=2),
        Kind("el9-cvmfsexec", ("rhel", "9.5"), (5, 14, 0), "glibc 2.34", cvmfs="cvmfsexec"),
        Kind("el10", ("almalinux", "10.0"), (6, 12, 0), "glibc 2.39"),
        Kind("ubuntu22", ("ubuntu", "22.04"), (5, 15, 0), "glibc 2.35", cvmfs="fuse"),
        Kind("ubuntu24-apparmor", ("ubuntu", "24.04"), (6, 8, 0), "glibc 2.39", conditions=("no_userns",)),
        Kind("k8s-masked_proc", ("debian", "12"), (6, 1, 0), "glibc 2.36", conditions=("masked_proc",)),
        Kind("sles15", ("sles", "15.6"), (6, 4, 0), "glibc 2.38"),
    )
}


class Condition(NamedTuple):
    """Something that befalls a node: `apply` writes it into a report; `suits` says on which kinds it can be seen."""

    loses: str
    also: frozenset[str]
    apply: Callable[[Report], None]
    suits: Callable[[Kind], bool] = lambda _kind: True


def status_of(check: Report, status: str, reason: str | None) -> None:
    check.update(status=status, reason=reason)


def _no_userns(report: Report) -> None:
    singularity = report["singularity"]
    status_of(report["namespaces"]["user"], "fail", "userns_limit_reached")
    singularity.update(usable=False, reason="userns_limit_reached", mode=None)
    status_of(singularity["modes"]["unprivileged"], "fail", "userns_limit_reached")
    for check in singularity["features"].values():
        status_of(check, "fail", "userns_limit_reached")


def _masked_proc(report: Report) -> None:
    singularity = report["singularity"]
    report["host"]["container"]["kind"] = "kubernetes"
    singularity.update(usable=False, reason="proc_masked", mode=None)
    status_of(singularity["modes"]["unprivileged"], "fail", "proc_masked")
    status_of(singularity["features"]["pid_namespace"], "fail", "proc_masked")


def _no_runtime(report: Report) -> None:
    singularity = report["singularity"]
    report["runtimes"] = []
    singularity.update(usable=False, reason="runtime_not_found", mode=None, product=None, version=None, path=None)
    for group in ("modes", "features"):
        for check in singularity[group].values():
            status_of(check, "skipped", "runtime_not_found")


def _cvmfs_dead(report: Report) -> None:
    for repository in report["cvmfs"]["repositories"]:
        if repository["name"] == "oasis.opensciencegrid.org":
            status_of(repository, "timeout", "cvmfs_hung")


def _gpu_broken(report: Report) -> None:
    report["gpus"].update(status="fail", reason="gpu_driver_mismatch")
    status_of(report["gpus"]["container"], "fail", "gpu_driver_mismatch")
    status_of(report["singularity"]["features"]["nv"], "fail", "gpu_driver_mismatch")


def _no_setuid(report: Report) -> None:
    status_of(report["singularity"]["modes"]["privileged"], "fail", "setuid_not_installed")
    report["singularity"]["mode"] = "unprivileged"
    for runtime in report["runtimes"]:
        runtime["setuid"].update(installed=False, usable=False, reason="setuid_not_installed", path=None)


def _deadline(report: Report) -> None:
    singularity = report["singularity"]
    report["complete"] = False
    singularity.update(usable=None, reason="deadline_reached", mode=None)
    for group in ("modes", "features"):
        for check in singularity[group].values():
            status_of(check, "unknown", "deadline_reached")


_FEATURES = frozenset(TEMPLATE["singularity"]["features"])


def _works(kind: Kind) -> bool:
    return not kind.conditions


CONDITIONS = {
    "no_userns": Condition(
        "singularity",
        _FEATURES | {"unprivileged", "user_namespaces"},
        _no_userns,
        lambda kind: _works(kind) and not kind.setuid,
    ),
    "masked_proc": Condition("singularity", frozenset({"unprivileged", "pid_namespace"}), _masked_proc, _works),
    "no_runtime": Condition("singularity", frozenset(), _no_runtime, _works),
    "cvmfs_dead": Condition("cvmfs:oasis.opensciencegrid.org", frozenset(), _cvmfs_dead),
    "gpu_broken": Condition(
        "gpu", frozenset({"gpu_container", "nv"}), _gpu_broken, lambda kind: kind.gpus > 0 and _works(kind)
    ),
    "no_setuid": Condition("privileged", frozenset(), _no_setuid, lambda kind: kind.setuid and _works(kind)),
}
# What a single report says by chance.
NOISE: dict[str, Callable[[Report], None]] = {
    "no_userns": _no_userns,
    "cvmfs_dead": _cvmfs_dead,
    "no_runtime": _no_runtime,
    "deadline": _deadline,
}


def report_of(kind: Kind, conditions: Sequence[str]) -> Report:
    """The report of a node of `kind` on which these conditions (or noises) hold, without names and times."""
    report = copy.deepcopy(TEMPLATE)
    host = report["host"]
    host["os"].update(id=kind.os[0], version_id=kind.os[1], name=" ".join(kind.os))
    host["kernel"].update(release=".".join(map(str, kind.kernel)), version=list(kind.kernel))
    host["libc"] = kind.libc
    report["cvmfs"]["kind"] = kind.cvmfs
    _set_gpus(report, kind.gpus)
    if kind.setuid:
        report["singularity"]["mode"] = "privileged"
        status_of(report["singularity"]["modes"]["privileged"], "ok", None)
        for runtime in report["runtimes"]:
            runtime["setuid"].update(installed=True, usable=True, reason=None, path="/usr/libexec/apptainer/bin/starter-suid")
    for name in conditions:
        (CONDITIONS[name].apply if name in CONDITIONS else NOISE[name])(report)
    return report


def _set_gpus(report: Report, count: int) -> None:
    gpus = report["gpus"]
    if count:
        gpus["devices"] = [{**gpus["devices"][0], "uuid": f"GPU-{n}"} for n in range(count)]
        gpus["visible"] = [str(n) for n in range(count)]
        return
    gpus.update(status="skipped", reason="gpu_none", message=None, driver_version=None, cuda_version=None, visible=None)
    gpus.update(devices=[], driver_libraries_glibc=None)
    status_of(gpus["container"], "skipped", "gpu_none")
    status_of(report["singularity"]["features"]["nv"], "skipped", "gpu_none")
