"""GPUs put together: drivers that stand in for NVIDIA's, on nodes made of files, and what the report says of them."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from jsonschema import Draft202012Validator

from probe.detectors import gpu_errors, gpu_nvidia, gpus
from probe.host import Host
from tests.lab import gpu_standin
from tests.probe.samples import SCHEMA, settings

MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
A40, A100 = "GPU-11111111-aaaa-4000-8000-000000000001", "GPU-22222222-bbbb-4000-8000-000000000002"
Node = Callable[..., Host]


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu_standin.build(tmp_path_factory.mktemp("libraries"))


@pytest.fixture
def node(tmp_path: Path, libraries: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Makes a node with two GPUs, its files as said; keywords are the environment, of the host and of the stand-ins."""
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def make(*missing: str, module: str | None = MODULE, **environment: str) -> Host:
        monkeypatch.setattr(gpu_nvidia, "NVML", str(libraries / "libnvidia-ml.so.1"))
        monkeypatch.setattr(gpu_nvidia, "CUDA", str(libraries / "libcuda.so.1"))
        write(tmp_path, {f"dev/{name}": "" for name in ("nvidiactl", "nvidia-uvm", "nvidia0", "nvidia1")})
        for name in missing:
            (tmp_path / "dev" / name).unlink()
        if module is not None:
            write(tmp_path, {"proc/driver/nvidia/version": module})
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return Host({"LD_LIBRARY_PATH": str(libraries), **environment}, str(tmp_path))

    return make


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def found(host: Host, slots: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The report's gpus, and its checks by id."""
    (findings,) = gpus.detect(host, settings({"GLIDEIN_Resource_Slots": slots} if slots else {}), {})
    findings = json.loads(json.dumps(findings))
    Draft202012Validator({"$defs": SCHEMA["$defs"], **SCHEMA["properties"]["gpus"]}).validate(findings["data"])
    return findings["data"], {row["id"]: row for row in findings["checks"]}


def outcome(row: dict[str, Any]) -> tuple[str, str | None]:
    return row["status"], row["reason"]


def test_a_node_whose_driver_answers(node: Node):
    data, checks = found(node())
    assert outcome(data) == ("ok", None)
    assert (data["driver_version"], data["module_version"], data["cuda_version"]) == ("550.54.15", "550.54.15", "12.4")
    assert [row["uuid"] for row in data["devices"]] == [A40, A100]
    assert [row["mig"] for row in data["devices"]] == [None, "enabled"]
    assert [instance["uuid"][:12] for instance in data["devices"][1]["instances"]] == ["MIG-33333333", "MIG-44444444"]
    assert data["devices"][0] == gpu_nvidia_device()
    assert data["driver_libraries_glibc"] is not None
    assert {row["path"]: row["errno"] for row in data["device_files"]} == dict.fromkeys(
        ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidia1"), 0
    )
    assert data["visible_count"] == 2
    assert all(row["status"] == "ok" for row in checks.values())


def gpu_nvidia_device() -> dict[str, Any]:
    return {
        "vendor": "nvidia", "model": "NVIDIA A40", "uuid": A40, "memory_bytes": 48318382080, "mig": None,
        "compute_capability": "8.6", "ecc": True, "persistence": True, "error": None, "instances": [],
    }  # fmt: skip


CODES = [(kind, int(code), reason) for kind, rows in gpu_errors.table().items() if kind in ("nvml", "cuda")
         for code, (_, reason) in rows.items()]  # fmt: skip


@pytest.mark.parametrize(("kind", "code", "reason"), [*CODES, ("nvml", 77, "gpu_driver_error")])
def test_each_error_code_of_a_library_has_its_reason(node: Node, kind, code, reason):
    both = {"GPU_STANDIN_CUDA": f"error {code if kind == 'cuda' else 999}", "GPU_STANDIN_NVML": "ok"}
    data, checks = found(node(**(both | ({"GPU_STANDIN_NVML": f"error {code}"} if kind == "nvml" else {}))))
    assert outcome(data) == ("timeout" if reason == "gpu_timeout" else "fail", reason)
    assert f"error {code} (" in data["message"]
    assert checks["gpus." + kind]["evidence"]["error"] == code


@pytest.mark.parametrize("library", ["GPU_STANDIN_NVML", "GPU_STANDIN_CUDA"])
@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [("hang", "timeout", "gpu_timeout"), ("crash", "fail", "gpu_driver_crashed")],
)
def test_a_library_that_hangs_or_crashes_costs_its_limit_and_no_more(
    node: Node, monkeypatch: pytest.MonkeyPatch, library, behaviour, status, reason
):
    monkeypatch.setattr(gpu_nvidia, "LIMIT_S", 0.7)
    host = node(**{"GPU_STANDIN_CUDA": "error 999", library: behaviour})
    before = psutil.Process().children()
    began = time.monotonic()
    data, _ = found(host)
    assert outcome(data) == (status, reason)
    assert time.monotonic() - began < 8
    assert psutil.Process().children() == before


