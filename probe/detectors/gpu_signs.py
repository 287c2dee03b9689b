"""Whether a node shows any sign of a GPU, and what the slot was told of one: a few reads of /dev, /proc and /sys.

This is all that a node without a GPU pays: no child is started, and the modules that ask drivers are not loaded.
"""

from typing import Any, Dict, List, NamedTuple, Optional

from probe.checks import Check, check
from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings

# In this order the first that is set is told as what the slot was given.
VISIBLE_VARIABLES = (
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
)  # fmt: skip
MODULE = "/proc/driver/nvidia/version"
KFD = "/sys/class/kfd/kfd/topology/nodes"
DRM = "/sys/class/drm"
PCI = "/proc/bus/pci/devices"
# First half of a line's vendor and device in PCI.
VENDORS = {"10de": "nvidia", "1002": "amd"}
# Display adapters of management controllers (pci.ids: ES1000); they are AMD's by number only.
NO_GPUS = ("1002515e", "10025969")


class Signs(NamedTuple):
    """What points to GPUs: names in /dev, render nodes in sysfs, vendors on the PCI bus, the loaded module's version file."""

    devices: List[str]
    render_nodes: List[str]
    kfd_nodes: List[str]
    vendors: List[str]
    module: Optional[str]

    @property
    def nvidia(self) -> bool:
        """Whether anything points to NVIDIA."""
        return bool(self.devices) or self.module is not None or "nvidia" in self.vendors

    @property
    def any(self) -> bool:
        """Whether anything points to a GPU at all."""
        return self.nvidia or bool(self.render_nodes or self.kfd_nodes or self.vendors)


class Claim(NamedTuple):
    """What the glidein's configuration says of GPUs; ``number`` is None where HTCondor is to find them itself."""

    text: str
    number: Optional[int]


def look(host: Host) -> Signs:
    """All signs of this node. Only kernel file systems are read."""
    return Signs(
        [name for name in host.list("/dev") if name.startswith("nvidia")],
        [name for name in host.list(DRM) if name.startswith("renderD")],
        host.list(KFD),
        pci_vendors(host.read_or_none(PCI) or ""),
        host.read_or_none(MODULE),
    )


def pci_vendors(text: str) -> List[str]:
    """Vendors in /proc/bus/pci/devices (bus and slot, vendor and device, ...); it tells no classes."""
    found = set()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 1 and fields[1] not in NO_GPUS:
            found.add(VENDORS.get(fields[1][:4], ""))
    return sorted(found - {""})


def visible_devices(environment: Dict[str, str]) -> Optional[List[str]]:
    """The devices that the slot was given, as written there; None when nothing was said."""
    name = visible_variable(environment)
    if name is None:
        return None
    return [word.strip()[:256] for word in environment[name].split(",") if word.strip()][:64]


def visible_variable(environment: Dict[str, str]) -> Optional[str]:
    """The variable that says what the slot was given."""
    return next((name for name in VISIBLE_VARIABLES if name in environment), None)


def claim_of(settings: Settings) -> Optional[Claim]:
    """What GLIDEIN_Resource_Slots says of GPUs; None where it says nothing of them.

    It is NAME[,NUMBER][,MEMORY][,type=TYPE] for each resource, separated by semicolons; without a number HTCondor looks
    for GPUs itself (GlideinWMS, condor_startup.sh).
    """
    for slot in (settings.configured("GLIDEIN_Resource_Slots") or "").split(";"):
        words = [word.strip() for word in slot.split(",")]
        if words[0].lower() == "gpus":
            count = words[1] if len(words) > 1 else ""
            return Claim(slot.strip()[:256], int(count) if count.isdecimal() and len(count) < 6 else None)
    return None


def judge_claim(claim: Optional[Claim], present: Optional[int]) -> Optional[Check]:
    """The claim against how many GPUs a job sees; None where nobody claims any and there is none."""
    if claim is None and not present:
        return None
    facts: Dict[str, Any] = {"claim": claim.text if claim else None, "present": present}
    if present is None:
        message = "how many GPUs a job sees is not known"
        return check("gpus.claim", "unknown", "prerequisite_failed", message, **facts)
    if claim is None:
        message = "{} here, and GLIDEIN_Resource_Slots claims none".format(_gpus(present))
        return check("gpus.claim", "ok", None, message, **facts)
    if claim.number == 0 or claim.number == present or (claim.number is None and present):
        return check("gpus.claim", "ok", None, None, **facts)
    reason = "gpu_claim_wrong" if present else "gpu_claimed_but_none"
    message = "GLIDEIN_Resource_Slots has {}; a job sees {}".format(claim.text, _gpus(present))
    return check("gpus.claim", "fail", reason, message, **facts)


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else "{} GPUs".format(count or "no")


def nothing(host: Host, settings: Settings) -> Optional[Findings]:
    """The findings of a node without any sign of a GPU; None where there is one."""
    if look(host).any:
        return None
    return none_here(host, settings, "no GPU")


def none_here(host: Host, settings: Settings, message: str) -> Findings:
    """The findings where there is no GPU, whatever the slot was told."""
    claim = claim_of(settings)
    data = shape("fail", "gpu_none", message)
    data.update(visible=visible_devices(host.environment), visible_variable=visible_variable(host.environment))
    data.update(visible_count=0, claim=claim.text if claim else None)
    claimed = judge_claim(claim, 0)
    own = check("gpus", "fail", "gpu_none", message, devices=0)
    return {"data": data, "checks": [own, claimed] if claimed else [own]}


def shape(status: str, reason: Optional[str], message: Optional[str]) -> Dict[str, Any]:
    """The report's ``gpus`` where nothing more is known than a status."""
    unknown = (
        "driver_version", "cuda_version", "visible", "visible_variable", "visible_count", "claim",
        "module_version", "rocm_version", "driver_libraries_glibc", "display_libraries_glibc",
    )  # fmt: skip
    data: Dict[str, Any] = dict.fromkeys(unknown)
    data.update(status=status, reason=reason, message=message, devices=[], device_files=[])
    data["container"] = check("gpus.container", "skipped", "not_requested", "the detector gpu_container was left out")
    return data


def nothing_to_try(_host: Host, _settings: Settings, earlier: Dict[str, Any]) -> Optional[Findings]:
    """The findings of gpu_container where there is nothing to try."""
    gpus = earlier.get("gpus")
    if gpus is None:
        return None
    if gpus["reason"] == "gpu_none" or gpus["status"] == "skipped":
        return container_only(check("gpus.container", "skipped", "not_applicable", "no GPU to try"))
    if gpus["status"] != "ok":
        message = "the GPU does not work on the host itself ({})".format(gpus["reason"])
        return container_only(check("gpus.container", "unknown", "prerequisite_failed", message))
    return None


def container_only(container: Check) -> Findings:
    """gpu_container's findings where no start was made."""
    return {"data": {"container": container, "features": {}}, "checks": [container]}
