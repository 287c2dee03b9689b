"""The report: one JSON document, composed in one place. Its shape is reports/schema/report-1.0.json."""

import json
import os
import sys
import time
from typing import Any, Dict, List, Optional

from probe.engine import Detector, Run
from probe.limits import fit
from probe.look import NOT_ASKED
from probe.settings import Settings
from probe.version import VERSION

SCHEMA_VERSION = "1.0"

Report = Dict[str, Any]

SECTIONS = ("host", "namespaces", "runtimes", "singularity", "cvmfs", "images", "gpus", "network", "credentials")


def compose(settings: Settings, detectors: List[Detector], run: Run, began: float, duration_s: float) -> Report:
    """A report from what the detectors found; those that were not asked for say so."""
    data = {
        detector.name: run.findings[detector.name]["data"]
        if detector.name in run.findings
        else detector.unknown("skipped", "not_requested", NOT_ASKED)
        for detector in detectors
    }
    data["host"]["scratch"] = data["scratch"]["scratch"]
    data["singularity"]["features"]["cvmfs_inside"] = data["cvmfs_inside"]
    data["gpus"]["container"] = data["gpu_container"]["container"]
    data["singularity"]["features"].update(data["gpu_container"]["features"])
    if run.findings.get("host", {}).get("state", "done") != "done":
        # A report that was cut short still says of which node it is: the kernel tells that without a file.
        data["host"]["hostname"] = data["host"]["hostname"] or os.uname().nodename
    data["singularity"]["features"].update(data["images"].get("features", {}))
    data["images"], image_coverage = data["images"]["rows"], data["images"]["coverage"]
    for runtime in data["runtimes"]:
        runtime["chosen"] = runtime["path"] == data["singularity"]["path"]
    report: Report = {
        "schema_version": SCHEMA_VERSION,
        "report_id": _random_uuid(),
        "created_at": timestamp(began),
        "duration_s": round(duration_s, 4),
        "deadline_s": settings.deadline_s,
        "complete": run.complete,
        "probe": {"version": VERSION, "python": platform_python(), "trigger": settings.trigger},
        "glidein": {field: value and value[:256] for field, value in settings.identity.items()},
    }
    report.update({name: data[name] for name in SECTIONS})
    report["image_coverage"] = image_coverage
    report["checks"] = _all_checks(detectors, run)
    report["delivery"] = []
    return fit(clean(report))  # type: ignore[no-any-return]  # a dict comes back as a dict


def _all_checks(detectors: List[Detector], run: Run) -> List[Any]:
    found = [run.findings[detector.name] for detector in detectors if detector.name in run.findings]
    # A later detector's word on a check stands: --nv and --rocm are tried apart from the other features.
    by_id = {row["id"]: row for findings in found for row in findings["checks"]}
    return list(by_id.values())


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC, to the millisecond."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return "{}.{:03d}Z".format(whole, int(seconds * 1000) % 1000)


def platform_python() -> str:
    """The version of this Python."""
    return "{}.{}.{}".format(*sys.version_info[:3])


def clean(value: Any) -> Any:
    """The value without what other readers choke on: NUL (PostgreSQL takes none), lone surrogates, not-a-number."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


def to_json(report: Report) -> str:
    """The report as one line of ASCII JSON."""
    return json.dumps(report, separators=(",", ":"), sort_keys=False, allow_nan=False)


CAPABILITIES = {
    "singularity": lambda report: {True: "ok", False: "fail"}.get(report["singularity"]["usable"], "unknown"),
    "privileged": lambda report: report["singularity"]["modes"]["privileged"]["status"],
    "unprivileged": lambda report: report["singularity"]["modes"]["unprivileged"]["status"],
    "user_namespaces": lambda report: report["namespaces"]["user"]["status"],
    "cvmfs": lambda report: _all_ok(row["status"] for row in report["cvmfs"]["repositories"]),
    "images": lambda report: _all_ok(row["status"] for row in report["images"]),
    "gpu": lambda report: report["gpus"]["status"],
    "gpus": lambda report: report["gpus"]["status"],
    "gpu_container": lambda report: report["gpus"]["container"]["status"],
}


def _all_ok(statuses: Any) -> str:
    found = list(statuses)
    if not found:
        return "unknown"
    return "ok" if all(status == "ok" for status in found) else "fail"


def capability(report: Report, name: str) -> Optional[str]:
    """The status of a capability by its name; None for a name that means nothing.

    Besides those of CAPABILITIES: a feature of ``singularity`` and ``cvmfs:NAME`` for one repository.
    """
    if name in CAPABILITIES:
        return CAPABILITIES[name](report)  # type: ignore[no-any-return,no-untyped-call]  # a table of lambdas
    if name in report["singularity"]["features"]:
        return str(report["singularity"]["features"][name]["status"])
    if name.startswith("cvmfs:"):
        rows = {row["name"]: row["status"] for row in report["cvmfs"]["repositories"]}
        return str(rows.get(name[len("cvmfs:") :], "unknown"))
    return None


def _random_uuid() -> str:
    """A UUID of version 4 (RFC 9562); the module uuid takes longer to import than a report to compose."""
    number = bytearray(os.urandom(16))
    number[6] = number[6] & 0x0F | 0x40
    number[8] = number[8] & 0x3F | 0x80
    digits = number.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
