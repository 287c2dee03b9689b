"""Kernel namespaces, tried one after the other in throw-away children as an unprivileged container start does it.

Stopping after unshare(2), as others do, is not enough: AppArmor on Ubuntu 24.04 lets it pass and refuses the maps or the
first mount (apptainer issues 2457 and 2608). Each step keeps its errno.
"""

import errno
import os
from typing import Any, Dict, Iterator, List, Optional, Tuple

from probe import kernel
from probe.checks import Check, check
from probe.detectors.machine import parse_status
from probe.engine import Findings
from probe.host import Host
from probe.mounts import covering_proc, parse_mountinfo
from probe.settings import Settings
from probe.workers import Result

LIMIT_S = 5.0
CAP_SYS_ADMIN = 1 << 21

Steps = List[Dict[str, Any]]

SETTINGS = {
    "max_user_namespaces": "/proc/sys/user/max_user_namespaces",
    "max_mnt_namespaces": "/proc/sys/user/max_mnt_namespaces",
    "max_pid_namespaces": "/proc/sys/user/max_pid_namespaces",
    "max_ipc_namespaces": "/proc/sys/user/max_ipc_namespaces",
    "max_net_namespaces": "/proc/sys/user/max_net_namespaces",
    "unprivileged_userns_clone": "/proc/sys/kernel/unprivileged_userns_clone",
    "apparmor_restrict_unprivileged_userns": "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    "max_pid": "/proc/sys/kernel/pid_max",
}
LIMIT_OF = {"user": "max_user_namespaces", "mount": "max_mnt_namespaces", "pid": "max_pid_namespaces"}
# A limit this low may be met by a busy node (apptainer issue 1686: 10, and the fifth of five ranks failed).
LOW_LIMIT = 1000
AT_ONCE = 8
LIMIT_OF.update({"ipc": "max_ipc_namespaces", "net": "max_net_namespaces"})


class _Trial:
    """Steps until the first that fails."""

    def __init__(self) -> None:
        self.steps: Steps = []

    def step(self, name: str, error: int) -> bool:
        self.steps.append({"step": name, "errno": error})
        return error == 0


def _write(path: str, text: str) -> int:
    try:
        with open(path, "w") as stream:
            stream.write(text)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _enter_user_namespace(trial: _Trial, uid: int, gid: int) -> bool:
    if not trial.step("unshare user", kernel.unshare(kernel.CLONE_NEWUSER)):
        return False
    wants_setgroups = os.path.exists("/proc/self/setgroups")  # Linux 3.19 and later, before gid_map
    if wants_setgroups and not trial.step("write setgroups", _write("/proc/self/setgroups", "deny")):
        return False
    return trial.step("write uid_map", _write("/proc/self/uid_map", "{0} {0} 1".format(uid))) and trial.step(
        "write gid_map", _write("/proc/self/gid_map", "{0} {0} 1".format(gid))
    )


def try_user(uid: int, gid: int) -> Steps:
    """A user namespace with both maps. Changes its process: call it in a child."""
    trial = _Trial()
    _enter_user_namespace(trial, uid, gid)
    return trial.steps


def _begin(privileged: bool, uid: int, gid: int) -> Tuple[_Trial, bool]:
    trial = _Trial()
    return trial, privileged or _enter_user_namespace(trial, uid, gid)


def _private_mounts(trial: _Trial) -> bool:
    return trial.step("unshare mount", kernel.unshare(kernel.CLONE_NEWNS)) and trial.step(
        "remount private", kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    )


def try_mount(privileged: bool, uid: int, gid: int) -> Steps:
    """A mount namespace, private, with a tmpfs of its own in it. Changes its process: call it in a child."""
    trial, entered = _begin(privileged, uid, gid)
    if entered and _private_mounts(trial):
        _mount_tmpfs(trial)
    return trial.steps


def _mount_tmpfs(trial: _Trial) -> bool:
    flags = kernel.MS_NOSUID | kernel.MS_NODEV
    return trial.step("mount tmpfs", kernel.mount("tmpfs", "/sys", "tmpfs", flags, "size=64k"))


def try_pid(privileged: bool, uid: int, gid: int) -> Steps:
    """A pid namespace with a fresh /proc, as ``--pid`` makes it. Changes its process: call it in a child."""
    trial, entered = _begin(privileged, uid, gid)
    if entered:
        _pid_with_proc(trial)
    return trial.steps


