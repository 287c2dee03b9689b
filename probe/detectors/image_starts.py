"""Starting images with the glidein's own command line, and judging the starts.

The image's own shell is run, not our payload: it needs the image's loader and C library, as a job does. Where an image has
no shell our payload is run in it, and the row says so.
"""

import errno
import os
import re
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set

from probe import payload_run, stderr_rules
from probe.checks import clip_value, decisive_lines
from probe.command_line import Launch
from probe.container_trials import kept_in
from probe.detectors.image_places import look
from probe.detectors.machine import parse_os_release
from probe.host import Host, Run, cut_short
from probe.process import Outcome

RUN_LIMIT_S = 20.0
LOOK_LIMIT_S = 5.0
AT_ONCE = 2

# What asks the image about itself; every line of ours begins with the nonce. It "started" before anything of the image is
# read: a pipe or an endless file in its /etc costs what was read, not the verdict.
SCRIPT = (
    'ulimit -t 2; echo "$0 arch $(uname -m 2>/dev/null)"; echo "$0 libc $(getconf GNU_LIBC_VERSION 2>/dev/null)";'
    ' for f in /lib/ld-musl-*; do [ -e "$f" ] && echo "$0 musl $f"; done; echo "$0 started";'
    ' if [ -f /etc/os-release ]; then while read -r l; do echo "$0 os $l"; done </etc/os-release; fi; echo "$0 end"'
)
# Apptainer 1.4.5, Singularity 3.x and 2.x of an image without it.
_NO_SHELL = re.compile(r"/bin/sh.*(no such file|not found|doesn't exist)|No valid /bin/sh", re.IGNORECASE)


class Means(NamedTuple):
    """What images are started with: the glidein's launch and one whose /srv is our work folder, that folder, where our
    payload is inside, what CVMFS is mounted at, and which mount a path lies on."""

    launch: Launch
    own_launch: Launch
    work_folder: Optional[str]
    payload: Optional[str]
    mount_dir: str
    mount_of: Callable[[str], str]


def parse_answer(stdout: str, nonce: str) -> Dict[str, Any]:
    """What the image's shell said: os, libc, arch, started."""
    words = re.findall("^" + re.escape(nonce) + r" (\w+) ?(.*?)\r?$", stdout, re.MULTILINE)
    values: Dict[str, List[str]] = {}
    for key, value in words:
        values.setdefault(key, []).append(value)
    libc = (values.get("libc") or [""])[0] or ("musl" if "musl" in values else None)
    return {
        "started": "started" in values,
        "arch": (values.get("arch") or [""])[0] or None,
        "libc": libc,
        "os": parse_os_release("\n".join(values["os"])) if "os" in values else None,
    }


def start_all(host: Host, means: Means, rows: List[Dict[str, Any]], seconds: float) -> List[Dict[str, Any]]:
    """Start images, two at a time, within a number of seconds; fills their rows. Returns those that were not reached, or
    that the end of the time kept from an answer.

    Of the images on a mount where one does not answer, no other is started.
    """
    until = time.monotonic() + seconds
    waiting = list(rows)
    late: List[Dict[str, Any]] = []
    hung: Set[str] = set()
    while waiting and time.monotonic() < until:
        batch = [row for row in waiting if means.mount_of(_started_path(row)) not in hung][:AT_ONCE]
        if not batch:
            break
        waiting = [row for row in waiting if row not in batch]
        late += _start(host, means, batch, host.limit(min(RUN_LIMIT_S, until - time.monotonic()), 0.5))
        hung |= {means.mount_of(_started_path(row)) for row in batch if row["status"] == "timeout"}
    for row in waiting:
        if means.mount_of(_started_path(row)) in hung:
            message = "not started: another image on the same mount does not answer"
            row.update(status="timeout", reason="runtime_timeout", message=message)
    return late + [row for row in waiting if row["status"] == "ok"]


def _started_path(row: Dict[str, Any]) -> str:
    return str(row["evidence"].get("real") or row["path"] or row["ref"])


