"""The driver's libraries: the loader's cache, and the C library that ELF files need, read against the real tools."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import platform
import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.detectors import gpu_libraries
from tests.lab import gpu_standin

ARCH = platform.machine()


def test_the_loaders_cache_is_read_as_ldconfig_reads_it():
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    word = {"x86_64": "x86-64", "aarch64": "AArch64"}[ARCH]
    rows = re.findall(r"^\t(\S+) \(libc6," + word + r"[^)]*\) => (\S+)$", listed, re.MULTILINE)
    first = dict(reversed(rows))
    assert first
    assert gpu_libraries.parse_cache(Path("/etc/ld.so.cache").read_bytes(), ARCH) == first


@pytest.mark.parametrize("data", [b"", b"ld.so-1.7.0", gpu_libraries.MAGIC, gpu_libraries.MAGIC + b"\xff" * 100])
def test_a_cache_of_another_kind_or_a_broken_one_holds_nothing(data):
    assert gpu_libraries.parse_cache(data, "x86_64") == {}


@pytest.mark.parametrize("path", ["/bin/sh", "/lib/x86_64-linux-gnu/libm.so.6", "/lib/x86_64-linux-gnu/libcrypt.so.1"])
def test_needed_versions_are_those_that_readelf_shows(path):
    shown = subprocess.run(["readelf", "--version-info", "-W", path], capture_output=True, text=True, check=True).stdout
    needs = shown.partition("Version needs section")[2]
    assert sorted(gpu_libraries.read_needs(path)) == sorted(re.findall(r"Name: (\S+)  Flags", needs))


def test_a_library_made_to_need_a_newer_c_library_says_so(tmp_path: Path):
    path = gpu_standin.build_needing(tmp_path, "GLIBC_2.99")
    assert gpu_libraries.read_needs(str(path)) == ["GLIBC_2.99"]


def test_files_that_are_no_libraries_need_nothing(tmp_path: Path):
    for number, content in enumerate([b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01", Path("/bin/sh").read_bytes()[:5000]]):
        (tmp_path / str(number)).write_bytes(content)
        assert gpu_libraries.read_needs(str(tmp_path / str(number))) == []
    assert gpu_libraries.read_needs(str(tmp_path / "no")) == []


SHELL = bytearray(Path("/bin/sh").read_bytes()[:4096])


@given(st.dictionaries(st.integers(0, 4095), st.integers(0, 255), max_size=40))
def test_a_damaged_header_gives_an_error_that_is_awaited_or_names(changes: dict[int, int]):
    data = bytearray(SHELL)
    for place, value in changes.items():
        data[place] = value
    try:
        names = gpu_libraries.needed_versions(lambda offset, length: bytes(data[offset : offset + length]))
    except struct.error:
        return
    assert all(isinstance(name, str) for name in names)


@pytest.mark.parametrize(
    ("names", "version"),
    [
        (["GLIBC_2.2.5", "GLIBC_2.14", "GLIBC_2.4"], "2.14"),
        (["GLIBC_PRIVATE", "GCC_3.0", "GLIBC_2.3.4"], "2.3.4"),
        (["GLIBC_2.27", "GLIBC_ABI_DT_RELR"], "2.36"),
        (["GLIBC_2.38", "GLIBC_ABI_DT_RELR"], "2.38"),
        (["CXXABI_1.3"], None),
        ([], None),
    ],
)
def test_the_newest_version_of_several(names, version):
    assert gpu_libraries.highest(names) == version


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("libcuda.so.1", "driver"),
        ("libnvidia-ml.so.1", "driver"),
        ("libnvidia-ptxjitcompiler.so.1", "driver"),
        ("libGLX_nvidia.so.0", "driver"),
        ("libGLX.so.0", "display"),
        ("libOpenCL.so.1", "display"),
        ("libnvidia-egl-wayland.so.1", None),
        ("libcudart.so.13", None),
        ("libdrm_amdgpu.so.1", None),
    ],
)
def test_which_libraries_are_the_drivers(name, kind):
    found = "driver" if gpu_libraries.DRIVER.match(name) else "display" if gpu_libraries.DISPLAY.match(name) else None
    assert found == kind


def test_libraries_of_ld_library_path_stand_before_those_of_the_cache(tmp_path: Path):
    folder = gpu_standin.build(tmp_path / "driver", version="470.223.02")
    found = gpu_libraries.examine([str(tmp_path / "no"), str(folder)], ARCH)
    assert found["version"] == "470.223.02"
    assert re.fullmatch(r"2\.\d+(\.\d+)?", found["driver_glibc"])


def test_a_host_without_a_driver_needs_nothing(tmp_path: Path):
    nothing = {"version": None, "driver_glibc": None, "display_glibc": None}
    assert gpu_libraries.examine([], ARCH, str(tmp_path / "no-cache")) == nothing


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/usr/lib64/libcuda.so.550.54.15", "550.54.15"),
        ("/usr/lib64/libcuda.so.470.82", "470.82"),
        ("/usr/local/cuda/lib64/stubs/libcuda.so", None),
        ("/usr/lib64/libcuda.so.1", None),
    ],
)
def test_the_version_in_a_librarys_name(path, version):
    assert gpu_libraries.file_version(path) == version
