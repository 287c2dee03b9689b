"""nvidia-smi beside NVML, as a cross-check only: it takes its time, and asks the same library."""

from typing import Any, Dict, List

from probe.checks import Check, check, decisive_lines
from probe.host import Host

LIMIT_S = 10.0
FIELDS = ("name", "uuid", "memory.total", "driver_version")
MIB = 1 << 20


def ask(host: Host, data: Dict[str, Any]) -> Check:
    """nvidia-smi beside NVML: what it lists, and whether that differs."""
    command = ["nvidia-smi", "--query-gpu=" + ",".join(FIELDS), "--format=csv,noheader,nounits"]
    outcome = host.run(command, host.limit(LIMIT_S, 0.2))
    if outcome.state == "not_started":
        return check("gpus.nvidia_smi", "unknown", "cannot_be_tried", "nvidia-smi is not there")
    if outcome.state == "timeout":
        return check("gpus.nvidia_smi", "timeout", "gpu_timeout", "nvidia-smi gave no answer", outcome.duration_s)
    if outcome.exit_code != 0:
        lines = decisive_lines(outcome.stdout + "\n" + outcome.stderr, 2)
        message = "nvidia-smi: exit code {}: {}".format(outcome.exit_code, " ".join(lines))
        return check("gpus.nvidia_smi", "fail", "gpu_driver_error", message, outcome.duration_s)
    rows = parse(outcome.stdout)
    differences = compare(rows, data)
    if differences:
        return check("gpus.nvidia_smi", "fail", "gpu_driver_error", "; ".join(differences), outcome.duration_s)
    return check("gpus.nvidia_smi", "ok", None, None, outcome.duration_s, devices=len(rows))


def parse(text: str) -> List[Dict[str, str]]:
    """nvidia-smi's lines of FIELDS as dicts; a model's name holds no comma."""
    lines = [[word.strip() for word in line.split(",")] for line in text.splitlines()]
    return [dict(zip(FIELDS, words)) for words in lines if len(words) == len(FIELDS)]


def compare(rows: List[Dict[str, str]], data: Dict[str, Any]) -> List[str]:
    """Where nvidia-smi and NVML differ, in words; nothing where NVML gave no devices."""
    by_uuid = {row["uuid"]: row for row in data["devices"] if row["uuid"]}
    found = []
    for row in rows if by_uuid else []:
        own = by_uuid.get(row["uuid"])
        if own is None:
            found.append("{} is not NVML's".format(row["uuid"]))
            continue
        memory = str(own["memory_bytes"] // MIB) if own["memory_bytes"] else None
        pairs = {"name": own["model"], "memory.total": memory, "driver_version": data["driver_version"]}
        found += [
            "{}: {} here, {} by NVML".format(field, row[field], value)
            for field, value in pairs.items()
            if row[field] != value
        ]
    if by_uuid and len(rows) != len(by_uuid):
        found.append("{} devices, {} by NVML".format(len(rows), len(by_uuid)))
    return found
