"""CVMFS: how it is mounted, and whether each repository gives data, not only a listing.

A repository whose client died still answers stat for a minute, and is an empty ordinary folder after that; one whose
server is gone still lists its root. So a small file is read, and "is it CVMFS at all" is asked of the mount table and of
the attribute ``user.fqrn`` (CVMFS 2.12, run).
"""

import errno
import os
import stat
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from probe.checks import Check, check
from probe.detectors import cvmfs_mounts
from probe.engine import Findings
from probe.host import Host
from probe.mounts import parse_mountinfo
from probe.settings import Settings
from probe.urls import without_password
from probe.workers import Result

LIMIT_S = 4.0
DEFAULT_REPOSITORIES = ["oasis.opensciencegrid.org", "singularity.opensciencegrid.org", "unpacked.cern.ch"]

# How far a small file is looked for, and how much of it is read.
LOOK_ENTRIES = 300
LOOK_DEPTH = 3
READ_BYTES = 64 * 1024
SMALL_BYTES = 1024 * 1024

ATTRIBUTES = ("fqrn", "revision", "root_hash", "version", "host", "proxy", "nioerr", "timestamp_last_ioerr")

REASONS = {
    errno.ENOENT: "cvmfs_repository_missing",
    errno.ENOTDIR: "cvmfs_repository_missing",
    errno.ENOTCONN: "cvmfs_disconnected",
    errno.ECONNABORTED: "cvmfs_disconnected",
    errno.EACCES: "cvmfs_access_denied",
    errno.EPERM: "cvmfs_access_denied",
}


def look(path: str) -> Dict[str, Any]:
    """List a repository, read its attributes and a small file. May hang; failures are data: step and errno.

    Returns names (how many the root has), attributes, read (the file's path or None), latency_s and warm_latency_s,
    step and errno of what failed (None, None).
    """
    found: Dict[str, Any] = {"names": None, "attributes": {}, "read": None, "step": None, "errno": None}
    started = time.monotonic()
    try:
        found["step"] = "list"
        found["names"] = len(os.listdir(path))
        found["step"] = "attributes"
        found["attributes"] = read_attributes(path)
        found["step"] = "read"
        found["read"] = _read_small_file(path)
        found["latency_s"] = time.monotonic() - started
        started = time.monotonic()
        os.listdir(path)
        if found["read"]:
            _read_bytes(found["read"])
        found["warm_latency_s"] = time.monotonic() - started
        found["step"] = None
    except OSError as error:
        found["errno"] = error.errno
    return found


def read_attributes(path: str) -> Dict[str, str]:
    """The client's extended attributes that can be read; none on NFS exports, and protected ones give ENODATA."""
    found = {}
    for name in ATTRIBUTES:
        try:
            found[name] = os.getxattr(path, "user." + name).decode("utf-8", "replace").strip("\0\n ")
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES):
                raise
    return found


def _read_small_file(root: str) -> Optional[str]:
    """Read the first small file met breadth first; None when none is near. Links are not followed."""
    folders = [(root, 0)]
    seen = 0
    for folder, depth in folders:
        with os.scandir(folder) as entries:
            rows = sorted(entries, key=lambda entry: entry.name)
        for entry in rows[:LOOK_ENTRIES]:
            seen += 1
            if entry.is_file(follow_symlinks=False) and 0 < entry.stat(follow_symlinks=False).st_size <= SMALL_BYTES:
                _read_bytes(entry.path)
                return entry.path
            if entry.is_dir(follow_symlinks=False) and depth < LOOK_DEPTH:
                folders.append((entry.path, depth + 1))
        if seen > LOOK_ENTRIES:
            break
    return None


