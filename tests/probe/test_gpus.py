"""GPUs: what files and NVML say, and what follows from it."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import subprocess

import pytest

from probe.detectors import gpus
from probe.host import Host
from tests.probe.samples import HUNG, died, done

VERSIONS = [
    (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc 11\n",
        "550.54.15",
    ),
    (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build  (dvs-builder)\n",
        "565.57.01",
    ),
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82  Wed Oct 27\n", "470.82"),
    ("NVRM version: NVIDIA UNIX aarch64 Kernel Module  535.183.06  Wed\n", "535.183.06"),
    ("", None),
    (None, None),
    ("something else 1.2.3\n", None),
]


@pytest.mark.parametrize(("text", "version"), VERSIONS)
def test_the_kernel_modules_version(text, version):
    assert gpus.kernel_driver_version(text) == version


@pytest.mark.parametrize(
    ("number", "version"), [(12040, "12.4"), (11080, "11.8"), (13000, "13.0"), (9020, "9.2"), (0, None)]
)
def test_the_cuda_version(number, version):
    assert gpus.cuda_version(number) == version


@pytest.mark.parametrize(
    ("environment", "visible"),
    [
        ({}, None),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, ["0", "1"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
        ({"CUDA_VISIBLE_DEVICES": " GPU-1 , ", "NVIDIA_VISIBLE_DEVICES": "all"}, ["GPU-1"]),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, ["void"]),
        ({"CUDA_VISIBLE_DEVICES": ",".join(["x" * 1000] * 1000)}, ["x" * 256] * 64),
    ],
)
def test_the_devices_that_the_slot_was_given(environment, visible):
    assert gpus.visible_devices(environment) == visible


def nvml(error: int | None = None, devices: int = 1, call: str = "nvmlInit_v2"):
    return done({"error": error, "call": call} if error else {"error": None, "devices": [{}] * devices})


@pytest.mark.parametrize(
    ("control", "answer", "module", "status", "reason"),
    [
        (0, nvml(), "550.1", "ok", None),
        (0, nvml(), None, "fail", "gpu_driver_missing"),
        (errno.ENOENT, nvml(), "550.1", "fail", "gpu_device_missing"),
        (errno.EACCES, nvml(), "550.1", "fail", "gpu_device_denied"),
        (errno.EPERM, nvml(), "550.1", "fail", "gpu_device_denied"),
        (0, HUNG, "550.1", "timeout", "gpu_timeout"),
        (0, died("OSError: libnvidia-ml.so.1: cannot open shared object file"), "550.1", "fail", "gpu_driver_missing"),
        (0, nvml(4), "550.1", "fail", "gpu_device_denied"),
        (0, nvml(6), "550.1", "fail", "gpu_none"),
        (0, nvml(9), "550.1", "fail", "gpu_driver_missing"),
        (0, nvml(18), "550.1", "fail", "gpu_driver_mismatch"),
        (0, nvml(999), "550.1", "fail", "gpu_driver_error"),
        (0, nvml(devices=0), "550.1", "fail", "gpu_none"),
    ],
)
def test_nvidia_is_judged_by_module_device_and_nvml(control, answer, module, status, reason):
    found = gpus.judge_nvidia(control, answer, module)
    assert found[:2] == (status, reason)
    assert (found[2] is None) == (status == "ok")


def test_display_controllers_on_the_pci_bus_are_found_by_class_and_vendor(tmp_path):
    devices = [
        ("0x030200", "0x10de"),
        ("0x030000", "0x1002"),
        ("0x020000", "0x10de"),
        ("0x030000", "0x1a03"),
        ("0x120000", "0x1002"),
    ]
    for number, (kind, vendor) in enumerate(devices):
        folder = tmp_path / f"sys/bus/pci/devices/0000:0{number}:00.0"
        folder.mkdir(parents=True)
        (folder / "class").write_text(kind + "\n")
        (folder / "vendor").write_text(vendor + "\n")
    assert gpus.pci_devices(Host({}, str(tmp_path))) == ["nvidia", "amd", "amd"]


def test_a_device_file_is_tried_by_opening_it(tmp_path):
    assert (gpus.try_open("/dev/null"), gpus.try_open(str(tmp_path / "no"))) == (0, errno.ENOENT)


NVML = r"""
#include <string.h>
int nvmlInit_v2(void) { return INIT; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *v) { *v = 12040; return 0; }
int nvmlSystemGetDriverVersion(char *b, unsigned n) { strncpy(b, "550.54.15", n); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)0x7fff12345678; return 0; }
static int good(void *h) { return h == (void *)0x7fff12345678 ? 0 : 2; }
int nvmlDeviceGetMemoryInfo(void *h, unsigned long long *m) { m[0] = 48305799168ULL; return good(h); }
int nvmlDeviceGetCudaComputeCapability(void *h, int *a, int *b) { *a = 8; *b = 6; return good(h); }
int nvmlDeviceGetMigMode(void *h, unsigned *a, unsigned *b) { return 3; }
int nvmlDeviceGetName(void *h, char *b, unsigned n) { strncpy(b, "NVIDIA A40", n); return good(h); }
int nvmlDeviceGetUUID(void *h, char *b, unsigned n) { strncpy(b, "GPU-1", n); return good(h); }
"""


@pytest.fixture
def library(tmp_path):
    """Builds a library that answers like NVML; the number is what its init gives."""

    def build(init: int) -> str:
        path = tmp_path / f"nvml{init}.so"
        command = ["cc", "-shared", "-fPIC", f"-DINIT={init}", "-x", "c", "-", "-o", str(path)]
        subprocess.run(command, input=NVML, text=True, check=True, timeout=60)
        return str(path)

    return build


def test_nvml_is_asked_by_ctypes_with_whole_pointers(library):
    assert gpus.ask_nvml(library(0)) == {
        "error": None,
        "driver_version": "550.54.15",
        "cuda_version": "12.4",
        "devices": [
            gpus.device("nvidia", model="NVIDIA A40", uuid="GPU-1", memory_bytes=48305799168, compute_capability="8.6")
        ],
    }


def test_an_error_of_nvml_is_told_by_number_and_call(library):
    assert gpus.ask_nvml(library(18)) == {"error": 18, "call": "nvmlInit_v2"}


def test_a_missing_library_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="no\\.so"):
        gpus.ask_nvml(str(tmp_path / "no.so"))
