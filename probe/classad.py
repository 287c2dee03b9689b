"""The report as ClassAd attributes, one ``NAME = expression`` a line, for machine ads.

HTCondor's startd escapes nothing but ``"`` in a string, cuts a line at about 64 KiB, and mangles unquoted text silently
(HTCondor 23.9 and 25.14, run). Attributes carry the prefix ``PROBE_``; what is unknown is left undefined, never 0 or false.
"""

from typing import Any, Dict, List, Optional, Union

Value = Union[bool, int, str, None]


class Expression(str):
    """A ClassAd expression, not a string; glidein_config's type C."""

    glidein_type = "C"


class LongText(str):
    """A string that is not cut: whoever made it kept it short enough for a line."""

    limit = 60 * 1024


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
    "PROBE_CVMFS_KIND": ("string", "autofs, fuse, cvmfsexec, nfs, bind, parrot or none"),
    "PROBE_CVMFS_OK": ("string", "repositories that give data, comma separated"),
    "PROBE_CVMFS_FAILED": ("string", "repositories that do not, each NAME:reason, comma separated"),
    "PROBE_GPUS": ("integer", "GPUs that the driver knows; undefined where there is no answer"),
    "PROBE_GPU_DRIVER": ("string", "version of the GPU driver"),
    "PROBE_GPU_CUDA": ("string", "CUDA version that the driver supports"),
    "PROBE_GPUS_VISIBLE": ("integer", "GPUs that a program of this slot sees"),
    "PROBE_GPU_REASON": ("string", "reason code where GPUs do not work on the host"),
    "PROBE_GPU_CONTAINER": ("boolean", "whether the GPU works inside a container (--nv, --rocm)"),
    "PROBE_GPU_LIBRARIES_GLIBC": ("string", "glibc that the driver's libraries need of an image"),
    "PROBE_MICROARCH": ("string", "x86-64 level of the CPU"),
    "PROBE_STATUS": (
        "string", "ok; partial where a deadline or a signal cut the run short; busy where another run was at work, and what "
        "is published is what that one's predecessor found; probe_error; python_missing",
    ),
    "PROBE_CHANGED": (
        "string", "checks that answered otherwise than in the run before, comma separated, or none; undefined in a first run",
    ),
    "PROBE_REPORT": ("string", "the whole report, compressed; only with PROBE_REPORT_ATTRIBUTE=yes"),
}  # fmt: skip
# They differ from run to run though nothing has changed on the node.
VOLATILE = ("PROBE_REPORT_ID", "PROBE_TIME", "PROBE_CHANGED", "PROBE_REPORT")
CHANGES_LIMIT = 20
# Where the numbers of an RFC 3339 time stand.
PARTS = ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))


def quote(text: str) -> str:
    """A ClassAd string as the startd reads it: only quotes are escaped, control characters and line ends replaced."""
    text = text[: getattr(text, "limit", STRING_LIMIT)]
    cleaned = "".join(character if character.isprintable() else "?" for character in text).rstrip()
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
    return str(value) if isinstance(value, (int, Expression)) else quote(value)


def answer(row: Dict[str, Any]) -> Optional[bool]:
    """A check as true, false, or None where it is not known."""
    return {"ok": True, "fail": False, "timeout": False}.get(row["status"])


def attributes(report: Dict[str, Any]) -> Dict[str, Value]:
    """All attributes of ATTRIBUTES for a report, but for those made on request; None where unknown."""
    singularity, repositories, gpus = report["singularity"], report["cvmfs"]["repositories"], report["gpus"]
    good = listed([row["name"] for row in repositories if row["status"] == "ok"])
    bad = listed(["{}:{}".format(row["name"], row["reason"]) for row in repositories if answer(row) is False])
    known = gpus["status"] == "ok" or gpus["reason"] == "gpu_none"
    values: List[Value] = [
        report["probe"]["version"], report["report_id"], epoch(report["created_at"]), report["complete"],
        singularity["usable"], singularity["reason"], singularity["mode"], singularity["version"],
        singularity["product"], singularity["path"],
        answer(singularity["modes"]["privileged"]), answer(singularity["modes"]["unprivileged"]),
        answer(singularity["features"]["sif"]), answer(singularity["features"]["pid_namespace"]),
        answer(report["namespaces"]["user"]), report["cvmfs"]["kind"], good if repositories else None,
        bad if repositories else None, len(gpus["devices"]) if known else None, gpus["driver_version"],
        gpus["cuda_version"], gpus.get("visible_count"), gpus["reason"], answer(gpus["container"]),
        gpus["driver_libraries_glibc"], report["host"]["microarch"], "ok" if report["complete"] else "partial",
        _changed(report),
    ]  # fmt: skip
    return dict(zip(ATTRIBUTES, values))


def _changed(report: Dict[str, Any]) -> Optional[str]:
    """The names of what changed since the run before."""
    if "changes_since" not in report:
        return None
    names = [row["check"] for row in report["changes_since"]]
    return listed(names[:CHANGES_LIMIT] + ["..."] * (len(names) > CHANGES_LIMIT)) or "none"


def listed(names: List[str]) -> str:
    """Names with commas between; of more than a string holds, those that fit, and dots."""
    text = ",".join(names)
    if len(text) <= STRING_LIMIT:
        return text
    return (text[: STRING_LIMIT - 3].rpartition(",")[0] + ",...").lstrip(",")


def epoch(created_at: str) -> int:
    """Seconds since the epoch for a time of a report; without calendar and time.strptime, which take 20 ms to import."""
    year, month, day, hour, minute, second = [int(created_at[at:end]) for at, end in PARTS]
    # The year begins in March, so that a leap day is its last one.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = year * 365 + year // 4 - year // 100 + year // 400 + (month * 153 + 2) // 5 + day - 719469
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def lines(values: Dict[str, Value]) -> str:
    """Attributes as lines; unknown ones are left out, so that they read as undefined."""
    return "".join("{} = {}\n".format(name, expression(value)) for name, value in values.items() if value is not None)


def render(report: Dict[str, Any]) -> str:
    """A report's attributes as lines."""
    return lines(attributes(report))