def _start(host: Host, means: Means, batch: List[Dict[str, Any]], limit_s: float) -> List[Dict[str, Any]]:
    """Start some; returns those that had too little time: their rows say nothing new."""
    late = []
    nonce = host.nonce()
    program = ["/bin/sh", "-c", SCRIPT, nonce]
    runs = {"images.run." + row["ref"]: _run(means, means.launch, row, program) for row in batch}
    outcomes = host.run_each(runs, limit_s, AT_ONCE)
    for row in batch:
        outcome = outcomes["images.run." + row["ref"]]
        judged = judge(outcome, nonce)
        if judged["status"] == "timeout" and cut_short(outcome, RUN_LIMIT_S):
            late.append(row)
            continue
        _take(row, judged)
        if row["status"] == "fail" and lacks_shell(outcome) and means.payload:
            _start_payload(host, means, row, limit_s)
        elif row["status"] == "fail":
            _look_again(host, means, row)
    return late


def _run(means: Means, launch: Launch, row: Dict[str, Any], program: List[str]) -> Run:
    changes = dict(launch.changes, **kept_in(means.work_folder, "TMPDIR", "CACHEDIR"))
    return Run(launch.command(_started_path(row), program), changes)


def _start_payload(host: Host, means: Means, row: Dict[str, Any], limit_s: float) -> None:
    """Run our static program in an image that has no shell: whether the image itself can be used."""
    nonce = host.nonce()
    name = "images.payload." + row["ref"]
    run = _run(means, means.own_launch, row, [str(means.payload), nonce])
    outcome = host.run_each({name: run}, limit_s)[name]
    row["evidence"]["tried"] = ["/bin/sh of the image: there is none", "a static program of the probe's own"]
    if outcome.succeeded and payload_run.parse(outcome.stdout, nonce).complete:
        message = "the image has no /bin/sh; a static program of the probe's own ran in it"
        row.update(status="ok", reason=None, message=message, exec_s=round(outcome.duration_s, 4))


def _look_again(host: Host, means: Means, row: Dict[str, Any]) -> None:
    """Whether an image that did not start is still there: it may have vanished since it was looked at."""
    if row["path"] is None:
        return
    name = "images.again." + row["path"]
    result = host.attempt_all(LOOK_LIMIT_S, {name: [look, row["path"], means.mount_dir]})[name]
    error = (result.value or {}).get("errno")
    if result.state == "timeout":
        row.update(status="timeout", reason="image_unreadable", message="it no longer answers")
    elif error:
        on_cvmfs = row["path"].startswith(means.mount_dir + "/")
        row.update(reason=reason_of_errno(error, on_cvmfs), message="gone meanwhile: " + os.strerror(error))


def reason_of_errno(error: Optional[int], on_cvmfs: bool) -> str:
    """Why an image cannot be looked at."""
    if error in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return "image_missing"
    if error in (errno.ENOTCONN, errno.ECONNABORTED) and on_cvmfs:
        return "cvmfs_disconnected"
    return "image_unreadable"


def lacks_shell(outcome: Outcome) -> bool:
    """Whether a start failed for want of the image's /bin/sh."""
    return not outcome.succeeded and any(_NO_SHELL.search(line) for line in decisive_lines(outcome.stderr))


def _take(row: Dict[str, Any], judged: Dict[str, Any]) -> None:
    judged["evidence"] = dict(row["evidence"], **judged["evidence"])
    row.update(judged)


def judge(outcome: Outcome, nonce: str) -> Dict[str, Any]:
    """What the start of an image tells: the changed fields of its row."""
    answer = parse_answer(outcome.stdout, nonce)
    row: Dict[str, Any] = {key: answer[key] for key in ("os", "libc", "arch")}
    row["exec_s"] = round(outcome.duration_s, 4)
    row["evidence"] = {"exit_code": outcome.exit_code, "stderr": clip_value(decisive_lines(outcome.stderr))}
    if answer["started"]:
        return dict(row, status="ok", reason=None, message=None)
    if outcome.state == "timeout":
        message = "no answer within {:.0f} s".format(outcome.duration_s)
        return dict(row, status="timeout", reason="runtime_timeout", message=message)
    match = stderr_rules.match(outcome.stderr, {})
    lines = decisive_lines(outcome.stderr, 1)
    message = match.line if match else lines[0] if lines else "exit code {}".format(outcome.exit_code)
    reason = match.reason if match else "image_start_failed"
    # Another image started from the same folder. What a setuid starter cannot enter is this one: a user's own FUSE mount,
    # for example, is closed to root (setuid Apptainer 1.4.5, run).
    return dict(row, status="fail", reason={"folder_unusable": "image_unreadable"}.get(reason, reason), message=message)
