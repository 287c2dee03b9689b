"""A few lines for the glidein's log: what a person who reads it wants to know first."""

from typing import Any, Dict, List

from probe.glidein_files import safe_text
from probe.version import VERSION

LINE_LIMIT = 200


def render(report: Dict[str, Any]) -> str:
    """The lines, each with the program's name."""
    lines = [_containers(report["singularity"]), _rest(report), "report {}".format(report["report_id"])]
    return "".join("singularity-probe {}: {}\n".format(VERSION, safe_text(line, LINE_LIMIT)) for line in lines if line)


def _containers(singularity: Dict[str, Any]) -> str:
    if singularity["usable"]:
        named = dict(singularity, product=singularity["product"] or "Singularity", version=singularity["version"] or "?")
        return "containers work: {product} {version}, {mode}, {path}".format(**named)
    verdict = "is not known whether containers work" if singularity["usable"] is None else "containers do not work"
    return "{}: {}: {}".format(verdict, singularity["reason"], singularity["message"])


def _rest(report: Dict[str, Any]) -> str:
    parts: List[str] = []
    features = report["singularity"]["features"]
    parts += ["{} {}".format(name, features[name]["status"]) for name in ("sif", "pid_namespace")]
    parts.append("user namespaces {}".format(report["namespaces"]["user"]["status"]))
    parts += ["{name} {status}".format(**row) for row in report["cvmfs"]["repositories"]]
    if report["gpus"]["devices"]:
        parts.append("{} GPUs".format(len(report["gpus"]["devices"])))
    return ", ".join(parts)
