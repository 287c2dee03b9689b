"""Images given by name: there, readable, and really starting, each with the glidein's own command line.

The image's own shell is run, not our payload: it needs the image's loader and C library, as a job does.
"""

import os
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

from probe import command_line, stderr_rules
from probe.checks import check, clip_value, decisive_lines
from probe.container_trials import existing_binds, outcome_of, run_command
from probe.detectors import cvmfs_mounts
from probe.detectors.cvmfs import repository_of
from probe.detectors.machine import parse_os_release
from probe.engine import Findings
from probe.host import Host
from probe.process import Outcome
from probe.settings import Settings

LOOK_LIMIT_S = 5.0
RUN_LIMIT_S = 20.0
AT_ONCE = 2

SIF_MAGIC = b"SIF_MAGIC"
# What asks the image about itself; every line of ours begins with the nonce.
SCRIPT = (
    'echo "$0 arch $(uname -m 2>/dev/null)"; echo "$0 libc $(getconf GNU_LIBC_VERSION 2>/dev/null)";'
    ' for f in /lib/ld-musl-*; do [ -e "$f" ] && echo "$0 musl $f"; done;'
    ' while read -r l; do echo "$0 uid_map $l"; done </proc/self/uid_map;'
    ' while read -r l; do echo "$0 os $l"; done </etc/os-release; echo "$0 end"'
)


def references(settings: Settings) -> List[str]:
    """The images to try: those given, then those of SINGULARITY_IMAGES_DICT (key:path,key:path)."""
    found = list(settings.images)
    for item in (settings.configured("SINGULARITY_IMAGES_DICT") or "").split(","):
        found.append(item.partition(":")[2].strip())
    return list(dict.fromkeys(reference for reference in found if reference))


def kind_of_reference(reference: str) -> str:
    """registry for URLs, path for the rest."""
    return "registry" if re.match(r"[a-z][a-z0-9+.-]*://", reference) else "path"


def place(reference: str, mount_dir: str) -> str:
    """The path of an image on this node: /cvmfs stands for wherever CVMFS is mounted."""
    if mount_dir != cvmfs_mounts.DEFAULT_DIR and reference.startswith(cvmfs_mounts.DEFAULT_DIR + "/"):
        return mount_dir + reference[len(cvmfs_mounts.DEFAULT_DIR) :]
    return reference


def look(path: str) -> Dict[str, Any]:
    """Kind and readability of an image. May hang. Returns real (links resolved), kind, or errno."""
    try:
        real = os.path.realpath(path)
        if os.path.isdir(real):
            os.listdir(real)
            return {"real": real, "kind": "sandbox"}
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK)
        try:
            head = os.read(descriptor, 64)
        finally:
            os.close(descriptor)
    except OSError as error:
        return {"errno": error.errno}
    return {"real": real, "kind": "sif" if SIF_MAGIC in head else None}


def parse_answer(stdout: str, nonce: str) -> Dict[str, Any]:
    """What the image's shell said: os, libc, arch, complete."""
    words = re.findall("^" + re.escape(nonce) + r" (\w+) ?(.*?)\r?$", stdout, re.MULTILINE)
    values: Dict[str, List[str]] = {}
    for key, value in words:
        values.setdefault(key, []).append(value)
    libc = (values.get("libc") or [""])[0] or ("musl" if "musl" in values else None)
    return {
        "complete": "end" in values,
        "arch": (values.get("arch") or [""])[0] or None,
        "libc": libc,
        "os": parse_os_release("\n".join(values["os"])) if "os" in values else None,
    }


