"""GPUs: what the node has, what its driver says, what the slot was given.

The vendor's library is loaded in a child: a wedged driver hangs in ioctl, and a broken library may crash.
"""

import errno
import os
import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

from probe.checks import check
from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings
from probe.workers import Result

LIMIT_S = 8.0
PCI = "/sys/bus/pci/devices"
VENDORS = {"0x10de": "nvidia", "0x1002": "amd"}
VISIBLE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")

# nvml.h, nvmlReturn_t
NVML_REASONS = {
    4: "gpu_device_denied", 6: "gpu_none", 9: "gpu_driver_missing", 12: "gpu_driver_missing", 18: "gpu_driver_mismatch"
}  # fmt: skip
NVML_LIBRARY = "libnvidia-ml.so.1"


def ask_nvml(library: str) -> Dict[str, Any]:
    """Driver, CUDA version and devices by NVIDIA's management library. May hang or crash.

    Returns {"error": code, "call": name} or {"error": None, "driver_version", "cuda_version", "devices": [...]};
    raises OSError when the library can't be loaded.
    """
    import ctypes

    nvml = ctypes.CDLL(library)
    error = nvml.nvmlInit_v2()
    if error:
        return {"error": error, "call": "nvmlInit_v2"}
    count = ctypes.c_uint(0)
    error = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    if error:
        return {"error": error, "call": "nvmlDeviceGetCount_v2"}
    cuda = ctypes.c_int(0)
    nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda))
    return {
        "error": None,
        "driver_version": _nvml_text(nvml.nvmlSystemGetDriverVersion),
        "cuda_version": cuda_version(cuda.value),
        "devices": [_nvml_device(nvml, number) for number in range(count.value)],
    }


def cuda_version(number: int) -> Optional[str]:
    """12040 is "12.4"; None for 0."""
    return "{}.{}".format(number // 1000, number % 1000 // 10) if number else None


def _nvml_text(function: Any, *before: Any) -> Optional[str]:
    import ctypes

    buffer = ctypes.create_string_buffer(96)
    return buffer.value.decode("utf-8", "replace") if function(*before, buffer, 96) == 0 else None


def _nvml_device(nvml: Any, number: int) -> Dict[str, Any]:
    import ctypes

    handle = ctypes.c_void_p()
    if nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)):
        return device("nvidia")
    memory = (ctypes.c_ulonglong * 3)()
    major, minor, mig, pending = ctypes.c_int(), ctypes.c_int(), ctypes.c_uint(), ctypes.c_uint()
    has_memory = nvml.nvmlDeviceGetMemoryInfo(handle, memory) == 0
    has_capability = nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)) == 0
    has_mig = nvml.nvmlDeviceGetMigMode(handle, ctypes.byref(mig), ctypes.byref(pending)) == 0
    return device(
        "nvidia",
        model=_nvml_text(nvml.nvmlDeviceGetName, handle),
        uuid=_nvml_text(nvml.nvmlDeviceGetUUID, handle),
        memory_bytes=memory[0] if has_memory else None,
        compute_capability="{}.{}".format(major.value, minor.value) if has_capability else None,
        mig=("enabled" if mig.value else "disabled") if has_mig else None,
    )


def device(vendor: str, **known: Any) -> Dict[str, Any]:
    """One GPU of the report; what is not known is None."""
    row: Dict[str, Any] = dict.fromkeys(("vendor", "model", "uuid", "memory_bytes", "compute_capability", "mig"))
    row.update(known, vendor=vendor)
    return row


def pci_devices(host: Host) -> List[str]:
    """Vendors of the display and 3D controllers on the PCI bus."""
    vendors = []
    for name in host.list(PCI):
        if (host.read_or_none("{}/{}/class".format(PCI, name)) or "").startswith(
            ("0x0300", "0x0302", "0x0380", "0x1200")
        ):
            vendor = VENDORS.get((host.read_or_none("{}/{}/vendor".format(PCI, name)) or "").strip())
            vendors += [vendor] if vendor else []
    return vendors


