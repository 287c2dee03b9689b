"""What a custom script tells glidein_startup.sh: otrb_output.xml, and the exit code that must agree with it.

The file's form is that of GlideinWMS's error_gen.sh (read and run), whose own way there costs two processes a line and
escapes nothing. The glidein reads it with awk and grep, a line each for a metric and around the detail.
"""

import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

NAME = "singularity-probe"
FILE = "otrb_output.xml"
TEXT_LIMIT = 2000

# GlideinWMS's error types by reason code; what stands with the node itself is WN_Resource.
ERROR_TYPES = {
    "network_unreachable": "Network",
    "registry_unreachable": "Network",
    "registry_rate_limited": "Network",
    "runtime_options_invalid": "Config",
    "image_missing": "VO_Config",
    "image_invalid": "VO_Config",
    "image_wrong_arch": "VO_Config",
    "image_start_failed": "VO_Config",
}


class Missing(NamedTuple):
    """A required capability that is not ok: its check's status, reason, message and remedy."""

    name: str
    status: str
    reason: Optional[str]
    message: Optional[str]
    remedy: Optional[str]

    @property
    def error_type(self) -> str:
        """GlideinWMS's type for it."""
        return ERROR_TYPES.get(self.reason or "", "WN_Resource")

    def text(self) -> str:
        """Cause and remedy in one line."""
        parts = ["{} is required and {}".format(self.name, {"fail": "does not work"}.get(self.status, self.status))]
        parts += [part for part in (self.reason, self.message) if part]
        return ": ".join(parts) + (". " + self.remedy if self.remedy else "")


def missing(report: Dict[str, Any], required: List[str], also_unknown: bool) -> Tuple[List[Missing], List[str]]:
    """Required capabilities that end the glidein, and names that mean nothing."""
    from probe import report as reports

    found, wrong = [], []
    for name in required:
        status = reports.capability(report, name)
        if status is None:
            wrong.append(name)
        elif status in ("fail", "timeout") or (status != "ok" and also_unknown):
            found.append(_missing(report, name, status))
    return found, wrong


def _missing(report: Dict[str, Any], name: str, status: str) -> Missing:
    from probe import reasons

    wrong = [row for row in _candidates(report, name) if row["status"] != "ok"]
    worst = [row for row in wrong if row["status"] in ("fail", "timeout")] or wrong
    if not worst:
        return Missing(name, status, None, None, None)
    reason = worst[0]["reason"]
    return Missing(name, worst[0]["status"], reason, worst[0]["message"], reasons.remedy(reason))


def _candidates(report: Dict[str, Any], name: str) -> List[Dict[str, Any]]:
    """The checks that a capability is made of."""
    words = {
        "user_namespaces": "namespaces.user", "gpu": "gpus", "gpu_container": "gpus.container", "singularity": "singularity",
        "privileged": "singularity.modes.privileged", "unprivileged": "singularity.modes.unprivileged",
    }  # fmt: skip
    exact = {words.get(name, name), "singularity.features." + name, "cvmfs." + name.partition("cvmfs:")[2]}
    stem = words.get(name, name) + "."
    checks = [row for row in report["checks"] if row["id"] in exact]
    return checks + [row for row in report["checks"] if row["id"].startswith(stem)]


def render(error: Optional[Missing], metrics: Dict[str, str]) -> str:
    """The file's text. The status is ERROR exactly where there is an error."""
    stamp = _timestamp()
    rows = dict({"failure": error.error_type}, **metrics) if error else metrics
    lines = ['<?xml version="1.0"?>', '<OSGTestResult id="{}" version="4.3.1">'.format(NAME), "  <result>"]
    lines.append("    <status>{}</status>".format("ERROR" if error else "OK"))
    form = '    <metric name="{}" ts="{}" uri="local">{}</metric>'
    lines += [form.format(escaped(name), stamp, escaped(value)) for name, value in rows.items()]
    lines.append("  </result>")
    if error:
        lines += ["  <detail>", "    " + escaped(error.text()), "  </detail>"]
    return "\n".join([*lines, "</OSGTestResult>", ""])


def escaped(text: str) -> str:
    """A text for XML that goes through awk, grep and a shell's echo: one line of printable ASCII."""
    plain = "".join(character if " " <= character <= "~" else "?" for character in text[:TEXT_LIMIT])
    for character, name in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "apos")):
        plain = plain.replace(character, "&{};".format(name))
    return plain.replace("\\", "&#92;")


def _timestamp() -> str:
    zone = time.strftime("%z")
    return time.strftime("%Y-%m-%dT%H:%M:%S") + zone[:3] + ":" + zone[3:]


def write(text: str) -> None:
    """Write the file into the working folder, whole or not at all; raises OSError. May hang."""
    part = "{}.{}.{}".format(FILE, NAME, os.getpid())
    try:
        with open(part, "w") as stream:
            stream.write(text)
        os.rename(part, FILE)
    except OSError:
        if os.path.exists(part):
            os.unlink(part)
        raise