def detect(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``images``. Nothing is tried where no image was asked for."""
    wanted = references(settings)
    if not wanted:
        yield {"data": [], "checks": []}
        return
    mount_dir = (settings.cvmfs_mount_dir or cvmfs_mounts.DEFAULT_DIR).rstrip("/")
    paths = {reference: place(reference, mount_dir) for reference in wanted if kind_of_reference(reference) == "path"}
    hung = {row["name"] for row in earlier["cvmfs"]["repositories"] if row["status"] == "timeout"}
    # What lies on a hung repository is not touched once more: it would be one more process that cannot be killed.
    reachable = [path for path in paths.values() if repository_of(path, mount_dir) not in hung]
    limit_s = host.limit(LOOK_LIMIT_S, 0.4)
    looked = host.attempt_all(limit_s, {"images.look." + path: [look, path] for path in reachable})
    rows: Dict[str, Dict[str, Any]] = {}
    for reference in wanted:
        rows[reference] = _before_a_run(reference, paths.get(reference), looked, mount_dir)
    _start_all(host, settings, earlier, rows)
    yield {"data": list(rows.values()), "checks": [_check(row) for row in rows.values()]}


def _row(
    reference: str, path: Optional[str], kind: Optional[str], status: str, reason: Optional[str], message: Optional[str]
) -> Dict[str, Any]:
    row: Dict[str, Any] = dict.fromkeys(("exec_s", "os", "libc", "arch"))
    row.update(ref=reference, path=path, kind=kind, status=status, reason=reason, message=message, evidence={})
    return row


def _before_a_run(reference: str, path: Optional[str], looked: Dict[str, Any], mount_dir: str) -> Dict[str, Any]:
    """What is known of an image without starting it; status "ok" means: to be started."""
    if path is None:
        return _row(reference, None, "registry", "skipped", "not_requested", "images are not pulled unless asked for")
    result = looked.get("images.look." + path)
    on_cvmfs = repository_of(path, mount_dir) is not None
    if result is None or result.state == "timeout":
        reason = "cvmfs_hung" if on_cvmfs else "image_unreadable"
        return _row(reference, path, None, "timeout", reason, "it does not answer")
    found = result.value or {}
    if "errno" in found or not found:
        return _row(reference, path, None, "fail", *_reason_of_errno(found.get("errno"), on_cvmfs))
    return _row(reference, path, found["kind"], "ok", None, None)


def _reason_of_errno(error: Optional[int], on_cvmfs: bool) -> Tuple[str, str]:
    import errno

    if error in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return "image_missing", os.strerror(error or 0)
    if error == errno.ENOTCONN and on_cvmfs:
        return "cvmfs_disconnected", os.strerror(error)
    return "image_unreadable", os.strerror(error) if error else "the child that looked died"


def _start_all(host: Host, settings: Settings, earlier: Dict[str, Any], rows: Dict[str, Dict[str, Any]]) -> None:
    ready = {reference: row for reference, row in rows.items() if row["status"] == "ok"}
    runtime = earlier["singularity"]
    if not runtime.get("usable"):
        for row in ready.values():
            row.update(status="unknown", reason="prerequisite_failed", message="no container starts on this node")
        return
    work_folder = earlier["work_folder"]["work_folder"]
    folder = str(host.facts()["folder"] or work_folder)
    launch = command_line.factory_launch(settings, runtime["path"], folder, existing_binds(host, settings))
    nonce = host.nonce()
    run_limit_s = host.limit(RUN_LIMIT_S, 0.5)
    changes = {name + "_TMPDIR": work_folder for name in ("APPTAINER", "SINGULARITY")}
    calls = {
        "images.run." + row["path"]: [
            run_command,
            host,
            launch.command(row["path"], ["/bin/sh", "-c", SCRIPT, nonce]),
            run_limit_s,
            changes,
        ]
        for row in ready.values()
    }
    results = host.attempt_all(run_limit_s + 1, calls, AT_ONCE)
    for row in ready.values():
        result = results["images.run." + row["path"]]
        row.update(judge(outcome_of(result), nonce))


def judge(outcome: Outcome, nonce: str) -> Dict[str, Any]:
    """What the start of an image tells: the changed fields of its row."""
    answer = parse_answer(outcome.stdout, nonce)
    row: Dict[str, Any] = {key: answer[key] for key in ("os", "libc", "arch")}
    row["exec_s"] = round(outcome.duration_s, 4)
    row["evidence"] = {"exit_code": outcome.exit_code, "stderr": clip_value(decisive_lines(outcome.stderr))}
    if outcome.succeeded and answer["complete"]:
        return dict(row, status="ok", reason=None, message=None)
    if outcome.state == "timeout":
        return dict(
            row,
            status="timeout",
            reason="runtime_timeout",
            message="no answer within {:.0f} s".format(outcome.duration_s),
        )
    match = stderr_rules.match(outcome.stderr, {})
    lines = decisive_lines(outcome.stderr, 1)
    message = match.line if match else lines[0] if lines else "exit code {}".format(outcome.exit_code)
    return dict(row, status="fail", reason=match.reason if match else "image_start_failed", message=message)


def _check(row: Dict[str, Any]) -> Dict[str, Any]:
    return check(
        "images." + row["ref"],
        row["status"],
        row["reason"],
        row["message"],
        row["exec_s"],
        path=row["path"],
        **row["evidence"],
    )


def unknown(_status: str, _reason: str, _message: str) -> List[Any]:
    """The report's ``images`` where this detector never answered."""
    return []
