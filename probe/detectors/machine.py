"""The machine itself: CPU, memory, system, kernel, C library, control groups, outer container, identity, limits, security."""

import os
import re
from typing import Any, Dict, Iterator, List, Optional

from probe.checks import check
from probe.engine import Findings
from probe.host import Host
from probe.mounts import covering_proc, parse_mountinfo
from probe.settings import Settings

# x86-64 psABI, "micro-architecture levels"; /proc/cpuinfo says abm for lzcnt and pni for SSE3.
MICROARCH_FLAGS = [
    ("x86_64-v2", {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    ("x86_64-v3", {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    ("x86_64-v4", {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
]
FLAGS_OF_INTEREST = {"cx16", "sse4_2", "avx", "avx2", "fma", "f16c", "bmi2", "avx512f", "avx512vl", "amx_tile", "aes"} | {
    "hypervisor", "sve", "sve2", "asimd", "atomics"
}  # fmt: skip

# How an outer container shows: a file that its engine leaves, or a word in the environment of process 1's children.
CONTAINER_FILES = [
    ("/.dockerenv", "docker"),
    ("/run/.containerenv", "podman"),
    ("/.singularity.d", "singularity"),
    ("/var/run/secrets/kubernetes.io", "kubernetes"),
]
CONTAINER_VARIABLES = [
    ("KUBERNETES_SERVICE_HOST", "kubernetes"),
    ("APPTAINER_CONTAINER", "singularity"),
    ("SINGULARITY_CONTAINER", "singularity"),
]
CONTAINER_CGROUPS = [("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc")]

LIBC_LIMIT_S = 2.0
USER_LIMIT_S = 4.0
# Keeps our hash of the machine id apart from those that other products publish.
ID_SALT = "singularity-compatibility-probe node id 1:"


def parse_cpuinfo(text: str) -> Dict[str, Any]:
    """/proc/cpuinfo: model and flags of the first processor (x86 "flags", Arm "Features")."""
    first = text.split("\n\n", 1)[0]
    fields = dict(re.findall(r"^([^:\n]+?)\s*:[ \t]*(.*)$", first, re.MULTILINE))
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return {"model": fields.get("model name") or None, "flags": set(flags)}


def microarch(arch: str, flags: "set[str]") -> Optional[str]:
    """The x86-64 level that the flags reach; None on other architectures or when no flag is known."""
    if arch != "x86_64" or not flags:
        return None
    level = "x86_64-v1"
    for name, needed in MICROARCH_FLAGS:
        if not needed <= flags:
            break
        level = name
    return level


def parse_os_release(text: str) -> Dict[str, Optional[str]]:
    """os-release(5): id, version_id and name, quotes removed."""
    fields = {}
    for name, value in re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE):
        fields[name] = value.strip().strip("\"'")[:256]
    return {
        "id": fields.get("ID") or None,
        "version_id": fields.get("VERSION_ID") or None,
        "name": fields.get("PRETTY_NAME") or fields.get("NAME") or None,
    }


def parse_kernel_version(release: str) -> Optional[List[int]]:
    """The leading numbers of a kernel release, three at most: "3.10.0-1160.el7" is [3, 10, 0]."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", release)
    return [int(number) for number in match.groups() if number is not None] if match else None


def parse_status(text: str) -> Dict[str, str]:
    """/proc/self/status as a dict."""
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.MULTILINE))


def parse_meminfo(text: str) -> Optional[int]:
    """MemTotal of /proc/meminfo in bytes."""
    match = re.search(r"^MemTotal:\s*(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def container_kind(host: Host, cgroup: str) -> Optional[str]:
    """The outer container that we run in, None when there is no sign of one."""
    for name, kind in CONTAINER_VARIABLES:
        if host.environment.get(name):
            return kind
    for path, kind in CONTAINER_FILES:
        if host.exists(path):
            return kind
    for word, kind in CONTAINER_CGROUPS:
        # As the beginning of a folder's name: HTCondor puts host names into its own.
        if re.search("[/:]" + word + r"\b", cgroup):
            return kind
    return None


def _cgroup(host: Host, mounts: List[Dict[str, str]]) -> Dict[str, Any]:
    types = [mount["type"] for mount in mounts if mount["type"] in ("cgroup", "cgroup2")]
    controllers = host.read_or_none("/sys/fs/cgroup/cgroup.controllers")
    version = None if not types else 1 if "cgroup" in types else 2
    own = re.findall(r"^0::(.*)$", host.read_or_none("/proc/self/cgroup") or "", re.MULTILINE)
    writable = None
    if version == 2 and own:
        writable = host.writable("/sys/fs/cgroup" + own[0] + "/cgroup.procs")
    return {
        "version": version,
        "hybrid": "cgroup" in types and "cgroup2" in types if types else None,
        "controllers": None if controllers is None else controllers.split(),
        "writable": writable,
    }


def _machine_id(host: Host, facts: Dict[str, Any], container: Optional[str]) -> Optional[str]:
    """A salted hash that tells nodes apart.

    In a container the machine id is the image's, the same on every node: there the kernel's boot id names the node.
    Elsewhere cloned virtual machines share machine ids, so the host name belongs to it.
    """
    import hashlib

    boot_id = (host.read_or_none("/proc/sys/kernel/random/boot_id") or "").strip()
    machine_id = (host.read_or_none("/etc/machine-id") or "").strip()
    if container is None and len(machine_id) == 32:
        seed = machine_id + facts["hostname"]
    elif boot_id:
        seed = boot_id
    else:
        return None
    return hashlib.sha256((ID_SALT + seed).encode()).hexdigest()[:32]


def read_user(uid: int) -> Optional[str]:
    """The passwd name of a user id, None when there is none. May hang: a directory service answers."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _libc(host: Host) -> Optional[str]:
    known = host.libc()
    if known:
        return known
    return "musl" if any(name.startswith("ld-musl-") for name in host.list("/lib")) else None


def _selinux(host: Host) -> Optional[str]:
    """enforcing, permissive, disabled; None where it is there and does not tell."""
    try:
        return {"0": "permissive", "1": "enforcing"}.get(host.read("/sys/fs/selinux/enforce").strip())
    except FileNotFoundError:
        return "disabled"
    except OSError:
        return None


def _security(host: Host, status: Dict[str, str], proc: Dict[str, Any]) -> Dict[str, Any]:
    apparmor = host.read_or_none("/proc/self/attr/apparmor/current") or host.read_or_none("/proc/self/attr/current")
    yama = host.read_or_none("/proc/sys/kernel/yama/ptrace_scope")
    return {
        "seccomp": {"0": "disabled", "1": "strict", "2": "filter"}.get(status.get("Seccomp", "")),
        "no_new_privs": {"0": False, "1": True}.get(status.get("NoNewPrivs", "")),
        "apparmor": (apparmor or "").strip("\0\n ") or None,
        "selinux": _selinux(host),
        "capabilities_effective": status.get("CapEff"),
        "capabilities_bounding": status.get("CapBnd"),
        "uid_map": " ; ".join((host.read_or_none("/proc/self/uid_map") or "").split("\n")[:4]).strip(" ;") or None,
        "proc_hidepid": proc["hidepid"],
        "proc_masked": proc["masked"],
        "yama_ptrace_scope": int(yama) if yama and yama.strip().isdecimal() else None,
    }


def _limit(value: int) -> Any:
    return "unlimited" if value < 0 or value >= 2**63 - 1 else value


def detect(host: Host, _settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``host``, without scratch space, and checks on identity and /proc."""
    facts = host.facts()
    user = host.attempt("machine.user", host.limit(USER_LIMIT_S, 0.3), read_user, facts["uid"])
    scratch = earlier.get("scratch") or {}
    mounts = parse_mountinfo(host.read_or_none("/proc/self/mountinfo") or "")
    proc = covering_proc(mounts)
    cpu = parse_cpuinfo(host.read_or_none("/proc/cpuinfo") or "")
    status = parse_status(host.read_or_none("/proc/self/status") or "")
    container = container_kind(host, host.read_or_none("/proc/self/cgroup") or "")
    os_release = host.read_or_none("/etc/os-release") or host.read_or_none("/usr/lib/os-release") or ""
    data = {
        "hostname": facts["hostname"],
        "machine_id": _machine_id(host, facts, container),
        "arch": facts["arch"],
        "microarch": microarch(facts["arch"], cpu["flags"]),
        "cpu_model": cpu["model"],
        "cpu_flags": sorted(cpu["flags"] & FLAGS_OF_INTEREST),
        "cores": facts["cores"],
        "cores_usable": facts["cores_usable"],
        "memory_bytes": parse_meminfo(host.read_or_none("/proc/meminfo") or ""),
        "os": parse_os_release(os_release),
        "kernel": {"release": facts["release"], "version": parse_kernel_version(facts["release"])},
        "libc": _libc(host),
        "cgroup": _cgroup(host, mounts),
        "container": {"kind": container},
        "identity": {
            "uid": facts["uid"],
            "gid": facts["gid"],
            "user": user.value,
            "home": host.environment.get("HOME"),
            "home_writable": False if scratch.get("home_errno") else scratch.get("home_writable"),
        },
        "limits": {name: _limit(value) for name, value in facts["limits"].items()},
        "scratch": [],
        "security": _security(host, status, proc),
    }
    yield {
        "data": data,
        "checks": [_user_check(user, facts["uid"]), _home_check(scratch, host.environment.get("HOME"))],
    }


def _user_check(user: Any, uid: int) -> Dict[str, Any]:
    if user.state == "timeout":
        message = "user id {}: no answer within {:.0f} s".format(uid, user.duration_s)
        return check("host.user", "timeout", "directory_service_hung", user.detail or message)
    if user.state != "done":
        return check("host.user", "unknown", user.lost_reason, user.detail or None)
    if user.value is None:
        return check("host.user", "fail", "user_unknown", "user id {} has no passwd entry".format(uid), user.duration_s)
    return check("host.user", "ok", None, user.value, user.duration_s)


def _home_check(scratch: Dict[str, Any], path: Optional[str]) -> Dict[str, Any]:
    """The check of HOME, from what the scratch detector saw when it went there."""
    if not path:
        return check("host.home", "fail", "home_unusable", "HOME is not set")
    if scratch.get("home_hung"):
        return check("host.home", "timeout", "home_unusable", "{} does not answer".format(path))
    error = scratch.get("home_errno")
    if error:
        return check("host.home", "fail", "home_unusable", "{}: {}".format(path, os.strerror(error)), errno=error)
    if scratch.get("home_writable") is None:
        return check("host.home", "unknown", "prerequisite_failed", "{} was not looked at".format(path))
    return check("host.home", "ok", None, path if scratch["home_writable"] else path + " (read-only)")


def unknown(_status: str, _reason: str, _message: str) -> Dict[str, Any]:
    """The report's ``host`` where this detector never answered."""
    names = "hostname machine_id arch microarch cpu_model cores cores_usable memory_bytes libc".split()
    nothing: Dict[str, Any] = dict.fromkeys(names)
    return dict(
        nothing,
        cpu_flags=[],
        os={"id": None, "version_id": None, "name": None},
        kernel={"release": None, "version": None},
        cgroup={"version": None, "hybrid": None, "controllers": None, "writable": None},
        container={"kind": None},
        identity={"uid": None, "gid": None, "user": None, "home": None, "home_writable": None},
        limits={},
        scratch=[],
        security=dict.fromkeys(
            "seccomp no_new_privs apparmor selinux capabilities_effective capabilities_bounding uid_map proc_hidepid"
            " proc_masked yama_ptrace_scope".split()
        ),
    )