def _pid_with_proc(trial: _Trial) -> bool:
    if not trial.step("unshare pid", kernel.unshare(kernel.CLONE_NEWPID)):
        return False
    read_end, write_end = os.pipe()
    first = os.fork()
    if first == 0:
        inner = _Trial()
        if _private_mounts(inner):
            flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
            inner.step("mount proc", kernel.mount("proc", "/proc", "proc", flags))
        os.write(write_end, " ".join(str(step["errno"]) for step in inner.steps).encode())
        os._exit(0)
    os.close(write_end)
    errors = os.read(read_end, 256).decode().split()
    os.waitpid(first, 0)
    os.close(read_end)
    steps = [trial.step(*pair) for pair in zip(("unshare mount", "remount private", "mount proc"), map(int, errors))]
    return len(steps) == 3 and all(steps)


def try_other(privileged: bool, uid: int, gid: int, name: str, flag: int) -> Steps:
    """An ipc or network namespace. Changes its process: call it in a child."""
    trial, entered = _begin(privileged, uid, gid)
    if entered:
        trial.step("unshare " + name, kernel.unshare(flag))
    return trial.steps


def try_all(privileged: bool, uid: int, gid: int) -> Optional[Dict[str, Steps]]:
    """Every namespace in one process, one after the other; None as soon as one fails. Call it in a child."""
    begun, entered = _begin(False, uid, gid)
    tried = {"user": list(begun.steps)}
    if not entered:
        return None
    before = [] if privileged else begun.steps
    for kind, go in (
        ("mount", lambda trial: _private_mounts(trial) and _mount_tmpfs(trial)),
        ("ipc", lambda trial: trial.step("unshare ipc", kernel.unshare(kernel.CLONE_NEWIPC))),
        ("net", lambda trial: trial.step("unshare net", kernel.unshare(kernel.CLONE_NEWNET))),
        ("pid", _pid_with_proc),
    ):
        trial = _Trial()
        if not go(trial):
            return None
        tried[kind] = before + trial.steps
    return tried


def try_several(count: int) -> int:
    """How many user namespaces can be held at once, of ``count``. Forks; call it in a child."""
    release_read, release_write = os.pipe()
    answer_read, answer_write = os.pipe()
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            os.close(release_write)
            os.write(answer_write, b"1" if kernel.unshare(kernel.CLONE_NEWUSER) == 0 else b"0")
            os.read(release_read, 1)  # hold it until all have tried: the parent's end closes
            os._exit(0)
        children.append(child)
    answers = b""
    while len(answers) < count:
        answers += os.read(answer_read, count)
    os.close(release_write)
    for child in children:
        os.waitpid(child, 0)
    return answers.count(b"1")


def explain_failure(
    kind: str, step: str, error: int, settings: Dict[str, Optional[int]], masked: bool, chrooted: bool = False
) -> str:
    """The reason code of a failed step. ``settings`` are the kernel's knobs, None where a knob does not exist."""
    if step == "unshare user" and chrooted and error == errno.EPERM:
        return "userns_denied_in_chroot"
    if step == "unshare user":
        return _explain_user(error, settings)
    if settings.get("apparmor_restrict_unprivileged_userns") and error in (errno.EPERM, errno.EACCES):
        return "userns_restricted_apparmor"
    if step.startswith("write "):
        return "userns_map_denied"
    if step == "mount proc":
        return "proc_masked" if error == errno.EPERM or masked else "mount_denied"
    if step in ("unshare mount", "remount private", "mount tmpfs"):
        return "mount_denied"
    return {"pid": "pid_namespace_denied", "ipc": "ipc_namespace_denied", "net": "net_namespace_denied"}[kind]


def _explain_user(error: int, settings: Dict[str, Optional[int]]) -> str:
    # EL7 says EINVAL where the limit is 0 (podman issue 7704).
    if error in (errno.ENOSPC, errno.EUSERS, errno.EINVAL) and settings.get("max_user_namespaces") == 0:
        return "userns_disabled"
    if error in (errno.ENOSPC, errno.EUSERS):
        return "userns_limit_reached"
    if error in (errno.EPERM, errno.EACCES):
        if settings.get("unprivileged_userns_clone") == 0:
            return "userns_disabled"
        return (
            "userns_restricted_apparmor" if settings.get("apparmor_restrict_unprivileged_userns") else "userns_denied"
        )
    return "userns_unsupported"


def _judge(
    kind: str, result: Result, settings: Dict[str, Optional[int]], masked: bool, chrooted: bool = False
) -> Dict[str, Any]:
    """The report's object for one namespace."""
    steps = result.value or []
    failed = next((step for step in steps if step["errno"]), None)
    status, reason, message = "ok", None, None  # type: str, Optional[str], Optional[str]
    if result.state != "done":
        status = "timeout" if result.state == "timeout" else "unknown"
        reason, message = result.lost_reason, result.detail or "did not answer within {} s".format(LIMIT_S)
    elif failed and failed["errno"] == errno.ENOSYS:
        status, reason, message = "unknown", "cannot_be_tried", "this Python has no ctypes"
    elif failed:
        status = "fail"
        reason = explain_failure(kind, failed["step"], failed["errno"], settings, masked, chrooted)
        message = "{}: {}".format(failed["step"], os.strerror(failed["errno"]))
    return {
        "status": status,
        "reason": reason,
        "errno": failed["errno"] if failed else None,
        "limit": settings.get(LIMIT_OF[kind]),
        "message": message,
        "duration_s": round(result.duration_s, 4),
        "steps": steps,
    }


