"""Scratch space and home, and what is bound into containers: what the folders offer that jobs use.

Everything here runs in children: a temporary folder on a hung file system is a case of the field. The binds are those of
GlideinWMS, singularity_lib.sh: singularity_get_binds, with what singularity_exec_simple (its own test) and
singularity_prepare_and_invoke (jobs) ask it for. It looks at each source, and leaves out those that are not there.
"""

import errno
import os
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from probe.checks import Check, check
from probe.detectors import work_folder
from probe.engine import Findings
from probe.host import Host, cut_short
from probe.mounts import holding, is_local, is_mounted_by_touch, parse_mountinfo
from probe.settings import Settings
from probe.workers import Result

LIMIT_S = 4.0
# Where an automounter has something to mount first: a home, or scratch space.
MOUNT_LIMIT_S = 10.0
WORK = "scratch.work"
# Enough to meet a quota or a full disk, little enough for a slow one.
TRIAL_BYTES = 256 * 1024
FULL_BYTES = 16 * 1024 * 1024

FILESYSTEMS = {
    0xEF53: "ext", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x01021994: "tmpfs", 0x6969: "nfs", 0x0BD00BD0: "lustre",
    0x47504653: "gpfs", 0x794C7630: "overlay", 0x65735546: "fuse", 0x2FC12FC1: "zfs", 0x00C36400: "ceph",
    0x19830326: "fhgfs", 0xAAD7AAEA: "panfs", 0x5346414F: "afs", 0xFF534D42: "cifs", 0x517B: "smb",
}  # fmt: skip

DEFAULT_BINDS = ["/etc/hosts", "/etc/localtime"]
# For jobs alone, not for GlideinWMS's own test (glideinWMS issue 250).
STORAGE = ["/hadoop", "/ceph", "/hdfs", "/lizard", "/mnt/hadoop", "/mnt/hdfs"]


def requested_binds(settings: Settings) -> List[str]:
    """The binds of the glidein's own test, duplicates left out. Of several on one place Singularity takes the first."""
    mount_dir = settings.cvmfs_mount_dir
    binds = []
    for name in ("GLIDEIN_SINGULARITY_BINDPATH", "GLIDEIN_SINGULARITY_BINDPATH_DEFAULT"):
        binds += (settings.configured(name) or "").split(",")
    binds += [mount_dir + ":/cvmfs" if mount_dir and mount_dir != "/cvmfs" else "/cvmfs", *DEFAULT_BINDS]
    return [bind for number, bind in enumerate(binds) if bind and bind not in binds[:number]]


def source_of(bind: str) -> str:
    """The host's side of a bind."""
    return bind.split(":", 1)[0]


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
        rest = TRIAL_BYTES
        while rest:  # a limit shows as a short write first, and by its errno at the next
            rest -= os.write(descriptor, b"\0" * rest)
        os.close(descriptor)  # NFS tells of a full quota here
        return 0
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


def look_at_home(home: str) -> Dict[str, Any]:
    """Whether a home can be written, and which folders Singularity will leave in it; raises OSError. May hang."""
    os.stat(os.path.join(home, "."))
    traces = [os.path.join(home, name) for name in (".apptainer", ".singularity")]
    return {
        "writable": os.access(home, os.W_OK | os.X_OK),
        "traces": [path for path in traces if not os.path.lexists(path)],
    }


def visit(path: str, as_scratch: bool, as_home: bool, as_bind: bool = False) -> Dict[str, Any]:
    """Look at a path in its roles, each with its own errno. May hang."""
    roles = (("scratch", as_scratch, measure), ("home", as_home, look_at_home), ("bind", as_bind, os.path.exists))
    found: Dict[str, Any] = {}
    for role, wanted, function in roles:
        if wanted:
            try:
                found[role] = function(path)
            except OSError as error:
                found[role] = {"failed": error.errno or errno.EIO}
    return found


def home_of(environment: Dict[str, str], uid: int) -> Optional[str]:
    """The home that Singularity takes: HOME, or else that of the passwd entry. May hang: a directory service answers."""
    if environment.get("HOME"):
        return environment["HOME"]
    import pwd

    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return None


