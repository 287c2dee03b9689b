"""Signs of GPUs, NVIDIA's words and files, AMD's and Intel's sysfs: nodes made of files."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
from pathlib import Path
from typing import Any

import pytest

from probe.detectors import gpu_api, gpu_drm, gpu_errors, gpu_nvidia, gpu_signs, gpu_smi, gpus
from probe.host import Host
from tests.probe.samples import settings as settings_of

VERSIONS = [
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version:  gcc 11\n",
     "550.54.15"),
    ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build  (dvs-builder)\n", "565.57.01"),
    ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82  Wed Oct 27\n", "470.82"),
    ("NVRM version: NVIDIA UNIX aarch64 Kernel Module  535.183.06  Wed\n", "535.183.06"),
    ("", None),
    (None, None),
    ("something else 1.2.3\n", None),
]  # fmt: skip
NO_SETTINGS = settings_of()


@pytest.mark.parametrize(("text", "version"), VERSIONS)
def test_the_kernel_modules_version(text, version):
    assert gpu_nvidia.kernel_driver_version(text) == version


@pytest.mark.parametrize(
    ("number", "version"),
    [(12040, "12.4"), (11080, "11.8"), (13000, "13.0"), (9020, "9.2"), (10000, "10.0"), (0, None), (None, None)],
)
def test_the_cuda_version(number, version):
    assert gpu_api.cuda_version(number) == version


def test_a_uuid_is_written_as_nvml_writes_it():
    data = bytes.fromhex("8932f937d72c4106c12f20bd9faed9f6")
    assert gpu_api.uuid_text(data) == "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


PCI = """0000\t80861237\t0\t0\t0
0018\t1a032000\t10\tfa000000
0500\t{}\t1c\tf6000008\tnvidia
"""


@pytest.mark.parametrize(
    ("number", "vendors"),
    [("10de20b0", ["nvidia"]), ("1002740f", ["amd"]), ("1002515e", []), ("8086a7a0", []), ("", [])],
)
def test_vendors_on_the_pci_bus(number, vendors):
    assert gpu_signs.pci_vendors(PCI.format(number)) == vendors
    assert gpu_signs.pci_vendors("garbage\n\n") == []


def write(root: Path, files: dict[str, str]) -> Host:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Host({}, str(root))


def test_a_node_without_any_sign_is_answered_without_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Host, "attempt_all", None)
    host = write(tmp_path, {"dev/null": "", "proc/bus/pci/devices": PCI.format("80861237")})
    host.environment["CUDA_VISIBLE_DEVICES"] = "10000"
    found = gpu_signs.nothing(host, NO_SETTINGS)
    assert found is not None
    assert (found["data"]["status"], found["data"]["reason"]) == ("fail", "gpu_none")
    assert (found["data"]["visible"], found["data"]["visible_count"]) == (["10000"], 0)
    assert [row["id"] for row in found["checks"]] == ["gpus"]


def test_a_claim_without_a_gpu_has_its_own_reason_without_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Host, "attempt_all", None)
    settings = settings_of({"GLIDEIN_Resource_Slots": "GPUs,1,type=main"})
    found = gpu_signs.nothing(Host({}, str(tmp_path)), settings)
    assert found is not None
    assert [row["reason"] for row in found["checks"]] == ["gpu_none", "gpu_claimed_but_none"]
    assert found["data"]["claim"] == "GPUs,1,type=main"


@pytest.mark.parametrize(
    "name",
    ["dev/nvidiactl", "dev/nvidia0", "proc/driver/nvidia/version", "sys/class/drm/renderD128/device/uevent",
     "sys/class/kfd/kfd/topology/nodes/1/name"],
)  # fmt: skip
def test_each_sign_of_a_gpu_is_looked_into(tmp_path: Path, name):
    assert gpu_signs.nothing(write(tmp_path, {name: "x"}), NO_SETTINGS) is None


FILES = {"/dev/nvidiactl": 0, "/dev/nvidia-uvm": 0, "/dev/nvidia0": 0, "/dev/nvidia1": 0}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"/dev/nvidia1": errno.EPERM}, None),  # another slot's, closed by the batch system
        ({"/dev/nvidia0": errno.EPERM, "/dev/nvidia1": errno.EPERM}, "gpu_device_denied"),
        ({"/dev/nvidia0": errno.EIO, "/dev/nvidia1": errno.EIO}, "gpu_driver_error"),
        ({"/dev/nvidiactl": errno.EACCES}, "gpu_device_denied"),
        ({"/dev/nvidiactl": errno.EPERM}, "gpu_device_denied"),
        ({"/dev/nvidiactl": errno.ENOENT}, "gpu_device_missing"),
        ({"/dev/nvidia-uvm": errno.ENOENT}, "gpu_uvm_missing"),
        ({"/dev/nvidia-uvm": errno.EPERM}, "gpu_device_denied"),
    ],
)
def test_device_files_are_judged_by_what_opening_them_gives(changes, reason):
    assert gpu_nvidia.judge_files({**FILES, **changes}).reason == reason


def test_no_gpus_file_is_a_missing_one():
    found = gpu_nvidia.judge_files({"/dev/nvidiactl": 0, "/dev/nvidia-uvm": 0})
    assert found.reason == "gpu_device_missing"


def test_denied_files_explain_what_the_libraries_say():
    denied = gpu_errors.Judgement("fail", "gpu_device_denied", "/dev/nvidiactl: Operation not permitted")
    unknown = gpu_errors.judge_code("nvml", "nvmlInit_v2", 999)
    assert gpu_nvidia.judge(denied, unknown, unknown, ["550.1", "550.1"]) == denied


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("libcuda.so.1: cannot open shared object file: No such file or directory", "gpu_driver_missing"),
        ("/lib64/libc.so.6: version `GLIBC_2.34' not found (required by /usr/lib64/libcuda.so.1)",
         "gpu_library_glibc_too_new"),
        ("libcuda.so.1: file too short", "gpu_driver_error"),
        ("libcuda.so.1: wrong ELF class: ELFCLASS32", "gpu_driver_error"),
    ],
)  # fmt: skip
def test_why_a_library_was_not_loaded(text, reason):
    assert gpu_errors.judge_loading(text).reason == reason


def test_lines_of_nvidia_smi_that_are_of_another_form_are_left_out():
    assert gpu_smi.parse("No devices were found\n\nA, B\n") == []


NODE = "sys/class/kfd/kfd/topology/nodes/"
MI250 = {
    "dev/kfd": "",
    "dev/dri/renderD128": "",
    "sys/class/drm/renderD128/device/uevent": "DRIVER=amdgpu\nPCI_ID=1002:740C\nPCI_SLOT_NAME=0000:c1:00.0\n",
    "sys/module/amdgpu/version": "6.7.0\n",
    "opt/rocm/.info/version": "6.1.2-90\n",
    NODE + "0/properties": "cpu_cores_count 64\nsimd_count 0\nvendor_id 4098\ngfx_target_version 0\n",
    NODE + "1/properties": "simd_count 440\nvendor_id 4098\ngfx_target_version 90010\nunique_id 11140567911\n"
    "drm_render_minor 128\n",
    NODE + "1/name": "aldebaran\n",
    NODE + "1/mem_banks/0/properties": "heap_type 1\nsize_in_bytes 68702699520\n",
    NODE + "1/mem_banks/1/properties": "heap_type 4\nsize_in_bytes 65536\n",
}


def found_on(host: Host) -> dict[str, Any]:
    (findings,) = gpus.detect(host, NO_SETTINGS, {})
    data: dict[str, Any] = findings["data"]
    return data


def test_amds_gpus_are_those_of_kfd(tmp_path: Path):
    data = found_on(write(tmp_path, MI250))
    assert (data["status"], data["driver_version"], data["rocm_version"]) == ("ok", "6.7.0", "6.1.2-90")
    assert data["visible_count"] == 1
    assert data["devices"] == [
        gpu_api.device(
            "amd", model="aldebaran", uuid="GPU-0000000298079367", memory_bytes=68702699520,
            compute_capability="gfx90a", driver="amdgpu",
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("missing", "reason"), [("dev/kfd", "gpu_device_missing"), ("dev/dri/renderD128", "gpu_device_missing")]
)
def test_amds_device_files_are_needed(tmp_path: Path, missing, reason):
    data = found_on(write(tmp_path, {name: text for name, text in MI250.items() if name != missing}))
    assert (data["status"], data["reason"]) == ("fail", reason)
    assert data["visible_count"] is None


def test_a_slot_without_one_of_amds_gpus(tmp_path: Path):
    host = write(tmp_path, MI250)
    host.environment["ROCR_VISIBLE_DEVICES"] = "3"
    data = found_on(host)
    assert (data["status"], data["reason"]) == ("fail", "gpu_not_visible")
    assert data["message"] == "ROCR_VISIBLE_DEVICES: 3 is no device here"


@pytest.mark.parametrize("vendor", ["10de20b0", "1002740f"])
def test_a_gpu_on_the_bus_without_a_driver(tmp_path: Path, vendor):
    data = found_on(write(tmp_path, {"proc/bus/pci/devices": PCI.format(vendor)}))
    assert (data["status"], data["reason"]) == ("fail", "gpu_driver_missing")


@pytest.mark.parametrize(
    ("uevent", "outcome"),
    [
        ("DRIVER=i915\nPCI_ID=8086:56C0\nPCI_SLOT_NAME=0000:29:00.0\n", ("ok", None)),
        ("DRIVER=i915\nPCI_ID=8086:3E92\nPCI_SLOT_NAME=0000:00:02.0\n", ("fail", "gpu_none")),  # a CPU's own
        ("DRIVER=virtio-pci\nPCI_ID=1AF4:1050\nPCI_SLOT_NAME=0000:00:01.0\n", ("fail", "gpu_none")),
    ],
)
def test_intels_gpus_are_render_nodes_that_are_no_part_of_a_cpu(tmp_path: Path, uevent, outcome):
    files = {"sys/class/drm/renderD129/device/uevent": uevent, "dev/dri/renderD129": ""}
    data = found_on(write(tmp_path, files))
    assert (data["status"], data["reason"]) == outcome
    assert [row["vendor"] for row in data["devices"]] == (["intel"] if outcome[0] == "ok" else [])


@pytest.mark.parametrize(
    ("number", "name"),
    [("90010", "gfx90a"), ("90402", "gfx942"), ("110501", "gfx1151"), ("100300", "gfx1030"), ("0", None), (None, None),
     ("x", None)],
)  # fmt: skip
def test_the_name_of_an_architecture(number, name):
    assert gpu_drm.architecture(number) == name


@pytest.mark.parametrize(("text", "version"), [("6.1.2-90\n", "6.1.2-90"), ("", None), ("<html>", None)])
def test_the_version_of_rocm(tmp_path: Path, text, version):
    (tmp_path / "version").write_text(text)
    assert gpu_drm.read_version(str(tmp_path / "version")) == version
    assert gpu_drm.read_version(str(tmp_path / "no")) is None
