"""Scratch space: what the candidate folders offer, and the work folder of this run in the first good one.

Everything here runs in children: a temporary folder on a hung file system is a case of the field.
"""

import errno
import os
from typing import Any, Dict, Iterator, List, Optional

from probe import minimal_image
from probe.checks import Check, check
from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings

LIMIT_S = 4.0
# Enough to meet a quota or a full disk, little enough for a slow one.
TRIAL_BYTES = 256 * 1024
# Memory, where nothing else can be written: the container test is worth more than a tidy place.
LAST_RESORT = "/dev/shm"  # noqa: S108  a folder of our own is made in it
FULL_BYTES = 16 * 1024 * 1024

FILESYSTEMS = {
    0xEF53: "ext", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x01021994: "tmpfs", 0x6969: "nfs", 0x0BD00BD0: "lustre",
    0x47504653: "gpfs", 0x794C7630: "overlay", 0x65735546: "fuse", 0x2FC12FC1: "zfs", 0x00C36400: "ceph",
    0x19830326: "fhgfs", 0xAAD7AAEA: "panfs", 0x5346414F: "afs", 0xFF534D42: "cifs", 0x517B: "smb",
}  # fmt: skip


def candidates(settings: Settings, environment: Dict[str, str], folder: Optional[str]) -> Dict[str, str]:
    """Folders that jobs may use for scratch, by path: what named them. In the order of preference."""
    named = [
        ("GLIDEIN_LOCAL_TMP_DIR", settings.configured("GLIDEIN_LOCAL_TMP_DIR")),
        ("TMP_DIR", settings.configured("TMP_DIR")),
        ("TMPDIR", environment.get("TMPDIR")),
        ("working folder", folder),
        ("/tmp", "/tmp"),  # noqa: S108  the folder itself is what is looked at
        ("/var/tmp", "/var/tmp"),  # noqa: S108  likewise
    ]
    paths: Dict[str, str] = {}
    for name, path in named:
        if path and path.startswith("/") and path not in paths:
            paths[path] = name
    return paths


def measure(path: str) -> Dict[str, Any]:
    """Space, flags and a real write in one folder. May hang."""
    space = os.statvfs(path)
    return {
        "filesystem": _filesystem(path),
        "free_bytes": space.f_bavail * space.f_frsize,
        # File systems that make inodes as they need them say 0 of 0.
        "free_inodes": space.f_favail if space.f_files else None,
        "noexec": bool(space.f_flag & os.ST_NOEXEC),
        "nosuid": bool(space.f_flag & os.ST_NOSUID),
        "errno": _try_write(path),
    }


def _try_write(path: str) -> int:
    # Not by tempfile: importing it costs each child more than the write.
    trial = os.path.join(path, ".singularity-probe-" + os.urandom(8).hex())
    try:
        descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        return error.errno or errno.EIO
    try:
        written = os.write(descriptor, b"\0" * TRIAL_BYTES)
        os.close(descriptor)  # NFS tells of a full quota here
        return 0 if written == TRIAL_BYTES else errno.ENOSPC
    except OSError as error:
        return error.errno or errno.EIO
    finally:
        os.unlink(trial)


def _filesystem(path: str) -> Optional[str]:
    """The file system's name by the magic number of statfs(2), which Python has no call for."""
    import ctypes

    buffer = ctypes.create_string_buffer(256)
    try:
        if ctypes.CDLL(None).statfs(os.fsencode(path), buffer) != 0:
            return None
    except (OSError, AttributeError):
        return None
    magic = int.from_bytes(buffer.raw[:8], "little") & 0xFFFFFFFF
    return FILESYSTEMS.get(magic, hex(magic))


def prepare(folder: str, arch: str) -> Dict[str, Any]:
    """Make this run's work folder with our own image in it, as a folder and as SIF files. May hang."""
    work_folder = os.path.join(folder, "singularity-probe-" + os.urandom(8).hex())
    os.mkdir(work_folder, 0o700)
    made: Dict[str, Any] = {"work_folder": work_folder, "sandbox": None, "sif": None, "sif_zstd": None}
    if minimal_image.payload(arch) is None:
        return made
    made["sandbox"] = os.path.join(work_folder, "image")
    minimal_image.create_sandbox(made["sandbox"], arch)
    for key, compression in (("sif", "gzip"), ("sif_zstd", "zstd")):
        content = minimal_image.sif(arch, compression)
        if content is not None:
            made[key] = os.path.join(work_folder, compression + ".sif")
            with open(made[key], "wb") as stream:
                stream.write(content)
    return made


