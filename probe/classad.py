"""The report as ClassAd attributes, one ``NAME = expression`` a line, for machine ads.

HTCondor's startd escapes nothing but ``"`` in a string, cuts a line at about 64 KiB, and mangles unquoted text silently
(HTCondor 23.9 and 25.14, run). Attributes carry the prefix ``PROBE_``; what is unknown is left undefined, never 0 or false.
"""

from typing import Any, Dict, List, Optional, Union

Value = Union[bool, int, str, None]

STRING_LIMIT = 1000

# Attribute: (type, meaning); docs/attributes.md is checked against this table.
ATTRIBUTES = {
    "PROBE_VERSION": ("string", "version of the probe"),
    "PROBE_REPORT_ID": ("string", "id of the report that these attributes are from"),
    "PROBE_TIME": ("integer", "when the probe began, seconds since the epoch"),
    "PROBE_COMPLETE": ("boolean", "whether all detectors had their time"),
    "PROBE_SINGULARITY_USABLE": ("boolean", "whether the glidein's container start works with an image that is fine"),
    "PROBE_SINGULARITY_REASON": ("string", "reason code where it does not"),
    "PROBE_SINGULARITY_MODE": ("string", "privileged, unprivileged or fakeroot"),
    "PROBE_SINGULARITY_VERSION": ("string", "version of the runtime that a glidein takes"),
    "PROBE_SINGULARITY_PRODUCT": ("string", "apptainer, singularity, singularity-ce or singularity-pro"),
    "PROBE_SINGULARITY_PATH": ("string", "its path"),
    "PROBE_PRIVILEGED": ("boolean", "whether the privileged mode works"),
    "PROBE_UNPRIVILEGED": ("boolean", "whether the unprivileged mode works"),
    "PROBE_SIF": ("boolean", "whether SIF images start without being unpacked first"),
    "PROBE_PID_NAMESPACE": ("boolean", "whether --pid works"),
    "PROBE_USER_NAMESPACES": ("boolean", "whether user namespaces can be made and mapped"),
    "PROBE_CVMFS_KIND": ("string", "autofs, fuse, cvmfsexec, nfs, bind or none"),
    "PROBE_CVMFS_OK": ("string", "repositories that give data, comma separated"),
    "PROBE_CVMFS_FAILED": ("string", "repositories that do not, each NAME:reason, comma separated"),
    "PROBE_GPUS": ("integer", "GPUs that the driver knows; undefined where there is no answer"),
    "PROBE_GPU_DRIVER": ("string", "version of the GPU driver"),
    "PROBE_GPU_CUDA": ("string", "CUDA version that the driver supports"),
    "PROBE_MICROARCH": ("string", "x86-64 level of the CPU"),
}


def quote(text: str) -> str:
    """A ClassAd string as the startd reads it: only quotes are escaped, control characters and line ends replaced."""
    cleaned = "".join(character if character.isprintable() else "?" for character in text[:STRING_LIMIT]).rstrip()
    cleaned = cleaned.encode("utf-8", "replace").decode("utf-8")
    # A backslash before the closing quote would escape it; the startd has no other way to say one.
    if cleaned.endswith("\\"):
        cleaned += " "
    return '"' + cleaned.replace('"', '\\"') + '"'


def expression(value: Value) -> str:
    """A value as a ClassAd literal."""
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else quote(value)


def _answer(row: Dict[str, Any]) -> Optional[bool]:
    return {"ok": True, "fail": False, "timeout": False}.get(row["status"])


def attributes(report: Dict[str, Any]) -> Dict[str, Value]:
    """All attributes of ATTRIBUTES for a report; None where unknown."""
    singularity, repositories, gpus = report["singularity"], report["cvmfs"]["repositories"], report["gpus"]
    good = [row["name"] for row in repositories if row["status"] == "ok"]
    bad = ["{}:{}".format(row["name"], row["reason"]) for row in repositories if row["status"] in ("fail", "timeout")]
    known = gpus["status"] == "ok" or gpus["reason"] == "gpu_none"
    values: List[Value] = [
        report["probe"]["version"], report["report_id"], _epoch(report["created_at"]), report["complete"],
        singularity["usable"], singularity["reason"], singularity["mode"], singularity["version"],
        singularity["product"], singularity["path"],
        _answer(singularity["modes"]["privileged"]), _answer(singularity["modes"]["unprivileged"]),
        _answer(singularity["features"]["sif"]), _answer(singularity["features"]["pid_namespace"]),
        _answer(report["namespaces"]["user"]), report["cvmfs"]["kind"], ",".join(good) if repositories else None,
        ",".join(bad) if repositories else None, len(gpus["devices"]) if known else None, gpus["driver_version"],
        gpus["cuda_version"], report["host"]["microarch"],
    ]  # fmt: skip
    return dict(zip(ATTRIBUTES, values))


def _epoch(created_at: str) -> int:
    import calendar
    import time

    return calendar.timegm(time.strptime(created_at[:19], "%Y-%m-%dT%H:%M:%S"))


def render(report: Dict[str, Any]) -> str:
    """The attributes as lines; unknown ones are left out, so that they read as undefined."""
    lines = [
        "{} = {}".format(name, expression(value)) for name, value in attributes(report).items() if value is not None
    ]
    return "\n".join(lines) + "\n"