def detect(host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``host.scratch``, what is known of the home and of the glidein's binds, and which folders are good or hang.

    ``binds``: those of the glidein's that are there, or that nothing is known of; ``storage``: those of jobs alone that are.
    """
    facts = host.facts()
    paths = candidates(settings, host.environment, facts["folder"])
    home = host.environment.get("HOME")
    if not home:
        home = host.attempt("scratch.passwd", LIMIT_S, home_of, host.environment, facts["uid"]).value
    wanted = requested_binds(settings)
    results, work, wanted_s = _visit_all(host, paths, home, [*map(source_of, wanted), *STORAGE])
    states = {path: "late" if _is_late(result, wanted_s) else result.state for path, result in results.items()}
    hung = [path for path, state in states.items() if state == "timeout"]
    rows, checks, good = [], [], []
    for path, name in paths.items():
        result = results[path]
        found = (result.value or {}).get("scratch", {})
        rows.append(_row(path, name, result.state, found))
        checks.append(judge(path, name, states[path], found, found.get("failed") or result.errno))
        if found.get("errno") == 0:
            good.append((found["noexec"], path))
    sources = [path for path in hung if path in map(source_of, wanted)]
    for path in [*sources, *(path for path in hung if path in STORAGE)]:
        checks.append(check("host.binds." + path, "timeout", "bind_hung", path + " does not answer"))
    at_home = results[home] if home else None
    known_home = (at_home.value or {}).get("home", {}) if at_home else {}
    data = {
        "scratch": rows,
        "good": [path for _, path in sorted(good, key=lambda pair: pair[0])],
        "folder_hung": facts["folder"] in hung,
        "bind_hung": next(iter(sources), None),
        "binds": [bind for bind in wanted if _is_there(results[source_of(bind)]) is not False],
        "storage": [path for path in STORAGE if _is_there(results[path])],
        "home_hung": home in hung,
        "home_errno": known_home.get("failed"),
        "home_writable": known_home.get("writable"),
        "traces": known_home.get("traces", []),
        "refusal": next((row["reason"] for row in checks if row["status"] != "ok"), None),
        "work": work,
    }
    yield {"data": data, "checks": checks}


def _is_late(result: Result, wanted_s: float) -> bool:
    """Whether it may have answered if the deadline had left more time."""
    return result.state == "timeout" and cut_short(result, wanted_s)


def _is_there(result: Result) -> Optional[bool]:
    return (result.value or {}).get("bind")


def local_ones(host: Host, paths: Iterable[str]) -> List[str]:
    """Those of the folders that lie on this machine's own file systems."""
    table = parse_mountinfo(host.read_or_none("/proc/self/mountinfo") or "")
    return [path for path in paths if is_local(table, path)]


def _visit_all(
    host: Host, paths: Dict[str, str], home: Optional[str], sources: List[str]
) -> Tuple[Dict[str, Result], Any, float]:
    """Visit each path once; of those on one foreign mount the others only after the first answered.

    So a hung mount costs one child, however many of our paths lie on it. The child that has visited the local ones
    makes the work folder as well (the second value; None where it could not): the verdict waits for that. The third is the
    limit that a visit would have with more time.
    """
    table = parse_mountinfo(host.read_or_none("/proc/self/mountinfo") or "")
    everything = list(dict.fromkeys([*paths, *([home] if home else []), *sources]))
    first: List[str] = []
    later: List[Tuple[str, str]] = []
    leaders: Dict[str, str] = {}
    for path in everything:
        point = (holding(table, path) or {}).get("point", "")
        leader = path if is_local(table, path) else leaders.setdefault(point, path)
        if leader == path:
            first.append(path)
        else:
            later.append((leader, path))
    wanted_s = MOUNT_LIMIT_S if any(is_mounted_by_touch(table, path) for path in everything) else LIMIT_S
    limit_s = host.limit(wanted_s, 0.3)
    made: Dict[str, Any] = {}

    def visits(names: List[str]) -> Dict[str, Result]:
        calls: Dict[str, List[Any]] = {
            "scratch." + path: [visit, path, path in paths, path == home, path in sources] for path in names
        }
        local = {"scratch." + path: calls["scratch." + path] for path in names if is_local(table, path)}
        if local and WORK not in made:
            folders = [path for path in paths if is_local(table, path)]
            local[WORK] = [work_folder.prepare_first, folders, host.run_id, host.facts()["arch"]]
        found = host.attempt_together(limit_s, local)
        made.update({name: found.pop(name).value for name in list(found) if name == WORK})
        found.update(host.attempt_all(limit_s, {name: call for name, call in calls.items() if name not in local}))
        return {name[len("scratch.") :]: result for name, result in found.items()}

    results = visits(first)
    results.update({path: results[leader] for leader, path in later if results[leader].state == "timeout"})
    results.update(visits([path for _, path in later if path not in results]))
    return results, made.get(WORK), wanted_s


def _row(path: str, name: str, state: str, found: Dict[str, Any]) -> Dict[str, Any]:
    # A child that was lost told nothing: that is not a no.
    told = state == "done" and bool(found)
    writable = found.get("errno") == 0 if told else None
    names = ("filesystem", "free_bytes", "free_inodes", "noexec", "nosuid")
    return dict({key: found.get(key) for key in names}, path=path, writable=writable, used_for=name)


REASONS = {
    errno.ENOSPC: "scratch_full",
    errno.EDQUOT: "scratch_full",
    errno.EFBIG: "resources_exhausted",
    errno.EROFS: "scratch_read_only",
    errno.EACCES: "scratch_read_only",
    errno.EPERM: "scratch_read_only",
}


def judge(path: str, name: str, state: str, found: Dict[str, Any], error: Optional[int]) -> Check:
    """The check of one folder; ``state`` is a Result's, or "late" where the deadline left too little time."""
    identifier = "host.scratch." + path
    if state == "late":
        return check(identifier, "unknown", "deadline_reached", "{} ({}) was given no time".format(path, name))
    if state == "timeout":
        return check(identifier, "timeout", "scratch_unusable", "{} ({}) does not answer".format(path, name))
    if "errno" not in found:
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
    return {
        "scratch": [], "good": [], "folder_hung": False, "home_hung": False, "home_errno": None, "home_writable": None,
        "traces": [], "refusal": None, "work": None, "bind_hung": None, "binds": [], "storage": [],
    }  # fmt: skip