def _read_bytes(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.read(descriptor, READ_BYTES)
    finally:
        os.close(descriptor)


def judge(found: Dict[str, Any], state: str, is_mount: bool) -> Tuple[str, Optional[str], Optional[str]]:
    """Status, reason and message for what ``look`` found; ``is_mount`` says whether the mount table knows the path."""
    if state == "timeout":
        return "timeout", "cvmfs_hung", "no answer within {:.0f} s".format(LIMIT_S)
    if state != "done":
        return "unknown", "probe_error", "the child that looked died"
    if found["errno"] is not None:
        reason = REASONS.get(found["errno"])
        if reason is None or (reason == "cvmfs_repository_missing" and found["step"] != "list"):
            reason = "cvmfs_data_unreadable" if found["step"] == "read" else "cvmfs_io_error"
        return "fail", reason, "{}: {}".format(found["step"], os.strerror(found["errno"]))
    if not is_mount and "fqrn" not in found["attributes"] and not found["names"]:
        return "fail", "cvmfs_repository_missing", "an empty ordinary folder: nothing is mounted there"
    return "ok", None, None


def repository_of(path: str, mount_dir: str) -> Optional[str]:
    """The repository that a path lies in, None for paths elsewhere."""
    for base in (mount_dir, cvmfs_mounts.DEFAULT_DIR):
        if path.startswith(base + "/"):
            return path[len(base) + 1 :].split("/", 1)[0] or None
    return None


def wanted(settings: Settings, mounts: List[Dict[str, str]], mount_dir: str, kind: str) -> List[str]:
    """The repositories to look at: those asked for, or else those mounted, the images' and the usual ones."""
    if settings.cvmfs_repositories:
        return list(dict.fromkeys(settings.cvmfs_repositories))
    of_images = [repository_of(image, mount_dir) for image in settings.images]
    names = [name for name in of_images if name]
    if kind != "none":
        names += [mount["point"][len(mount_dir) + 1 :] for mount in cvmfs_mounts.mounted_under(mounts, mount_dir)]
        names += DEFAULT_REPOSITORIES if kind == "autofs" else []
    return list(dict.fromkeys(name for name in names if name and "/" not in name))


def detect(host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``cvmfs``, each repository in a child of its own: any number of hung ones cost one limit."""
    mount_dir = (settings.cvmfs_mount_dir or cvmfs_mounts.DEFAULT_DIR).rstrip("/")
    mounts = parse_mountinfo(host.read_or_none("/proc/self/mountinfo") or "")
    uses_cvmfsexec = settings.configured("GLIDEIN_USE_CVMFSEXEC") in ("1", "true", "True")
    kind = cvmfs_mounts.kind_of(mounts, mount_dir, uses_cvmfsexec)
    names = wanted(settings, mounts, mount_dir, kind)
    results = host.attempt_all(LIMIT_S, {"cvmfs." + name: [look, mount_dir + "/" + name] for name in names})
    rows, checks = [], []
    for name in names:
        result = results["cvmfs." + name]
        is_mount = cvmfs_mounts.mount_of(mounts, mount_dir + "/" + name) is not None or kind in ("bind", "nfs")
        row = _row(name, result, judge(result.value or {}, result.state, is_mount), kind, host.now())
        rows.append(row)
        checks.append(_check(row, result))
    if kind == "none" and not names:
        checks.append(check("cvmfs", "fail", "cvmfs_not_mounted", "nothing is mounted under {}".format(mount_dir)))
    version = next((row["client_version"] for row in rows if row["client_version"]), None)
    data = {"mount_dir": mount_dir, "kind": kind, "client_version": version, "repositories": rows}
    yield {"data": data, "checks": checks}


def _row(
    name: str, result: Result, judged: Tuple[str, Optional[str], Optional[str]], kind: str, now: float
) -> Dict[str, Any]:
    status, reason, message = judged
    if kind == "none" and reason == "cvmfs_repository_missing":
        reason, message = "cvmfs_not_mounted", "CVMFS is not mounted here"
    found = result.value or {}
    attributes = found.get("attributes", {})
    last_ioerr = _number(attributes.get("timestamp_last_ioerr"))
    return {
        "name": name,
        "status": status,
        "reason": reason,
        "message": message,
        "errno": found.get("errno"),
        "latency_s": _rounded(found.get("latency_s")),
        "warm_latency_s": _rounded(found.get("warm_latency_s")),
        "revision": _number(attributes.get("revision")),
        "root_hash": attributes.get("root_hash"),
        "nioerr": _number(attributes.get("nioerr")),
        "last_ioerr_age_s": max(0, int(now) - last_ioerr) if last_ioerr else None,
        "host": without_password(attributes["host"]) if "host" in attributes else None,
        "proxy": without_password(attributes["proxy"]) if "proxy" in attributes else None,
        "client_version": attributes.get("version"),
        "read": found.get("read"),
    }


def _rounded(seconds: Optional[float]) -> Optional[float]:
    return None if seconds is None else round(seconds, 5)


def _number(text: Optional[str]) -> Optional[int]:
    return int(text) if text and text.isdecimal() else None


def _check(row: Dict[str, Any], result: Result) -> Check:
    return check(
        "cvmfs." + row["name"],
        row["status"],
        row["reason"],
        row["message"],
        result.duration_s,
        errno=row["errno"],
        read=row["read"],
        revision=row["revision"],
        left_running=result.left_running or None,
    )


def unknown(_status: str, _reason: str, _message: str) -> Dict[str, Any]:
    """The report's ``cvmfs`` where this detector never answered."""
    return {"mount_dir": None, "kind": None, "client_version": None, "repositories": []}
