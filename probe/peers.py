"""On request: the names that jobs and frontends match on by now, and that other scripts of the glidein publish.

What is not known is not published: a wrong "no" takes a node from jobs that it could run, a wrong "yes" breaks them.
Sources: GlideinWMS, singularity_setup.sh and cvmfs_helper_funcs.sh (types as there); for the OSPool's names the requirements
that its users write, and the field names in its collector.
"""

from typing import Any, Callable, Dict, Optional

from probe.classad import Expression, Value, answer, epoch
from probe.settings import Settings

# Name: (type, meaning); docs/attributes.md is checked against it. NAME stands for a repository's name.
NAMES = {
    "HAS_SINGULARITY": ("boolean", "gwms: the glidein's container start works"),
    "SINGULARITY_PATH, GWMS_SINGULARITY_PATH, CONTAINERSW_PATH, GWMS_CONTAINERSW_PATH": ("string", "gwms: the runtime"),
    "SINGULARITY_VERSION, GWMS_SINGULARITY_VERSION, CONTAINERSW_VERSION, GWMS_CONTAINERSW_VERSION": (
        "string", "gwms: its version, such as 1.4.5",
    ),
    "SINGULARITY_FULL_VERSION, CONTAINERSW_FULL_VERSION, GWMS_CONTAINERSW_FULL_VERSION": (
        "string", "gwms: what --version prints",
    ),
    "SINGULARITY_MODE, GWMS_SINGULARITY_MODE, CONTAINERSW_MODE, GWMS_CONTAINERSW_MODE": (
        "string", "gwms: privileged, unprivileged or fakeroot",
    ),
    "GWMS_SINGULARITY_STATUS": ("string", "gwms: REQUIRED, PREFERRED or NEVER, of what frontend and factory want"),
    "GLIDEIN_PROVIDES": ("string", "gwms: singularity/MODE, after what others provide; where no mode is known, only that"),
    "HAS_UNPRIVILEGED_USER_NAMESPACES": ("string", "gwms: enabled, disabled or unavailable"),
    "SINGULARITY_CAN_USE_SIF": ("boolean", "ospool: SIF images start without being unpacked first"),
    "SINGULARITY_CAN_USE_REGISTRY": ("boolean", "ospool: images of a registry start; only where one was tried"),
    "HAS_CVMFS_NAME": ("boolean", "ospool: the repository gives data; _ stands for . and -"),
    "CVMFS_NAME_REVISION, CVMFS_NAME_NIOERR, CVMFS_NAME_LAST_IOERR": ("integer", "ospool: its revision, errors, last error"),
    "OSG_HOST_KERNEL_VERSION": ("integer", "ospool: major * 10000 + minor * 100 + patch level"),
    "PROBE_START": ("expression", "start: a clause for START; see docs/glideins.md"),
}  # fmt: skip

# GlideinWMS's combination of what the frontend's group (first) and the entry ask for; what is missing gives no status.
STATUS = {
    ("NEVER", "NEVER"): "NEVER", ("NEVER", "OPTIONAL"): "NEVER", ("NEVER", "PREFERRED"): "NEVER",
    ("OPTIONAL", "NEVER"): "NEVER", ("OPTIONAL", "OPTIONAL"): "NEVER", ("OPTIONAL", "PREFERRED"): "PREFERRED",
    ("OPTIONAL", "REQUIRED"): "REQUIRED", ("OPTIONAL", "REQUIRED_GWMS"): "REQUIRED",
    ("PREFERRED", "NEVER"): "NEVER", ("PREFERRED", "OPTIONAL"): "PREFERRED", ("PREFERRED", "PREFERRED"): "PREFERRED",
    ("PREFERRED", "REQUIRED"): "REQUIRED", ("PREFERRED", "REQUIRED_GWMS"): "REQUIRED",
    ("REQUIRED", "OPTIONAL"): "REQUIRED", ("REQUIRED", "PREFERRED"): "REQUIRED", ("REQUIRED", "REQUIRED"): "REQUIRED",
    ("REQUIRED", "REQUIRED_GWMS"): "REQUIRED",
}  # fmt: skip

LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
USER_NAMESPACES = {"userns_unsupported": "unavailable"}
START_CLAUSE = Expression("(PROBE_SINGULARITY_USABLE =!= false)")


def attributes(settings: Settings, report: Dict[str, Any]) -> Dict[str, Value]:
    """The asked-for names that are known."""
    groups: Dict[str, Callable[[Settings, Dict[str, Any]], Dict[str, Value]]]
    groups = {"gwms": _gwms, "ospool": _ospool, "start": lambda *_: {"PROBE_START": START_CLAUSE}}
    found: Dict[str, Value] = {}
    for group in settings.publish:
        found.update(groups[group](settings, report))
    return {name: value for name, value in found.items() if value not in (None, "")}


def _gwms(settings: Settings, report: Dict[str, Any]) -> Dict[str, Value]:
    singularity = report["singularity"]
    found: Dict[str, Value] = {
        "HAS_UNPRIVILEGED_USER_NAMESPACES": _user_namespaces(report["namespaces"]["user"]),
        "HAS_SINGULARITY": singularity["usable"],
        "GWMS_SINGULARITY_STATUS": _status(settings),
        "GLIDEIN_PROVIDES": _provides(settings, singularity["usable"] and singularity["mode"]),
    }
    if not singularity["usable"]:
        return found
    full = next((row["version_text"] for row in report["runtimes"] if row["chosen"]), None)
    for prefix in ("SINGULARITY_", "GWMS_SINGULARITY_", "CONTAINERSW_", "GWMS_CONTAINERSW_"):
        found[prefix + "PATH"] = singularity["path"]
        found[prefix + "VERSION"] = singularity["version"]
        found[prefix + "FULL_VERSION"] = full
        found[prefix + "MODE"] = singularity["mode"]
    del found["GWMS_SINGULARITY_FULL_VERSION"]  # no release publishes it
    return found


def _provides(settings: Settings, mode: Optional[str]) -> str:
    there = [word for word in (settings.configured("GLIDEIN_PROVIDES") or "").split(",") if word]
    others = [word for word in there if not word.startswith("singularity/")]
    return ",".join([*others, "singularity/" + mode] if mode else others)


def _status(settings: Settings) -> Optional[str]:
    wanted = settings.configured("GLIDEIN_Singularity_Use") or "DISABLE_GWMS"
    return STATUS.get((wanted, settings.configured("GLIDEIN_SINGULARITY_REQUIRE") or "OPTIONAL"))


def _user_namespaces(check: Dict[str, Any]) -> Optional[str]:
    if check["status"] == "ok":
        return "enabled"
    return USER_NAMESPACES.get(check["reason"], "disabled") if check["status"] == "fail" else None


def _ospool(_settings: Settings, report: Dict[str, Any]) -> Dict[str, Value]:
    features = report["singularity"]["features"]
    found: Dict[str, Value] = {
        "SINGULARITY_CAN_USE_SIF": answer(features["sif"]),
        "SINGULARITY_CAN_USE_REGISTRY": answer(features["registry"]),
        "OSG_HOST_KERNEL_VERSION": _kernel(report["host"]["kernel"]),
    }
    for row in report["cvmfs"]["repositories"]:
        name = "".join(c if c in LETTERS else "_" for c in row["name"])
        found["HAS_CVMFS_" + name] = answer(row)
        found["CVMFS_{}_REVISION".format(name)] = row["revision"]
        found["CVMFS_{}_NIOERR".format(name)] = row["nioerr"]
        if row["last_ioerr_age_s"] is not None:
            found["CVMFS_{}_LAST_IOERR".format(name)] = epoch(report["created_at"]) - row["last_ioerr_age_s"]
    return found


def _kernel(kernel: Dict[str, Any]) -> Optional[int]:
    version = kernel.get("version") or []
    if len(version) < 3:
        return None
    return int(version[0]) * 10000 + int(version[1]) * 100 + int(version[2])
