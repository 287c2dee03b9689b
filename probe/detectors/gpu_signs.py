"""Whether a node shows any sign of a GPU, and what the slot was told of one: a few reads of /dev, /proc and /sys.

This is all that a node without a GPU pays, in the engine's own process: so this file is small, and has no classes.
"""

from typing import Any, Dict, List, Optional

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

# What points to GPUs: "devices", NVIDIA's names in /dev; "render_nodes" and "kfd_nodes", names in sysfs; "vendors" on the
# PCI bus; "module", the text of the loaded module's version file or None.
Signs = Dict[str, Any]


def look(host: Host) -> Signs:
    """All signs of this node. Only kernel file systems are read."""
    return {
        "devices": [name for name in host.list("/dev") if name.startswith("nvidia")],
        "render_nodes": [name for name in host.list(DRM) if name.startswith("renderD")],
        "kfd_nodes": host.list(KFD),
        "vendors": pci_vendors(host.read_or_none(PCI) or ""),
        "module": host.read_or_none(MODULE),
    }


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


def nothing(host: Host, settings: Settings) -> Optional[Findings]:
    """The findings of a node without any sign of a GPU; None where there is one."""
    return None if any(look(host).values()) else none_here(host, settings, "no GPU")


def none_here(host: Host, settings: Settings, message: str) -> Findings:
    """The findings where there is no GPU, whatever the slot was told."""
    data = shape("fail", "gpu_none", message)
    data.update(visible=visible_devices(host.environment), visible_variable=visible_variable(host.environment))
    data.update(visible_count=0)
    checks = [check("gpus", "fail", "gpu_none", message, devices=0)]
    if settings.configured("GLIDEIN_Resource_Slots"):
        from probe.detectors import gpu_claim

        claim = gpu_claim.claim_of(settings)
        claimed = gpu_claim.judge_claim(claim, 0)
        data["claim"] = claim.text if claim else None
        checks += [claimed] if claimed else []
    return {"data": data, "checks": checks}


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