def read_settings(host: Host) -> Dict[str, Optional[int]]:
    """The kernel's knobs, None where a knob does not exist or is no number."""
    texts = {name: (host.read_or_none(path) or "").strip() for name, path in SETTINGS.items()}
    return {name: int(text) if text.isdecimal() else None for name, text in texts.items()}


def detect(host: Host, _settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``namespaces``. Root with CAP_SYS_ADMIN tries the others without a user namespace, as Singularity would."""
    facts = host.facts()
    uid, gid = facts["uid"], facts["gid"]
    capabilities = parse_status(host.read_or_none("/proc/self/status") or "").get("CapEff", "0")
    privileged = uid == 0 and bool(int(capabilities, 16) & CAP_SYS_ADMIN)
    results = _together(host, privileged, uid, gid) or host.attempt_all(
        LIMIT_S,
        {
            "namespaces.user": [try_user, uid, gid],
            "namespaces.mount": [try_mount, privileged, uid, gid],
            "namespaces.pid": [try_pid, privileged, uid, gid],
            "namespaces.ipc": [try_other, privileged, uid, gid, "ipc", kernel.CLONE_NEWIPC],
            "namespaces.net": [try_other, privileged, uid, gid, "net", kernel.CLONE_NEWNET],
        },
    )
    settings = read_settings(host)
    mounts = parse_mountinfo(host.read_or_none("/proc/self/mountinfo") or "")
    masked = bool(covering_proc(mounts)["masked"])
    # The root of an ordinary process is a mount; a chroot into a plain folder shows none (and the kernel then refuses
    # user namespaces, user_namespaces(7)).
    chrooted = bool(mounts) and not any(mount["point"] == "/" for mount in mounts)
    data = {
        name.partition(".")[2]: _judge(name.partition(".")[2], result, settings, masked, chrooted)
        for name, result in results.items()
    }
    checks = [_check(name, found) for name, found in data.items()] + _several(host, data["user"])
    yield {
        "data": dict(data, settings={name: value for name, value in settings.items() if value is not None}),
        "checks": checks,
    }


def _several(host: Host, user: Dict[str, Any]) -> List[Check]:
    """Where the limit is low: whether several namespaces fit under it, as many jobs start at once."""
    if user["status"] != "ok" or user["limit"] is None or user["limit"] > LOW_LIMIT:
        return []
    identifier = "namespaces.user_several"
    result = host.attempt("namespaces.several", LIMIT_S, try_several, AT_ONCE)
    if result.state != "done":
        status = "timeout" if result.state == "timeout" else "unknown"
        return [check(identifier, status, result.lost_reason, result.detail or "no answer", result.duration_s)]
    message = "{} of {} at once, under a limit of {}".format(result.value, AT_ONCE, user["limit"])
    good = result.value == AT_ONCE
    status, reason = ("ok", None) if good else ("fail", "userns_limit_reached")
    return [check(identifier, status, reason, message, result.duration_s, held=result.value, limit=user["limit"])]


def _together(host: Host, privileged: bool, uid: int, gid: int) -> Dict[str, Result]:
    """The results where all namespaces can be made, the common case, at the price of one child; {} elsewhere."""
    result = host.attempt("namespaces.all", LIMIT_S, try_all, privileged, uid, gid)
    tried = result.value if result.state == "done" else None
    return {"namespaces." + kind: result._replace(value=tried[kind]) for kind in LIMIT_OF} if tried else {}


def _check(name: str, found: Dict[str, Any]) -> Check:
    tried = ["{}: {}".format(step["step"], step["errno"] or "ok") for step in found["steps"]]
    return check(
        "namespaces." + name,
        found["status"],
        found["reason"],
        found["message"],
        found["duration_s"],
        errno=found["errno"],
        limit=found["limit"],
        steps=tried,
    )


def unknown(status: str, reason: str, message: str) -> Dict[str, Any]:
    """The report's ``namespaces`` where this detector never answered."""
    nothing: Dict[str, Any] = {
        "status": status, "reason": reason, "errno": None, "limit": None, "message": message, "duration_s": None, "steps": []
    }  # fmt: skip
    return dict({name: dict(nothing) for name in LIMIT_OF}, settings={})
