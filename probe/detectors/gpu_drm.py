"""AMD and Intel: what the kernel tells of their GPUs (KFD's topology, DRM's render nodes), and whether the files open.

No runtime of theirs is called: ROCm and oneAPI come with the image more often than with the host. So "ok" says less
here than for NVIDIA, and the check says what was tried.
"""

import errno
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional

from probe.checks import check
from probe.detectors.gpu_api import device
from probe.detectors.gpu_errors import OK, Judgement
from probe.detectors.gpu_nvidia import DENIED, open_each
from probe.detectors.gpu_signs import DRM, KFD, Signs
from probe.host import Host

LIMIT_S = 4.0
KFD_DEVICE = "/dev/kfd"
ROCM_VERSION = "/opt/rocm/.info/version"
VENDOR_IDS = {"1002": "amd", "8086": "intel"}
AMD_ID = "4098"  # as KFD writes it, in decimal
# Where Intel puts the graphics of a CPU: no device to offer.
INTEL_ON_CPU = "0000:00:02.0"
# kfd_sysfs.h: HSA_MEM_HEAP_TYPE_FB_PUBLIC and _FB_PRIVATE
FRAME_BUFFERS = ("1", "2")


class Render(NamedTuple):
    """One render node of DRM: its file, its GPU's vendor, driver, address and memory."""

    path: str
    vendor: str
    driver: Optional[str]
    address: Optional[str]
    model: str
    memory_bytes: Optional[int]


def parse_uevent(text: str) -> Dict[str, str]:
    """A device's uevent: DRIVER, PCI_ID (VENDOR:DEVICE), PCI_SLOT_NAME, ..."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_properties(text: str) -> Dict[str, str]:
    """KFD's properties, "NAME VALUE" a line."""
    return dict(line.split(None, 1) for line in text.splitlines() if len(line.split(None, 1)) == 2)


