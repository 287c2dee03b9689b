"""NVIDIA: what NVML and CUDA's driver say, which device files open, whether module and libraries are of one version.

The libraries are loaded in children: a wedged driver hangs in ioctl, and a broken library may crash. What ``status``
says is what a program on the host would meet; nvidia-smi is asked where NVML cannot be, and where one wants to compare.
"""

import errno
import os
import re
from typing import Any, Dict, List, Optional

from probe.checks import Check, check
from probe.detectors import gpu_libraries
from probe.detectors.gpu_api import ask_cuda, ask_nvml
from probe.detectors.gpu_errors import OK, Judgement, judge_answer
from probe.detectors.gpu_signs import Signs
from probe.host import Host
from probe.workers import Result

# A driver without persistence starts each GPU anew, about a second apiece.
LIMIT_S = 15.0
NVML, CUDA = "libnvidia-ml.so.1", "libcuda.so.1"
CONTROL, UVM = "/dev/nvidiactl", "/dev/nvidia-uvm"
DENIED = (errno.EACCES, errno.EPERM)


def kernel_driver_version(text: Optional[str]) -> Optional[str]:
    """The version in /proc/driver/nvidia/version: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15 ..."."""
    match = re.search(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", text or "")
    return match.group(1) if match else None


def open_each(places: Dict[str, str]) -> Dict[str, int]:
    """The errno of opening each device file for reading and writing, 0 where it opens; {path: where it lies}. May hang."""
    found = {}
    for path, place in places.items():
        found[path] = 0
        try:
            os.close(os.open(place, os.O_RDWR | os.O_NONBLOCK))
        except OSError as error:
            found[path] = error.errno or errno.EIO
    return found


def device_paths(names: List[str]) -> List[str]:
    """The device files to open: control and unified memory whether they are there or not, then those of GPUs."""
    return [CONTROL, UVM, *["/dev/" + name for name in names if re.match(r"nvidia\d+$", name)][:64]]


def judge_files(files: Dict[str, int]) -> Judgement:
    """The device files: one GPU's that opens is enough, as batch systems close the others to a job."""
    control = files.get(CONTROL, errno.ENOENT)
    gpus = {path: error for path, error in files.items() if path not in (CONTROL, UVM)}
    if control == errno.ENOENT or not gpus:
        missing = CONTROL if control == errno.ENOENT else "/dev/nvidia0"
        return Judgement("fail", "gpu_device_missing", "{} does not exist".format(missing))
    for path, error in [(CONTROL, control)] + (list(gpus.items())[:1] if all(gpus.values()) else []):
        if error:
            reason = "gpu_device_denied" if error in DENIED else "gpu_driver_error"
            return Judgement("fail", reason, "{}: {}".format(path, os.strerror(error)))
    if files.get(UVM) == errno.ENOENT:
        return Judgement("fail", "gpu_uvm_missing", UVM + " does not exist")
    if files.get(UVM):
        return Judgement("fail", "gpu_device_denied", "{}: {}".format(UVM, os.strerror(files[UVM])))
    return OK


def judge(files: Judgement, nvml: Judgement, cuda: Judgement, versions: List[Optional[str]]) -> Judgement:
    """What a program on the host meets: CUDA's answer; where that is bad, the nearest cause."""
    if cuda.ok:
        return OK
    module, library = versions
    # Without a module nothing else tells more; with it, files that are closed explain what the libraries say.
    if module is None and (files.reason == "gpu_device_missing" or nvml.reason == "gpu_driver_missing"):
        return Judgement("fail", "gpu_driver_missing", "the nvidia kernel module is not loaded")
    if files.reason in ("gpu_device_missing", "gpu_device_denied"):
        return files
    worst = nvml if not nvml.ok else cuda
    if module and library and module != library and worst.reason != "gpu_driver_missing":
        message = "kernel module {}, libraries {}: {}".format(module, library, worst.message)
        return Judgement("fail", "gpu_driver_mismatch", message)
    if nvml.ok and files.reason == "gpu_uvm_missing":
        return Judgement("fail", "gpu_uvm_missing", "{}, and {}".format(files.message, cuda.message))
    return worst


def examine(host: Host, signs: Signs) -> Dict[str, Any]:
    """All about NVIDIA: {"judgement", "data" for the report's gpus, "checks", "listed": NVML's devices,
    "counted": how many CUDA sees}."""
    limit_s = host.limit(LIMIT_S, 0.4)
    paths = device_paths(signs["devices"])
    folders = [folder for folder in (host.environment.get("LD_LIBRARY_PATH") or "").split(":") if folder]
    results = host.attempt_all(
        limit_s,
        {
            "gpus.files": [open_each, {path: host.at(path) for path in paths}],
            "gpus.nvml": [ask_nvml, NVML],
            "gpus.cuda": [ask_cuda, CUDA],
            "gpus.libraries": [gpu_libraries.examine, folders, host.facts()["arch"]],
        },
    )
    # A file that was not there before the driver was called is missing for the next job, too, if that is a container's.
    present = {"/dev/" + name for name in signs["devices"]}
    opened = results["gpus.files"].value or {}
    opened = {path: opened.get(path, errno.ETIMEDOUT) if path in present else errno.ENOENT for path in paths}
    files = judge_files(opened)
    nvml = judge_answer("nvml", NVML, results["gpus.nvml"], limit_s)
    cuda = judge_answer("cuda", CUDA, results["gpus.cuda"], limit_s)
    answer, initialised = _value(results["gpus.nvml"]), _value(results["gpus.cuda"])
    if nvml.ok:
        nvml = judge_devices(answer["devices"])
    libraries = _value(results["gpus.libraries"])
    module = kernel_driver_version(signs["module"])
    judgement = judge(files, nvml, cuda, [module, libraries.get("version")])
    data = {
        "driver_version": answer.get("driver_version") or module,
        "module_version": module,
        "cuda_version": answer.get("cuda_version") or initialised.get("cuda_version"),
        "devices": answer.get("devices") or initialised.get("devices", []),
        "device_files": [{"path": path, "errno": error} for path, error in opened.items()],
        "driver_libraries_glibc": libraries.get("driver_glibc"),
        "display_libraries_glibc": libraries.get("display_glibc"),
    }
    checks = [
        _check("gpus.device_files", files, results["gpus.files"], opened=_lines(opened)),
        _check("gpus.nvml", nvml, results["gpus.nvml"], error=answer.get("error")),
        _check(
            "gpus.cuda", cuda, results["gpus.cuda"], error=initialised.get("error"), devices=initialised.get("count")
        ),
    ]
    if "load" in answer or host.environment.get("PROBE_NVIDIA_SMI") == "1":
        from probe.detectors import gpu_smi

        checks.append(gpu_smi.ask(host, data))
    seen = {"listed": answer.get("devices", []), "counted": initialised.get("count")}
    return dict({"judgement": judgement, "data": data, "checks": checks}, **seen)


def judge_devices(devices: List[Dict[str, Any]]) -> Judgement:
    """NVML's devices: at least one that answers."""
    if not devices:
        return Judgement("fail", "gpu_none", "the driver knows no device")
    codes = [row["error"] for row in devices]
    if not all(codes):
        return OK
    answer = Result("done", {"error": codes[0], "call": "nvmlDeviceGetHandleByIndex_v2"}, "", None, 0.0)
    return judge_answer("nvml", NVML, answer, 0.0)


def _value(result: Result) -> Dict[str, Any]:
    value: Dict[str, Any] = result.value or {}
    return value


def _lines(opened: Dict[str, int]) -> List[str]:
    return ["{}: {}".format(path, os.strerror(error) if error else "opens") for path, error in opened.items()]


def _check(identifier: str, judgement: Judgement, result: Result, **evidence: Any) -> Check:
    return check(identifier, judgement.status, judgement.reason, judgement.message, result.duration_s, **evidence)
