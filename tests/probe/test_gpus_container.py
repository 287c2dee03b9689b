"""GPUs inside containers: the payloads' lines, what they mean, and what is tried where."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import packed
from probe.checks import check
from probe.detectors import gpu_container, gpu_signs
from probe.engine import Detector, Run
from probe.host import Host
from probe.process import Outcome
from probe.report import _all_checks
from tests.lab import gpu_standin
from tests.probe.samples import settings

NONCE = "5f1d0c3b"
ARCH = platform.machine()
SETTINGS = settings()
ENDED = "\n".join(f"{NONCE} {line}" for line in ("loaded", "cuda_version 12040", "cuinit 0", "cuda_devices 2", "end"))


def ended(
    stdout: str = "", stderr: str = "", code: int = 0, signal: int | None = None, state: str = "exited"
) -> Outcome:
    return Outcome(state, code, signal, None, stdout, stderr, 0.1)


@pytest.mark.parametrize(
    ("stdout", "called"),
    [
        (ENDED, (True, 0, 12040, 2)),
        (ENDED.replace("\n", "\r\n"), (True, 0, 12040, 2)),
        (f"\x1b[0m{NONCE} loaded\n{NONCE} cuinit 999\n", (True, 999, None, None)),
        (f"{NONCE} loaded\n", (True, None, None, None)),
        ("another loaded\nanother cuinit 0\n", (False, None, None, None)),
        ("", (False, None, None, None)),
    ],
)
def test_the_lines_of_the_dynamic_payload(stdout, called):
    assert gpu_container.parse(stdout, NONCE) == called


@given(st.text(max_size=300))
def test_no_output_breaks_the_reading(text: str):
    called = gpu_container.parse(text + NONCE + " " + text, NONCE)
    assert called.code is None or isinstance(called.code, int)


TOO_NEW = "/lib64/libc.so.6: version `GLIBC_2.34' not found (required by /.singularity.d/libs/libcuda.so.1)"
LOADING = (
    "error while loading shared libraries: libcuda.so.1: cannot open shared object file: No such file or directory"
)


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        (ended(ENDED), "ok", None),
        (ended(f"{NONCE} loaded\n{NONCE} cuinit 999\n{NONCE} end\n"), "fail", "gpu_container_failed"),
        (ended(f"{NONCE} loaded\n{NONCE} cuinit 100\n{NONCE} end\n"), "fail", "gpu_not_visible"),
        (ended(f"{NONCE} loaded\n{NONCE} cuinit 803\n{NONCE} end\n"), "fail", "gpu_driver_mismatch"),
        (ended(f"{NONCE} loaded\n", signal=11), "fail", "gpu_driver_crashed"),
        (ended(f"{NONCE} loaded\n", state="timeout"), "timeout", "gpu_timeout"),
        (ended("", TOO_NEW, 1), "fail", "gpu_library_glibc_too_new"),
        (ended("", LOADING, 127), "fail", "gpu_container_failed"),
        (ended("", "", 255), "fail", "gpu_container_failed"),
    ],
)
def test_what_the_dynamic_payload_came_to(outcome, status, reason):
    found = gpu_container.judge_call(outcome, gpu_container.parse(outcome.stdout, NONCE))
    assert (found.status, found.reason) == (status, reason)
    assert (found.message is None) == (status == "ok")


@pytest.mark.parametrize(
    ("needs", "libc", "too_new"),
    [
        ("2.34", "glibc 2.17", True),
        ("2.34", "glibc 2.34", False),
        ("2.27", "glibc 2.36", False),
        ("2.3.4", "glibc 2.3", False),
        ("2.34", None, False),
        (None, "glibc 2.17", False),
        ("2.34", "musl", False),
    ],
)
def test_libraries_are_held_against_an_images_c_library(needs, libc, too_new):
    assert gpu_container.is_too_new(needs, libc) is too_new


def row(libc: str | None) -> dict[str, Any]:
    return {"ref": "/images/x", "path": "/images/x", "status": "ok", "libc": libc}


@pytest.mark.parametrize(
    ("libc", "outcome", "status", "reason", "tried"),
    [
        ("glibc 2.36", ended(ENDED), "ok", None, ["loader", "cuinit"]),
        ("glibc 2.17", ended(ENDED), "ok", None, ["loader", "cuinit"]),  # what was run stands above what is compared
        ("glibc 2.17", ended("", "x: error while loading shared libraries: " + TOO_NEW, 127), "fail",
         "gpu_library_glibc_too_new", ["loader"]),
        ("glibc 2.17", ended("", TOO_NEW, 1), "fail", "gpu_library_glibc_too_new", ["versions"]),
        ("glibc 2.17", None, "fail", "gpu_library_glibc_too_new", ["versions"]),
        ("glibc 2.36", None, "unknown", "cannot_be_tried", ["versions"]),
        ("glibc 2.36", ended("", "FATAL: no overlay", 255), "unknown", "cannot_be_tried", ["versions"]),
        ("musl", None, "fail", "gpu_container_failed", ["versions"]),
        (None, ended("", "exec: no such file or directory", 255), "unknown", "cannot_be_tried", ["versions"]),
    ],
)  # fmt: skip
def test_an_image_is_judged_by_a_run_or_else_by_versions(libc, outcome, status, reason, tried):
    node = gpu_container.Node(Host({}), "nvidia", None, {}, NONCE)  # type: ignore[arg-type]  # no start is made
    found = gpu_container._judge_image(node, {"driver_libraries_glibc": "2.34"}, row(libc), outcome)
    assert (found["status"], found["reason"], found["evidence"]["tried"]) == (status, reason, tried)


def earlier(**gpus: Any) -> dict[str, Any]:  # noqa: ANN401  any value of the report
    data = {**gpu_signs.shape("ok", None, None), "devices": [{"vendor": "nvidia"}], **gpus}
    return {"gpus": data, "singularity": {"usable": True}, "work_folder": {"sandbox": "/image"}}


@pytest.mark.parametrize(
    ("known", "outcome"),
    [
        (earlier(status="fail", reason="gpu_none"), ("skipped", "not_applicable")),
        (earlier(status="skipped", reason="not_requested"), ("skipped", "not_applicable")),
        (earlier(status="fail", reason="gpu_driver_mismatch"), ("unknown", "prerequisite_failed")),
        ({**earlier(), "singularity": {"usable": False}}, ("unknown", "prerequisite_failed")),
        ({**earlier(), "work_folder": {"sandbox": None}}, ("unknown", "cannot_be_tried")),
        (earlier(devices=[{"vendor": "intel"}]), ("unknown", "cannot_be_tried")),
    ],
)
def test_what_keeps_us_from_trying(known, outcome, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Host, "attempt_all", None)  # nothing is started
    host = Host({})
    (found,) = gpu_container.detect(host, SETTINGS, known)
    container = found["data"]["container"]
    assert (container["status"], container["reason"]) == outcome
    assert found["data"]["features"] == {}


def test_the_answer_waits_until_the_gpus_are_known():
    assert gpu_signs.nothing_to_try(Host({}), SETTINGS, {}) is None


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("7f1 r-xp 0 fe:00 1 /usr/lib/x86_64-linux-gnu/libc.so.6\n", "/usr/lib/x86_64-linux-gnu"),
        ("7f1 r-xp 0 fe:00 1 /usr/lib64/libc-2.17.so\n", "/usr/lib64"),
        ("7f1 r-xp 0 fe:00 1 /lib/ld-musl-x86_64.so.1\n", None),
        ("7f1 r-xp 0 fe:00 1 /usr/lib64/libcrypt.so.1\n", None),
    ],
)
def test_where_the_hosts_c_library_is(line, folder):
    assert gpu_container.libc_folder("5f1 r-xp 0 fe:00 1 /usr/bin/python3\n" + line) == folder


def test_both_payloads_are_built_and_call_what_stands_in_for_cuda(tmp_path: Path):
    """As in our image: by a loader and a C library that were copied, away from the system's."""
    folder = gpu_container.libc_folder(Path("/proc/self/maps").read_text())
    assert folder is not None
    loader = gpu_container.prepare(str(tmp_path), ARCH, folder)
    assert loader is not None
    place, driver = tmp_path / gpu_container.FOLDER.lstrip("/"), gpu_standin.build(tmp_path / "driver")
    command = [
        place / loader,
        "--library-path",
        f"{driver}:{place}",
        tmp_path / gpu_container.PROGRAM.lstrip("/"),
        NONCE,
    ]
    done = subprocess.run(command, env={"GPU_STANDIN_CUDA": "ok"}, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, ENDED + "\n")
    failing = subprocess.run(command, env={"GPU_STANDIN_CUDA": "error 802"}, capture_output=True, text=True, timeout=20)
    assert gpu_container.parse(failing.stdout, NONCE) == (True, 802, 12040, None)
    crashing = subprocess.run(command, env={"GPU_STANDIN_CUDA": "crash"}, capture_output=True, text=True, timeout=20)
    assert (crashing.returncode, gpu_container.parse(crashing.stdout, NONCE).loaded) == (-11, True)