def kernel_driver_version(text: Optional[str]) -> Optional[str]:
    """The version in /proc/driver/nvidia/version: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15 ..."."""
    match = re.search(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", text or "")
    return match.group(1) if match else None


def visible_devices(environment: Dict[str, str]) -> Optional[List[str]]:
    """The devices that the slot was given, as written there; None when nothing was said."""
    for name in VISIBLE_VARIABLES:
        if name in environment:
            return [word.strip()[:256] for word in environment[name].split(",") if word.strip()][:64]
    return None


def try_open(path: str) -> int:
    """The errno of opening a device file, 0 when it opens. May hang."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def judge_nvidia(control: int, result: Result, module: Optional[str]) -> Tuple[str, Optional[str], Optional[str]]:
    """Status, reason and message from the control device's errno, NVML's answer and the kernel module's version."""
    if module is None:
        return "fail", "gpu_driver_missing", "the nvidia kernel module is not loaded"
    if control == errno.ENOENT:
        return "fail", "gpu_device_missing", "/dev/nvidiactl does not exist"
    if control:
        return "fail", "gpu_device_denied", "/dev/nvidiactl: {}".format(os.strerror(control))
    if result.state == "timeout":
        return "timeout", "gpu_timeout", "NVML gave no answer within {:.0f} s".format(LIMIT_S)
    if result.state != "done":
        return "fail", "gpu_driver_missing", result.detail
    if result.value["error"]:
        reason = NVML_REASONS.get(result.value["error"], "gpu_driver_error")
        return "fail", reason, "{} gave error {}".format(result.value["call"], result.value["error"])
    if not result.value["devices"]:
        return "fail", "gpu_none", "the driver knows no device"
    return "ok", None, None


def detect(host: Host, _settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``gpus``; a node without any costs a look at the PCI bus and two folders."""
    names = host.list("/dev")
    vendors = pci_devices(host)
    module = kernel_driver_version(host.read_or_none("/proc/driver/nvidia/version"))
    if module is None and "nvidia" not in vendors and not any(name.startswith("nvidia") for name in names):
        yield _others(host, names, vendors)
        return
    results = host.attempt_all(
        LIMIT_S, {"gpus.control": [try_open, "/dev/nvidiactl"], "gpus.nvml": [ask_nvml, NVML_LIBRARY]}
    )
    control = results["gpus.control"].value
    status, reason, message = judge_nvidia(errno.EIO if control is None else control, results["gpus.nvml"], module)
    answer = results["gpus.nvml"].value if status == "ok" else {}
    visible = visible_devices(host.environment)
    if status == "ok" and visible is not None and set(visible) <= {"na", "-1", "none", "void", "NoDevFiles"}:
        status, reason, message = (
            "fail",
            "gpu_not_visible",
            "the slot's devices are {}".format(",".join(visible) or "none"),
        )
    yield _findings(status, reason, message, visible, answer.get("driver_version") or module, answer)


def _others(host: Host, names: List[str], vendors: List[str]) -> Findings:
    visible = visible_devices(host.environment)
    if "kfd" in names:
        devices = [device("amd") for _ in range(max(1, vendors.count("amd")))]
        return _findings(
            "unknown", "cannot_be_tried", "AMD devices are seen, not yet tried", visible, None, {"devices": devices}
        )
    if vendors:
        devices = [device(vendor) for vendor in vendors]
        return _findings(
            "fail", "gpu_driver_missing", "a device on the PCI bus has no driver", visible, None, {"devices": devices}
        )
    return _findings("fail", "gpu_none", "no GPU", visible, None, {})


def _findings(
    status: str,
    reason: Optional[str],
    message: Optional[str],
    visible: Optional[List[str]],
    driver_version: Optional[str],
    answer: Dict[str, Any],
) -> Findings:
    data = unknown(status, reason, message)
    data.update(
        visible=visible,
        driver_version=driver_version,
        cuda_version=answer.get("cuda_version"),
        devices=answer.get("devices", []),
    )
    own = check("gpus", status, reason, message, driver_version=driver_version, devices=len(data["devices"]))
    return {"data": data, "checks": [own, data["container"]]}


def unknown(status: str, reason: Optional[str], message: Optional[str]) -> Dict[str, Any]:
    """The report's ``gpus`` where nothing more is known than a status."""
    container = check(
        "gpus.container",
        "skipped",
        "not_applicable" if reason == "gpu_none" else "not_requested",
        "GPUs inside containers are not tried yet",
    )
    return {
        "status": status, "reason": reason, "message": message, "driver_version": None, "cuda_version": None,
        "visible": None, "devices": [], "driver_libraries_glibc": None, "container": container,
    }  # fmt: skip