def absent_traces(home: Optional[str]) -> List[str]:
    """The folders that Singularity makes in a home when it starts anything, where they are not there yet. May hang."""
    paths = [os.path.join(home, name) for name in (".apptainer", ".singularity")] if home else []
    return [path for path in paths if not os.path.lexists(path)]


def remove(work_folder: str, traces: List[str]) -> None:
    """Remove a work folder, what a killed container start left in it, and empty folders that were not there. May hang."""
    import shutil

    shutil.rmtree(work_folder, ignore_errors=True)
    for path in traces:
        try:
            os.rmdir(path)
        except OSError:  # not made after all, or in use by somebody else meanwhile
            pass


def detect(host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``host.scratch`` and the work folder. Sections of the report that need one take it from here."""
    facts = host.facts()
    paths = candidates(settings, host.environment, facts["folder"])
    results = host.attempt_all(LIMIT_S, {"scratch." + path: [measure, path] for path in paths})
    rows, checks, good = [], [], []
    for path, name in paths.items():
        result = results["scratch." + path]
        found = result.value or {}
        rows.append(
            {
                "path": path,
                "filesystem": found.get("filesystem"),
                "free_bytes": found.get("free_bytes"),
                "free_inodes": found.get("free_inodes"),
                "writable": found["errno"] == 0 if found else None if result.state == "timeout" else False,
                "noexec": found.get("noexec"),
                "nosuid": found.get("nosuid"),
                "used_for": name,
            }
        )
        checks.append(judge(path, name, result.state, found, result.errno))
        if found and found["errno"] == 0:
            good.append((found["noexec"], path))
    traces = host.attempt("scratch.traces", LIMIT_S, absent_traces, host.environment.get("HOME")).value or []
    prepared = _prepare_first(
        host, [path for _, path in sorted(good, key=lambda pair: pair[0])] + [LAST_RESORT], facts["arch"]
    )
    yield {"data": dict(prepared, scratch=rows, traces=traces), "checks": checks}


def _prepare_first(host: Host, folders: List[str], arch: str) -> Dict[str, Any]:
    for folder in folders:
        result = host.attempt("scratch.prepare", LIMIT_S, prepare, folder, arch)
        if result.state == "done":
            return dict(result.value)
    return {"work_folder": None, "sandbox": None, "sif": None, "sif_zstd": None}


REASONS = {
    errno.ENOSPC: "scratch_full",
    errno.EDQUOT: "scratch_full",
    errno.EROFS: "scratch_read_only",
    errno.EACCES: "scratch_read_only",
    errno.EPERM: "scratch_read_only",
}


def judge(path: str, name: str, state: str, found: Dict[str, Any], error: Optional[int]) -> Check:
    """The check of one folder."""
    identifier = "host.scratch." + path
    if state == "timeout":
        return check(identifier, "timeout", "scratch_unusable", "{} ({}) does not answer".format(path, name))
    if not found:
        message = "{} ({}): {}".format(path, name, os.strerror(error) if error else "cannot be looked at")
        return check(identifier, "fail", "scratch_unusable", message, errno=error)
    facts = {"free_bytes": found["free_bytes"], "free_inodes": found["free_inodes"], "filesystem": found["filesystem"]}
    if found["errno"]:
        reason = REASONS.get(found["errno"], "scratch_unusable")
        if found["errno"] == errno.ENOSPC and found["free_inodes"] == 0:
            reason = "scratch_out_of_inodes"
        message = "writing in {} ({}): {}".format(path, name, os.strerror(found["errno"]))
        return check(identifier, "fail", reason, message, errno=found["errno"], **facts)
    if found["free_inodes"] == 0:
        return check(
            identifier, "fail", "scratch_out_of_inodes", "{} ({}) has no inodes left".format(path, name), **facts
        )
    if found["free_bytes"] < FULL_BYTES:
        return check(identifier, "fail", "scratch_full", "{} ({}) is almost full".format(path, name), **facts)
    if found["noexec"]:
        return check(identifier, "fail", "scratch_noexec", "{} ({}) is mounted noexec".format(path, name), **facts)
    return check(identifier, "ok", None, "{} ({})".format(path, name), **facts)


def unknown(_status: str, _reason: str, _message: str) -> Dict[str, Any]:
    """What other detectors get where this one never answered."""
    return {"scratch": [], "traces": [], "work_folder": None, "sandbox": None, "sif": None, "sif_zstd": None}
