"""What was seen of repositories becomes rows of the report: status, reason, and what the client told."""

import errno
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional

from probe.checks import Check, check
from probe.detectors.cvmfs_look import COUNTS
from probe.host import cut_short
from probe.urls import without_password
from probe.workers import Result

REASONS = {
    errno.ENOENT: "cvmfs_repository_missing",
    errno.ENOTDIR: "cvmfs_repository_missing",
    # Bound into a container without its propagation, an automounter's folder gives this (singularity issue 890).
    errno.ELOOP: "autofs_not_visible_inside",
    errno.ENOTCONN: "cvmfs_disconnected",
    errno.ECONNABORTED: "cvmfs_disconnected",
    errno.EACCES: "cvmfs_access_denied",
    errno.EPERM: "cvmfs_access_denied",
}
# What these say is of the way to the repository, not of a file in it.
OF_THE_ROOT_ONLY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Judgement(NamedTuple):
    """Status, reason and message of a row; a good one has a message where something was not looked at."""

    status: str
    reason: Optional[str]
    message: Optional[str]


class Known(NamedTuple):
    """What is known of a repository without touching it: mounted before it was looked at, mounted by whom, the limit,
    the least revision that the configuration asks for, the limit that it would have with more time."""

    was_mounted: bool
    kind: Optional[str]
    limit_s: float
    least_revision: Optional[int] = None
    wanted_s: float = 0.0


def judge(found: Dict[str, Any], state: str, known: Known) -> Judgement:
    """Status, reason and message for what ``cvmfs_look.look`` found; ``state`` is a Result's, or "late" where the deadline
    left too little time."""
    if state == "timeout":
        return Judgement("timeout", "cvmfs_hung", "no answer within {:.1f} s".format(known.limit_s))
    if state == "late":
        return Judgement("unknown", "deadline_reached", "no answer within {:.1f} s".format(known.limit_s))
    if state != "done":
        return Judgement("unknown", "probe_error", "the child that looked died")
    if found["errno"] is not None:
        return _of_errno(found, known)
    if found["names"] == 0 and found.get("plain", True) and "fqrn" not in found["attributes"]:
        return _empty(known)
    return _of_data(found, known)


def _of_errno(found: Dict[str, Any], known: Known) -> Judgement:
    error, step = found["errno"], found["step"]
    reason = REASONS.get(error)
    if reason is None or (error in OF_THE_ROOT_ONLY and step != "list"):
        reason = "cvmfs_data_unreadable" if step == "read" else "cvmfs_io_error"
    if reason == "cvmfs_repository_missing" and known.was_mounted:
        return _gone()
    if reason == "cvmfs_repository_missing" and known.kind == "none":
        return Judgement("fail", "cvmfs_not_mounted", "CVMFS is not mounted here")
    return Judgement("fail", reason, "{}: {}".format(step, os.strerror(error)))


def _empty(known: Known) -> Judgement:
    """An ordinary folder without anything in it: what a dead client leaves when its watchdog has unmounted it."""
    if known.was_mounted and known.kind in ("fuse", "autofs", "cvmfsexec"):
        return _gone()
    if known.kind == "none":
        return Judgement("fail", "cvmfs_not_mounted", "an empty ordinary folder: CVMFS is not mounted here")
    return Judgement("fail", "cvmfs_repository_missing", "an empty ordinary folder: nothing is mounted there")


def _gone() -> Judgement:
    return Judgement("fail", "cvmfs_disconnected", "it was mounted, and its mount went away while it was looked at")


def _of_data(found: Dict[str, Any], known: Known) -> Judgement:
    if found.get("short_read"):
        message = "read: {} of {} bytes".format(*found["short_read"])
        return Judgement("fail", "cvmfs_data_unreadable", message)
    revision = number(found["attributes"].get("revision"))
    if known.least_revision is not None and revision is not None and revision < known.least_revision:
        message = "revision {}; {} is asked for".format(revision, known.least_revision)
        return Judgement("fail", "cvmfs_stale", message)
    return Judgement("ok", None, None if found["read"] else "its listing only: no small file is near its root")


def row_of(name: str, result: Result, known: Known, now: float) -> Dict[str, Any]:
    """One row of the report's ``cvmfs.repositories``."""
    found = result.value or {}
    state = "late" if result.state == "timeout" and cut_short(result, known.wanted_s) else result.state
    return _row(name, found, judge(found, state, known), now)


def no_name(name: str) -> Dict[str, Any]:
    """The row of what cannot be a repository; nothing was touched."""
    return _row(name, {}, Judgement("fail", "cvmfs_repository_missing", "no repository can have this name"), 0.0)


def _row(name: str, found: Dict[str, Any], judged: Judgement, now: float) -> Dict[str, Any]:
    attributes = found.get("attributes", {})
    last_ioerr = number(attributes.get("timestamp_last_ioerr"))
    return {
        "name": name,
        "status": judged.status,
        "reason": judged.reason,
        "message": judged.message,
        "errno": found.get("errno"),
        "latency_s": _rounded(found.get("latency_s")),
        "warm_latency_s": _rounded(found.get("warm_latency_s")),
        "revision": number(attributes.get("revision")),
        "root_hash": attributes.get("root_hash"),
        "nioerr": number(attributes.get("nioerr")),
        "last_ioerr_age_s": max(0, int(now) - last_ioerr) if last_ioerr else None,
        "host": without_password(attributes["host"]) if "host" in attributes else None,
        "proxy": without_password(attributes["proxy"]) if "proxy" in attributes else None,
        "client_version": attributes.get("version"),
        "read": found.get("read"),
        "content": found.get("content"),
    }


def settle_content(rows: List[Dict[str, Any]]) -> None:
    """Bytes that differ count only where another repository's agree: then it is not our zlib that differs."""
    agree = any(row["content"] == "verified" for row in rows)
    for row in rows:
        if row["content"] != "differs":
            continue
        if not agree:
            row["content"] = None
        elif row["status"] == "ok":
            message = "read: the bytes are not those of the catalog's hash"
            row.update(status="fail", reason="cvmfs_data_unreadable", message=message)


def check_of(row: Dict[str, Any], result: Optional[Result]) -> Check:
    """The check of a row."""
    attributes = ((result and result.value) or {}).get("attributes", {})
    return check(
        "cvmfs." + row["name"],
        row["status"],
        row["reason"],
        row["message"] if row["status"] != "ok" else None,
        result.duration_s if result else None,
        errno=row["errno"],
        read=row["read"],
        content=row["content"],
        revision=row["revision"],
        left_running=(result is not None and result.left_running) or None,
        **{name: number(attributes.get(name)) for name in COUNTS}
    )


def number(text: Optional[str]) -> Optional[int]:
    """A count of the client's; None for what is none ("never", -1)."""
    return int(text) if text and re.match("[0-9]{1,18}$", text) else None


def _rounded(seconds: Optional[float]) -> Optional[float]:
    return None if seconds is None else round(seconds, 5)
