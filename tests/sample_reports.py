"""Schema-valid reports of typical nodes, for tests of everything behind the probe.

`sample_report()` is a healthy node that runs Apptainer unprivileged; `sample_report("privileged")` is another of CASES.
Keyword arguments set single fields by their path, with `__` between the steps:
`sample_report(glidein__entry="E2", host__machine_id=None)`. Every call returns a fresh document with a report_id of
its own unless one is given: equal arguments give equal documents but for `report_id`.
"""

import copy
import uuid
from collections.abc import Callable
from typing import Any

Report = dict[str, Any]

FEATURES = (
    "sandbox",
    "sif",
    "sif_zstd",
    "registry",
    "pid_namespace",
    "ipc_namespace",
    "contain",
    "bind_new_path",
    "cvmfs_inside",
    "workdir",
    "fakeroot",
    "nv",
    "rocm",
)
APPTAINER = "/usr/bin/apptainer"


def check(check_id: str, status: str = "ok", reason: str | None = None, message: str | None = None) -> Report:
    """One check of the report. A status other than ok needs a reason."""
    return {
        "id": check_id,
        "status": status,
        "reason": reason,
        "message": message,
        "remedy": None,
        "duration_s": 0.1,
        "evidence": {},
    }


def namespace(status: str = "ok", reason: str | None = None, errno: int | None = None) -> Report:
    """One entry of `namespaces`."""
    return {
        "status": status,
        "reason": reason,
        "errno": errno,
        "limit": 15000,
        "message": None,
        "duration_s": 0.002,
        "steps": [{"step": "unshare", "errno": errno}],
    }


def runtime(path: str = APPTAINER, *, chosen: bool = True, setuid: bool = False) -> Report:
    """One candidate binary of `runtimes`."""
    return {
        "path": path,
        "found_by": "PATH",
        "product": "apptainer",
        "version": "1.4.5",
        "version_text": "apptainer version 1.4.5-2",
        "status": "ok",
        "reason": None,
        "setuid": {
            "installed": setuid,
            "usable": setuid,
            "reason": None if setuid else "setuid_not_installed",
            "path": "/usr/libexec/apptainer/bin/starter-suid" if setuid else None,
        },
        "configuration": {"path": "/etc/apptainer/apptainer.conf", "values": {"allow setuid": "yes"}},
        "chosen": chosen,
    }


def repository(name: str, status: str = "ok", reason: str | None = None) -> Report:
    """One repository of `cvmfs`."""
    answered = status == "ok"
    return {
        "name": name,
        "status": status,
        "reason": reason,
        "message": None if answered else f"{name}: no answer",
        "errno": None,
        "latency_s": 0.004 if answered else None,
        "warm_latency_s": 0.001 if answered else None,
        "revision": 31415 if answered else None,
        "root_hash": "0123456789abcdef0123456789abcdef01234567" if answered else None,
        "nioerr": 0 if answered else None,
        "last_ioerr_age_s": None,
        "host": "http://stratum-one.example.org/cvmfs/" + name if answered else None,
        "proxy": "DIRECT" if answered else None,
        "client_version": "2.12.0.0" if answered else None,
        "read": None,
    }


def gpu_device(uuid_text: str, model: str = "NVIDIA A40", memory_bytes: int = 48305799168) -> Report:
    """One device of `gpus`."""
    return {
        "vendor": "nvidia",
        "model": model,
        "uuid": uuid_text,
        "memory_bytes": memory_bytes,
        "compute_capability": "8.6",
        "mig": None,
    }


def image(ref: str, status: str = "ok", reason: str | None = None) -> Report:
    """One entry of `images`."""
    return {
        "ref": ref,
        "path": ref,
        "kind": "sandbox",
        "status": status,
        "reason": reason,
        "message": None,
        "exec_s": 0.21 if status == "ok" else None,
        "os": {"id": "rocky", "version_id": "9.4", "name": "Rocky Linux 9.4"} if status == "ok" else None,
        "libc": "glibc 2.34" if status == "ok" else None,
        "arch": "x86_64",
        "evidence": {},
    }