def architecture(target_version: Optional[str]) -> Optional[str]:
    """KFD's gfx_target_version as the compiler names it: 90010 is gfx90a; None for 0, a CPU."""
    if not (target_version or "").isdecimal() or target_version == "0":
        return None
    number = int(target_version or 0)
    return "gfx{}{:x}{:x}".format(number // 10000, number // 100 % 100, number % 100)


def read_render_nodes(host: Host, names: List[str]) -> List[Render]:
    """The render nodes of AMD and Intel; virtual ones and other vendors' are left out."""
    found = []
    for name in names[:64]:
        folder = "{}/{}/device".format(DRM, name)
        facts = parse_uevent(host.read_or_none(folder + "/uevent") or "")
        number = facts.get("PCI_ID", "").lower()
        vendor = VENDOR_IDS.get(number[:4])
        address = facts.get("PCI_SLOT_NAME")
        if vendor and not (vendor == "intel" and address == INTEL_ON_CPU):
            memory = (host.read_or_none(folder + "/mem_info_vram_total") or "").strip()
            product = (host.read_or_none(folder + "/product_name") or "").strip()
            size = int(memory) if memory.isdecimal() and memory != "0" else None
            found.append(Render("/dev/dri/" + name, vendor, facts.get("DRIVER"), address, product or number, size))
    return found


def read_kfd(host: Host, nodes: List[str]) -> List[Dict[str, Any]]:
    """KFD's GPUs as devices of the report. A GPU that the device cgroup closes to us has no readable properties."""
    found = []
    for node in nodes[:256]:
        folder = "{}/{}".format(KFD, node)
        facts = parse_properties(host.read_or_none(folder + "/properties") or "")
        name = architecture(facts.get("gfx_target_version"))
        if facts.get("vendor_id") != AMD_ID or facts.get("simd_count", "0") == "0":
            continue
        unique = facts.get("unique_id", "0")
        found.append(
            device(
                "amd",
                model=(host.read_or_none(folder + "/name") or "").strip() or name,
                uuid="GPU-{:016x}".format(int(unique)) if unique.isdecimal() and unique != "0" else None,
                memory_bytes=_frame_buffer(host, folder),
                compute_capability=name,
                render_node="renderD" + facts["drm_render_minor"] if "drm_render_minor" in facts else None,
            )
        )
    return found


def _frame_buffer(host: Host, folder: str) -> Optional[int]:
    total = 0
    for bank in host.list(folder + "/mem_banks")[:16]:
        facts = parse_properties(host.read_or_none("{}/mem_banks/{}/properties".format(folder, bank)) or "")
        size = facts.get("size_in_bytes", "")
        if facts.get("heap_type") in FRAME_BUFFERS and size.isdecimal():
            total += int(size)
    return total or None


def judge_files(vendor: str, opened: Dict[str, int]) -> Judgement:
    """AMD needs /dev/kfd and one render node, Intel one render node."""
    needed = [KFD_DEVICE] if vendor == "amd" else []
    nodes = [path for path in opened if path not in needed]
    if nodes and not any(opened[path] == 0 for path in nodes):
        needed.append(nodes[0])
    if not nodes:
        return Judgement("fail", "gpu_device_missing", "/dev/dri has no render node")
    for path in needed:
        error = opened.get(path, errno.ENOENT)
        if error == errno.ENOENT:
            return Judgement("fail", "gpu_device_missing", "{} does not exist".format(path))
        if error:
            reason = "gpu_device_denied" if error in DENIED else "gpu_driver_error"
            return Judgement("fail", reason, "{}: {}".format(path, os.strerror(error)))
    return OK


def read_version(path: str) -> Optional[str]:
    """The first word of a version file (/opt/rocm/.info/version: 6.1.2-90). May hang."""
    try:
        with open(path, "rb") as stream:
            words = stream.read(256).decode("utf-8", "replace").split()
    except OSError:
        return None
    return words[0] if words and re.match(r"\d[\w.+-]*$", words[0]) else None


def examine(host: Host, signs: Signs, vendor: str) -> Optional[Dict[str, Any]]:
    """All about one of the two vendors: {"judgement", "data", "checks"}; None where it has nothing here."""
    renders = [render for render in read_render_nodes(host, signs["render_nodes"]) if render.vendor == vendor]
    devices = read_kfd(host, signs["kfd_nodes"]) if vendor == "amd" else []
    drivers = {render.path.rpartition("/")[2]: render.driver for render in renders}
    for row in devices:
        row["driver"] = drivers.get(row.pop("render_node")) or "amdgpu"
    if not devices:
        devices = [
            device(vendor, model=render.model, memory_bytes=render.memory_bytes, driver=render.driver)
            for render in renders
        ]
    if not devices:
        return _without_driver(vendor) if vendor in signs["vendors"] else None
    paths = ([KFD_DEVICE] if vendor == "amd" else []) + [render.path for render in renders]
    calls = {
        "gpus.files." + vendor: [open_each, {path: host.at(path) for path in paths}],
        "gpus.rocm": [read_version, host.at(ROCM_VERSION)],
    }
    results = host.attempt_all(LIMIT_S, calls if vendor == "amd" else dict(list(calls.items())[:1]))
    files = results["gpus.files." + vendor]
    opened = files.value or {}
    judgement = judge_files(vendor, opened)
    if files.state == "timeout":
        judgement = Judgement("timeout", "gpu_timeout", "the device files do not answer")
    data = {
        "devices": devices,
        "device_files": [{"path": path, "errno": error} for path, error in opened.items()],
        "driver_version": (host.read_or_none("/sys/module/amdgpu/version") or "").strip() or None
        if vendor == "amd"
        else None,
    }
    if vendor == "amd":
        data["rocm_version"] = results["gpus.rocm"].value
    own = check("gpus." + vendor, *judgement, duration_s=files.duration_s, tried="device files", devices=len(devices))
    return {"judgement": judgement, "data": data, "checks": [own]}


def _without_driver(vendor: str) -> Dict[str, Any]:
    judgement = Judgement(
        "fail", "gpu_driver_missing", "{} is on the PCI bus, and has no driver".format(vendor.upper())
    )
    return {"judgement": judgement, "data": {}, "checks": []}
