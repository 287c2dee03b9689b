"""What the slot was given: CUDA_VISIBLE_DEVICES and its relatives, against the devices that are there.

Batch systems write what they like there when a slot has no GPU: HTCondor 10000, Slurm NoDevFiles, others -1, na, none or
nothing at all. CUDA reads the list to the first entry that is no device of the node and stops there; one that is named
twice empties the whole list (CUDA C++ Programming Guide, environment variables; PyTorch's torch.cuda counts so, too).
"""

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

Device = Dict[str, Any]

# NVIDIA_VISIBLE_DEVICES is read by the container toolkit alone; these give no device.
NO_DEVICES = ("", "none", "void")
# For AMD one variable narrows what the one before left (ROCm, GPU isolation).
AMD_VARIABLES = (("ROCR_VISIBLE_DEVICES",), ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"), ("GPU_DEVICE_ORDINAL",))


class Visible(NamedTuple):
    """How many devices a program sees, None where nothing tells; and what is odd about the list, in words."""

    number: Optional[int]
    problem: Optional[str]


class Choice(NamedTuple):
    """The devices that a list chooses, in its order."""

    devices: List[Device]
    problem: Optional[str]


def choose(text: str, devices: List[Device]) -> Choice:
    """Read a list as CUDA does. A MIG instance stands for its GPU; a program sees one instance only."""
    found: List[Tuple[str, Device]] = []
    words = [word.strip() for word in text.split(",")]
    kind = _kind(words[0])
    for word in words:
        matches = _matches(word, devices) if _kind(word) == kind else []
        if len(matches) != 1:
            what = "names several devices" if matches else "is no device here"
            return Choice([row for _, row in found], "{} {}".format(word[:64] or "the empty list", what))
        if matches[0][0] in [key for key, _ in found]:
            return Choice([], "{} is named twice".format(word[:64]))
        found += matches
        if kind == "MIG":
            break
    unused = len(words) - len(found)
    return Choice([row for _, row in found], "a program sees one MIG instance only" if unused else None)


def _kind(word: str) -> str:
    return word[:3] if word.startswith(("GPU-", "MIG-")) else "number"


def _matches(word: str, devices: List[Device]) -> List[Tuple[str, Device]]:
    """The devices that a word may mean: a number, or the beginning of a UUID."""
    if _kind(word) == "GPU":
        return [(row["uuid"], row) for row in devices if _same(word, row["uuid"])]
    if _kind(word) == "MIG":
        return [
            (name, row)
            for row in devices
            for instance in row.get("instances") or []
            for name in _instance_names(row, instance)
            if _same(word, name)
        ]
    number = re.match(r"\+?(\d{1,9})", word)  # as strtoul: 1gpu is 1
    if number is None or int(number.group(1)) >= len(devices):
        return []
    return [(number.group(1), devices[int(number.group(1))])]


def _same(word: str, name: Optional[str]) -> bool:
    return name is not None and len(word) > 4 and name.lower().startswith(word.lower())


def _instance_names(row: Device, instance: Dict[str, Any]) -> List[str]:
    """The names of a MIG instance: its own UUID (driver 470 and later), its place in its GPU before that."""
    place = "MIG-{}/{}/{}".format(row["uuid"], instance.get("gpu_instance"), instance.get("compute_instance"))
    return [name for name in (instance.get("uuid"), place) if name]


def of_nvidia(environment: Mapping[str, str], devices: List[Device], counted: Optional[int]) -> Visible:
    """What a CUDA program sees of NVML's devices; what CUDA itself ``counted`` here stands above all reading."""
    problem, count = None, len(devices) or None  # type: Optional[str], Optional[int]
    if "CUDA_VISIBLE_DEVICES" in environment and devices:
        chosen = choose(environment["CUDA_VISIBLE_DEVICES"], devices)
        count = len(chosen.devices)
        problem = chosen.problem and "CUDA_VISIBLE_DEVICES: " + chosen.problem
    elif environment.get("NVIDIA_VISIBLE_DEVICES", "all").strip() in NO_DEVICES:
        count, problem = 0, "NVIDIA_VISIBLE_DEVICES gives none"
    return Visible(count if counted is None else counted, problem)


def of_amd(environment: Mapping[str, str], devices: List[Device]) -> Visible:
    """What a ROCm program sees."""
    left, problem = devices, None  # type: List[Device], Optional[str]
    for names in AMD_VARIABLES:
        name = next((name for name in names if name in environment), None)
        if name is not None:
            chosen = choose(environment[name], left)
            left = chosen.devices
            problem = problem or (chosen.problem and "{}: {}".format(name, chosen.problem))
    return Visible(len(left), problem)