def _host() -> Report:
    return {
        "hostname": "wn001.example.org",
        "machine_id": "00000000000000000000000000000001",
        "arch": "x86_64",
        "microarch": "x86_64-v3",
        "cpu_model": "Example CPU 2.40GHz",
        "cpu_flags": ["avx2", "sse4_2"],
        "cores": 64,
        "cores_usable": 8,
        "memory_bytes": 270000000000,
        "os": {"id": "almalinux", "version_id": "9.4", "name": "AlmaLinux 9.4"},
        "kernel": {"release": "5.14.0-427.el9.x86_64", "version": [5, 14, 0]},
        "libc": "glibc 2.34",
        "cgroup": {"version": 2, "hybrid": False, "controllers": ["cpu", "memory"], "writable": False},
        "container": {"kind": None},
        "identity": {"uid": 1001, "gid": 1001, "user": "glidein", "home": "/home/glidein", "home_writable": True},
        "limits": {"nofile": 1048576, "stack": "unlimited"},
        "scratch": [
            {
                "path": "/tmp",
                "filesystem": "xfs",
                "free_bytes": 200000000000,
                "free_inodes": 1000000,
                "writable": True,
                "noexec": False,
                "nosuid": False,
                "used_for": "TMPDIR",
            }
        ],
        "security": {
            "seccomp": "disabled",
            "no_new_privs": False,
            "apparmor": None,
            "selinux": "permissive",
            "capabilities_effective": "0000000000000000",
            "capabilities_bounding": "000001ffffffffff",
            "uid_map": "0 0 4294967295",
            "proc_hidepid": None,
            "proc_masked": [],
            "yama_ptrace_scope": 0,
        },
    }


def _singularity() -> Report:
    features = {name: check(f"singularity.features.{name}") for name in FEATURES}
    for name, reason in (("fakeroot", "newuidmap_missing"), ("nv", "gpu_none"), ("rocm", "gpu_none")):
        features[name] = check(f"singularity.features.{name}", "skipped", reason)
    features["registry"] = check("singularity.features.registry", "skipped", "network_unreachable")
    return {
        "usable": True,
        "reason": None,
        "message": None,
        "mode": "unprivileged",
        "path": APPTAINER,
        "version": "1.4.5",
        "product": "apptainer",
        "modes": {
            "privileged": check("singularity.modes.privileged", "fail", "setuid_not_installed"),
            "unprivileged": check("singularity.modes.unprivileged"),
        },
        "features": features,
        "command": APPTAINER + " exec --contain --ipc --pid IMAGE cat /proc/self/uid_map",
        "alternatives": [],
    }


def _healthy() -> Report:
    return {
        "schema_version": "1.0",
        "report_id": str(uuid.uuid4()),
        "created_at": "2026-11-20T12:00:00.250000Z",
        "duration_s": 1.5,
        "deadline_s": 60.0,
        "complete": True,
        "probe": {"version": "0.1.0", "python": "3.9.18", "trigger": "startup"},
        "glidein": {
            "factory": "factory.example.org",
            "entry": "Example_T2_CE1",
            "site": "Example-T2",
            "resource": "Example-T2-CE1",
            "frontend": "frontend",
            "group": "main",
            "schedd": "schedd1@factory.example.org",
            "cluster": "1234",
            "subcluster": "0",
            "gwms_version": "3.10.13",
        },
        "host": _host(),
        "namespaces": {
            **{name: namespace() for name in ("user", "mount", "pid", "ipc", "net")},
            "settings": {"user.max_user_namespaces": 15000},
        },
        "runtimes": [runtime()],
        "singularity": _singularity(),
        "cvmfs": {
            "mount_dir": "/cvmfs",
            "kind": "autofs",
            "client_version": "2.12.0.0",
            "repositories": [repository("singularity.opensciencegrid.org"), repository("oasis.opensciencegrid.org")],
        },
        "images": [image("/cvmfs/singularity.opensciencegrid.org/htc/rocky:9")],
        "gpus": {
            "status": "skipped",
            "reason": "gpu_none",
            "message": "no GPU on this node",
            "driver_version": None,
            "cuda_version": None,
            "visible": None,
            "devices": [],
            "driver_libraries_glibc": None,
            "container": check("gpus.container", "skipped", "gpu_none"),
        },
        "network": {"outbound": [], "proxies": [], "condor_file_transfer": ["http", "https"]},
        "credentials": [],
        "checks": [],
        "delivery": [],
    }


def _privileged(report: Report) -> None:
    report["runtimes"] = [runtime(setuid=True)]
    report["singularity"]["mode"] = "privileged"
    report["singularity"]["modes"]["privileged"] = check("singularity.modes.privileged")