AARCH64 = Path("/usr/aarch64-linux-gnu/lib")
CUDA_OF_AARCH64 = """
        .macro function name, value
        .globl \\name
        .type \\name, %function
\\name:
        mov w1, #\\value
        str w1, [x0]
        mov w0, #0
        ret
        .endm
        .text
        function cuDriverGetVersion, 12040
        function cuDeviceGetCount, 2
        .globl cuInit
        .type cuInit, %function
cuInit: mov w0, #0
        ret
"""


def test_the_payload_for_aarch64_runs_by_aarch64s_loader_and_c_library(tmp_path: Path):
    """Emulated, and CUDA's stand-in is assembled: no compiler for that architecture is needed."""
    (tmp_path / "cuda.S").write_text(CUDA_OF_AARCH64)
    for command in (
        ["aarch64-linux-gnu-as", "-o", "cuda.o", "cuda.S"],
        ["aarch64-linux-gnu-ld", "-shared", "-soname", "libcuda.so.1", "-o", "libcuda.so.1", "cuda.o"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, timeout=20)
    (tmp_path / "payload").write_bytes(packed.read("payload-cuda-aarch64") or b"")
    loader = [str(AARCH64 / "ld-linux-aarch64.so.1"), "--library-path", f"{tmp_path}:{AARCH64}"]
    command = ["qemu-aarch64-static", *loader, str(tmp_path / "payload"), NONCE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, ENDED + "\n"), done.stderr


def test_a_host_without_our_payload_or_a_loader_is_left_alone(tmp_path: Path):
    (tmp_path / "lib").mkdir()
    assert gpu_container.prepare(str(tmp_path), "sparc", "/lib") is None
    assert gpu_container.prepare(str(tmp_path), ARCH, str(tmp_path / "lib")) is None
    assert [path.name for path in tmp_path.iterdir()] == ["lib"]


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_dynamic_payload_is_small_and_wants_libcuda_of_the_loader(arch):
    program = packed.read("payload-cuda-" + arch)
    assert program is not None
    assert len(program) < 2048
    for name in (b"libcuda.so.1\0", b"libc.so.6\0", b"/ld-linux-"):
        assert name in program


def test_the_checks_of_a_later_detector_replace_those_of_an_earlier_one():
    first, later = check("x", "skipped", "not_requested"), check("x", "ok")
    found = {"one": [first], "two": [later]}
    detectors = [Detector(name, lambda *_: iter(()), lambda *_: None) for name in found]
    run = Run({name: {"data": None, "checks": rows} for name, rows in found.items()}, True, False, [])
    assert _all_checks(detectors, run) == [later]