def test_a_management_library_that_hangs_is_told_and_is_no_failure_where_cuda_works(
    node: Node, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gpu_nvidia, "LIMIT_S", 2.0)
    data, checks = found(node(GPU_STANDIN_NVML="hang"))
    assert outcome(data) == ("ok", None)
    assert outcome(checks["gpus.nvml"]) == ("timeout", "gpu_timeout")
    assert [row["model"] for row in data["devices"]] == ["NVIDIA A40", "NVIDIA A40"]


def test_libraries_that_are_missing(node: Node, monkeypatch: pytest.MonkeyPatch):
    host = node()
    monkeypatch.setattr(gpu_nvidia, "NVML", "libnvidia-ml.so.of-nobody")
    monkeypatch.setattr(gpu_nvidia, "CUDA", "libcuda.so.of-nobody")
    data, checks = found(host)
    assert outcome(data) == ("fail", "gpu_driver_missing")
    assert "cannot open shared object file" in data["message"]
    assert outcome(checks["gpus.nvidia_smi"]) == ("unknown", "cannot_be_tried")


def test_a_library_that_needs_a_newer_c_library_than_the_host_has(
    node: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    host = node()
    needing = gpu_standin.build_needing(tmp_path / "needing", "GLIBC_2.99")
    monkeypatch.setattr(gpu_nvidia, "CUDA", str(needing))
    host.environment["LD_LIBRARY_PATH"] = str(needing.parent)
    data, _ = found(host)
    assert outcome(data) == ("fail", "gpu_library_glibc_too_new")
    assert data["driver_libraries_glibc"] == "2.99"


@pytest.mark.parametrize(
    ("missing", "environment", "reason", "word"),
    [
        (["nvidiactl"], {"GPU_STANDIN_NVML": "error 999"}, "gpu_device_missing", "/dev/nvidiactl"),
        (["nvidia0", "nvidia1"], {}, "gpu_device_missing", "/dev/nvidia0"),
        (["nvidia-uvm"], {"GPU_STANDIN_CUDA": "error 999"}, "gpu_uvm_missing", "/dev/nvidia-uvm"),
    ],
)
def test_device_files_that_are_missing_are_the_cause(node: Node, missing, environment, reason, word):
    data, checks = found(node(*missing, **({"GPU_STANDIN_CUDA": "error 100"} | environment)))
    assert outcome(data) == ("fail", reason)
    assert word in data["message"]
    assert outcome(checks["gpus.device_files"]) == ("fail", reason)


def test_a_missing_uvm_file_is_told_where_cuda_makes_it_itself(node: Node):
    data, checks = found(node("nvidia-uvm"))
    assert outcome(data) == ("ok", None)
    assert outcome(checks["gpus.device_files"]) == ("fail", "gpu_uvm_missing")


@pytest.mark.parametrize(
    ("module", "environment", "reason"),
    [
        (MODULE.replace("550.54.15", "535.104.05"), {"GPU_STANDIN_NVML": "error 18"}, "gpu_driver_mismatch"),
        (MODULE.replace("550.54.15", "535.104.05"), {"GPU_STANDIN_NVML": "error 999"}, "gpu_driver_mismatch"),
        (MODULE.replace("550.54.15", "535.104.05"), {"GPU_STANDIN_CUDA": "error 804"}, "gpu_driver_mismatch"),
        (None, {"GPU_STANDIN_NVML": "error 9"}, "gpu_driver_missing"),
    ],
)
def test_module_and_libraries_of_different_versions(node: Node, module, environment, reason):
    data, _ = found(node(module=module, **({"GPU_STANDIN_CUDA": "error 999"} | environment)))
    assert outcome(data) == ("fail", reason)
    if reason == "gpu_driver_mismatch":
        assert "535.104.05" in data["message"]
        assert "550.54.15" in data["message"]


def test_devices_that_are_lost_are_told_with_their_code(node: Node):
    data, _ = found(node(GPU_STANDIN_DEVICE="15", GPU_STANDIN_CUDA="error 999"))
    assert outcome(data) == ("fail", "gpu_lost")
    assert [row["error"] for row in data["devices"]] == [15, 15]


def test_answers_that_no_driver_gives_are_unknown_and_fit_the_report(node: Node):
    data, _ = found(node(GPU_STANDIN_COUNT="-5", GPU_STANDIN_DEVICE="-1"))
    assert data["visible_count"] is None or data["visible_count"] >= 0
    assert {row["error"] for row in data["devices"]} <= {0xFFFFFFFF}
    data, _ = found(node(GPU_STANDIN_NVML="error -7", GPU_STANDIN_CUDA="error -7"))
    assert outcome(data) == ("fail", "gpu_driver_error")


def test_an_old_driver_without_newer_functions_still_tells_its_devices(node: Node):
    data, _ = found(node(GPU_STANDIN_OLD="1"))
    assert outcome(data) == ("ok", None)
    assert data["cuda_version"] == "12.4"  # from CUDA itself
    assert len(data["devices"]) == 2


def test_a_driver_that_knows_no_device(node: Node):
    data, _ = found(node(GPU_STANDIN_COUNT="0", GPU_STANDIN_CUDA="error 100"))
    assert outcome(data) == ("fail", "gpu_none")
    assert data["visible_count"] == 0


@pytest.mark.parametrize("given", ["-1", "na", "10000", "none", "void", "NoDevFiles", ""])
def test_a_slot_that_was_given_no_device(node: Node, given):
    data, checks = found(node(CUDA_VISIBLE_DEVICES=given), slots="GPUs,1,type=main")
    assert outcome(data) == ("fail", "gpu_not_visible")
    assert (data["visible_count"], data["visible"]) == (0, [given] if given else [])
    assert data["message"].startswith("CUDA_VISIBLE_DEVICES: ")
    assert outcome(checks["gpus.claim"]) == ("fail", "gpu_claimed_but_none")


def test_a_slot_that_was_given_one_device_of_two(node: Node):
    data, checks = found(node(CUDA_VISIBLE_DEVICES="1"), slots="GPUs,2,type=main")
    assert outcome(data) == ("ok", None)
    assert (data["visible_count"], data["visible_variable"]) == (1, "CUDA_VISIBLE_DEVICES")
    assert outcome(checks["gpus.claim"]) == ("fail", "gpu_claim_wrong")


def test_a_broken_list_that_still_gives_a_device_is_told(node: Node):
    _, checks = found(node(CUDA_VISIBLE_DEVICES="0,7"))
    assert outcome(checks["gpus.slot"]) == ("ok", None)
    assert checks["gpus.slot"]["message"] == "CUDA_VISIBLE_DEVICES: 7 is no device here"


def test_gpus_that_nobody_claims_are_noted(node: Node):
    _, checks = found(node())
    assert outcome(checks["gpus.claim"]) == ("ok", None)
    assert checks["gpus.claim"]["message"] == "2 GPUs here, and GLIDEIN_Resource_Slots claims none"


SMI = """#!/bin/sh
[ "$GPU_SMI" = fail ] && { echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18; }
echo 'NVIDIA A40, GPU-11111111-aaaa-4000-8000-000000000001, 46080, 550.54.15'
echo 'NVIDIA A100-SXM4-40GB, GPU-22222222-bbbb-4000-8000-000000000002, '"$GPU_SMI"', 550.54.15'
"""


@pytest.mark.parametrize(
    ("says", "status", "word"),
    [("40960", "ok", None), ("81920", "fail", "memory.total: 81920 here, 40960 by NVML"), ("fail", "fail", "code 18")],
)
def test_nvidia_smi_is_compared_when_asked_for(node: Node, tmp_path: Path, says, status, word):
    write(tmp_path, {"bin/nvidia-smi": SMI})
    (tmp_path / "bin/nvidia-smi").chmod(0o755)
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    _, checks = found(node(PROBE_NVIDIA_SMI="1", PATH=path, GPU_SMI=says))
    assert checks["gpus.nvidia_smi"]["status"] == status
    assert word is None or word in checks["gpus.nvidia_smi"]["message"]


def test_nvidia_smi_costs_nothing_where_nobody_asks(node: Node):
    assert "gpus.nvidia_smi" not in found(node())[1]