def _pid_masked(report: Report) -> None:
    """A masked /proc: --pid fails, and without it everything works (seen in containers of Kubernetes)."""
    singularity = report["singularity"]
    report["host"]["container"]["kind"] = "kubernetes"
    report["host"]["security"]["proc_masked"] = ["/proc/keys"]
    singularity.update(usable=False, reason="proc_masked", message="can't mount proc filesystem to /proc", mode=None)
    singularity["modes"]["unprivileged"] = check("singularity.modes.unprivileged", "fail", "proc_masked")
    singularity["features"]["pid_namespace"] = check("singularity.features.pid_namespace", "fail", "proc_masked")
    singularity["alternatives"] = [
        {
            "change": {"SINGULARITY_DISABLE_PID_NAMESPACES": "1"},
            "check": check("singularity.alternatives.without_pid"),
        },
        {
            "change": {"--userns": None},
            "check": check("singularity.alternatives.userns", "fail", "proc_masked"),
        },
    ]


def _no_runtime(report: Report) -> None:
    singularity = report["singularity"]
    report["runtimes"] = []
    singularity.update(usable=False, reason="runtime_not_found", message="no Singularity or Apptainer found")
    singularity.update(mode=None, path=None, version=None, product=None, command=None)
    for group in ("modes", "features"):
        for name in singularity[group]:
            singularity[group][name] = check(f"singularity.{group}.{name}", "skipped", "runtime_not_found")


def _no_userns(report: Report) -> None:
    singularity = report["singularity"]
    report["namespaces"]["user"] = namespace("fail", "userns_limit_reached", 28)
    singularity.update(usable=False, reason="userns_limit_reached", mode=None)
    singularity["modes"]["unprivileged"] = check("singularity.modes.unprivileged", "fail", "userns_limit_reached")
    for name in FEATURES:
        singularity["features"][name] = check(f"singularity.features.{name}", "fail", "userns_limit_reached")


def _cvmfs_hung(report: Report) -> None:
    report["cvmfs"]["repositories"][1] = repository("oasis.opensciencegrid.org", "timeout", "cvmfs_hung")


def _deadline(report: Report) -> None:
    """The deadline came before Singularity was tried: everything about it is unknown."""
    singularity = report["singularity"]
    report["complete"] = False
    singularity.update(usable=None, reason="deadline_reached", mode=None, version=None, product=None)
    for group in ("modes", "features"):
        for name in singularity[group]:
            singularity[group][name] = check(f"singularity.{group}.{name}", "unknown", "deadline_reached")


def _gpu(report: Report) -> None:
    report["gpus"].update(
        status="ok",
        reason=None,
        message=None,
        driver_version="550.54.15",
        cuda_version="12.4",
        visible=["0", "1"],
        devices=[gpu_device("GPU-00000000-0000-0000-0000-00000000000" + digit) for digit in "12"],
        driver_libraries_glibc="2.17",
        container=check("gpus.container"),
    )
    report["singularity"]["features"]["nv"] = check("singularity.features.nv")


CASES: dict[str, Callable[[Report], None]] = {
    "healthy": lambda _report: None,
    "privileged": _privileged,
    "pid_masked": _pid_masked,
    "no_runtime": _no_runtime,
    "no_userns": _no_userns,
    "cvmfs_hung": _cvmfs_hung,
    "deadline": _deadline,
    "gpu": _gpu,
}


def sample_report(case: str = "healthy", **changes: object) -> Report:
    """A fresh schema-valid report of one of CASES, with single fields changed (see the module's text)."""
    report = _healthy()
    CASES[case](report)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place: Any = report
        for step in parents:
            place = place[step]
        if last not in place:
            raise KeyError(f"no field {path} in a report")
        place[last] = copy.deepcopy(value)
    _flatten_checks(report)
    return report


def _flatten_checks(report: Report) -> None:
    """The flat list repeats what stands in its place, as the probe's report does."""
    singularity = report["singularity"]
    report["checks"] = [
        *copy.deepcopy(list(singularity["modes"].values())),
        *copy.deepcopy(list(singularity["features"].values())),
        *(copy.deepcopy(item["check"]) for item in singularity["alternatives"]),
        copy.deepcopy(report["gpus"]["container"]),
        *(
            check("cvmfs." + item["name"], item["status"], item["reason"], item["message"])
            for item in report["cvmfs"]["repositories"]
        ),
    ]
