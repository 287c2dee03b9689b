"""Inspecting images: real ones, made-up ones, hostile ones."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from site_db.images.contents import parse_environment, parse_os_release, read_contents
from site_db.images.elf import NotElf, Program, parse_elf
from site_db.images.inspection import Uninspectable, inspect, inspect_here
from site_db.images.model import Requirements, from_json
from site_db.images.tree import FolderTree, resolve
from tests.lab.images import busybox_sandbox, lab_folder
from tests.site_db.real_images import RealImageError, debian

ROOT = Path(__file__).parents[2]
LIMIT_S = 20.0  # far above what any of these takes


@pytest.fixture(scope="module")
def busybox() -> Path:
    return busybox_sandbox(lab_folder())


def real(release: str, arch: str = "amd64") -> Path:
    try:
        return debian(release, arch)
    except RealImageError as error:
        pytest.skip(str(error))


def squashed(folder: Path, target: Path, arch: str = "x86_64") -> Path:
    """A SIF of a folder, by mksquashfs and the project's own writer."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from sif_format import build_sif
    finally:
        sys.path.pop(0)
    image = target.with_suffix(".squashfs")
    command = [
        "mksquashfs",
        folder,
        image,
        "-noappend",
        "-quiet",
        "-no-progress",
        "-comp",
        "gzip",
        "-Xcompression-level",
        "1",
    ]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, timeout=120)
    target.write_bytes(build_sif(image.read_bytes(), arch, 0))
    image.unlink()
    return target


def values(found: Requirements) -> dict[str, Any]:
    return {name: (fact.value, fact.evidence) for name, fact in found.facts.items()}


DEBIAN = {
    "bookworm": {"libc": ("glibc 2.36", "read"), "os_version": ("12", "read")},
    "trixie": {"libc": ("glibc 2.41", "read"), "os_version": ("13", "read")},
}


@pytest.mark.parametrize("form", ["folder", "sif"])
@pytest.mark.parametrize("release", sorted(DEBIAN))
def test_a_real_debian_is_told(release: str, form: str, tmp_path: Path):
    folder = real(release)
    found = inspect(folder if form == "folder" else squashed(folder, tmp_path / "image.sif"))
    expected = {
        "kind": ("sandbox" if form == "folder" else "sif", "read"),
        "arch": ("x86_64", "read"),
        "microarch": ("x86_64-v1", "read"),
        "kernel": ([3, 2, 0], "read"),
        "os_id": ("debian", "read"),
        **DEBIAN[release],
    }
    assert {name: values(found).get(name) for name in expected} == expected
    assert found.value("size_bytes") > 10 << 20
    assert found.notes == ()


def test_a_real_aarch64_image_is_told_and_has_no_x86_level():
    found = values(inspect(real("bookworm", "arm64")))
    assert found["arch"] == ("aarch64", "read")
    assert found["libc"] == ("glibc 2.36", "read")
    assert found["kernel"] == ([3, 7, 0], "read")
    assert "microarch" not in found


@pytest.mark.parametrize("form", ["folder", "sif"])
def test_a_static_busybox_has_no_c_library(busybox: Path, form: str, tmp_path: Path):
    found = inspect(busybox if form == "folder" else squashed(busybox, tmp_path / "image.sif"))
    assert values(found)["arch"] == ("x86_64", "read")
    assert values(found)["os_id"] == ("probelab", "read")
    assert found.fact("libc").evidence == "unknown"


def test_facts_survive_their_text(busybox: Path):
    found = inspect_here(busybox)
    assert from_json(found.to_json()) == found


# --- made-up binaries ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """Static programs from a few lines of assembly, linked with options."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "start.s").write_text(".globl _start\n_start: mov $60, %eax\nxor %edi, %edi\nsyscall\n")
    subprocess.run(["as", "--64", "-o", "start.o", "start.s"], cwd=folder, check=True, timeout=60)

    def link(*options: str) -> bytes:
        subprocess.run(["ld", *options, "-o", "program", "start.o"], cwd=folder, check=True, timeout=60)
        return (folder / "program").read_bytes()

    return link


def image_of(folder: Path, shell: bytes, os_release: str = "") -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "etc").mkdir()
    (folder / "bin/sh").write_bytes(shell)
    (folder / "etc/os-release").write_text(os_release)
    return folder


@pytest.mark.parametrize("level", ["v2", "v3", "v4"])
def test_an_image_for_newer_cpus_is_told_by_its_note(level: str, program: Callable[..., bytes], tmp_path: Path):
    found = inspect_here(image_of(tmp_path / "image", program("-z", f"x86-64-{level}")))
    assert values(found)["microarch"] == (f"x86_64-{level}", "read")
    assert "ISA_1_NEEDED" in found.fact("microarch").source


@pytest.mark.parametrize(
    ("os_release", "level"),
    [
        ('ID="rocky"\nVERSION_ID="9.4"\n', "x86_64-v2"),
        ("ID=almalinux\nVERSION_ID='10.0'\n", "x86_64-v3"),
        ('ID="rhel"\nVERSION_ID="8.10"\n', "x86_64-v1"),
        ("ID=debian\nVERSION_ID=12\n", "x86_64-v1"),
        ("", "x86_64-v1"),
    ],
)
def test_without_a_note_the_level_is_derived(
    os_release: str, level: str, program: Callable[..., bytes], tmp_path: Path
):
    found = inspect_here(image_of(tmp_path / "image", program(), os_release))
    assert values(found)["microarch"] == (level, "derived")


def test_a_note_outweighs_the_system(program: Callable[..., bytes], tmp_path: Path):
    """AlmaLinux builds its 10 for v2 as well."""
    shell = program("-z", "x86-64-v2")
    found = inspect_here(image_of(tmp_path / "image", shell, "ID=almalinux\nVERSION_ID=10.0\n"))
    assert values(found)["microarch"] == ("x86_64-v2", "read")


def test_cuda_is_read_from_environment_and_files(program: Callable[..., bytes], tmp_path: Path):
    image = image_of(tmp_path / "image", program())
    (image / ".singularity.d/env").mkdir(parents=True)
    (image / ".singularity.d/env/10-docker2singularity.sh").write_text(
        '#!/bin/sh\nexport PATH="/usr/bin"\nexport CUDA_VERSION="${CUDA_VERSION:-"12.6.0"}"\n'
        'export NVIDIA_REQUIRE_CUDA="${NVIDIA_REQUIRE_CUDA:-"cuda>=12.6 brand=tesla,driver>=535,driver<536"}"\n'
        "export EVIL=$(touch /tmp/pwned)\n"
    )
    (image / ".singularity.d/labels.json").write_text('{"org.example.name": "app", "n": 1}')
    (image / "usr/local/cuda-12.6/compat").mkdir(parents=True)
    (image / "usr/local/cuda-12.6/compat/libcuda.so.560.35.03").touch()
    (image / "usr/local/cuda").symlink_to("/usr/local/cuda-12.6")
    found = inspect_here(image)
    assert values(found)["cuda"] == (["cuda>=12.6 brand=tesla,driver>=535,driver<536"], "declared")
    assert values(found)["cuda_version"] == ("12.6.0", "declared")
    assert values(found)["cuda_compat"] == ("560.35.03", "read")
    assert values(found)["labels"] == ({"n": "1", "org.example.name": "app"}, "declared")


def test_musl_is_told_by_its_loader(program: Callable[..., bytes], tmp_path: Path):
    image = image_of(tmp_path / "image", program())
    (image / "lib").mkdir()
    (image / "lib/ld-musl-x86_64.so.1").write_bytes(program() + b"\x001.2.4\x00")
    assert values(inspect_here(image))["libc"] == ("musl 1.2.4", "read")


# --- OCI -------------------------------------------------------------------------------------------------------------------

CONFIG = {
    "architecture": "arm64",
    "os": "linux",
    "config": {"Env": ["PATH=/bin", "CUDA_VERSION=11.8.0", "odd"], "Labels": {"maintainer": "somebody"}},
}


def layout(files: Callable[[str, bytes], None]) -> None:
    """An OCI layout: index, manifest, configuration."""

    def blob(content: object) -> dict[str, Any]:
        data = json.dumps(content).encode()
        digest = hashlib.sha256(data).hexdigest()
        files(f"blobs/sha256/{digest}", data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    manifest = {"schemaVersion": 2, "config": blob(CONFIG), "layers": [{"size": 1000}, {"size": 24}]}
    index = {"schemaVersion": 2, "manifests": [blob(manifest)]}
    files("index.json", json.dumps(index).encode())
    files("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')


def test_an_oci_layout_archive_and_configuration_say_the_same(tmp_path: Path):
    def write(name: str, data: bytes) -> None:
        path = tmp_path / "layout" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    layout(write)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with tarfile.open(tmp_path / "image.tar", "w") as archive:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))

        layout(add)
    for name in ("layout", "image.tar", "config.json"):
        found = values(inspect_here(tmp_path / name))
        assert found["arch"] == ("aarch64", "declared"), name
        assert found["cuda"] == (["cuda>=11.8"], "declared"), name
        assert found["labels"] == ({"maintainer": "somebody"}, "declared"), name
    assert values(inspect_here(tmp_path / "layout"))["size_bytes"] == (1024, "read")


@pytest.mark.parametrize("size", [10**400, 2**63, -1, "1024", None])
def test_a_size_that_cannot_be_is_not_known(size: object, tmp_path: Path):
    (tmp_path / "blobs/sha256").mkdir(parents=True)

    def blob(content: object) -> dict[str, str]:
        data = json.dumps(content).encode()
        name = hashlib.sha256(data).hexdigest()
        (tmp_path / "blobs/sha256" / name).write_bytes(data)
        return {"digest": f"sha256:{name}"}

    manifest = blob({"config": blob(CONFIG), "layers": [{"size": 24}, {"size": size}]})
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [manifest]}))
    (tmp_path / "oci-layout").write_text("{}")
    assert "size_bytes" not in values(inspect_here(tmp_path))


def test_docker_save_is_read(tmp_path: Path):
    path = tmp_path / "saved.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in (("manifest.json", [{"Config": "abc.json", "Layers": []}]), ("abc.json", CONFIG)):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert values(inspect_here(path))["arch"] == ("aarch64", "declared")


# --- hostile images --------------------------------------------------------------------------------------------------------


def test_links_stay_inside(tmp_path: Path):
    root = tmp_path / "image"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/os-release").write_text("ID=inside\n")
    (tmp_path / "secret").write_text("ID=outside\n")
    (root / "etc").symlink_to("/../../usr/lib/../../usr/lib")
    (root / "up").symlink_to("../../secret")
    (root / "loop").symlink_to("loop2")
    (root / "loop2").symlink_to("/loop")
    (root / "passwd").symlink_to("/etc/passwd")
    tree = FolderTree(root)
    assert resolve(tree.look, "/etc/os-release") == "/usr/lib/os-release"
    for path in ("/up", "/loop", "/passwd", "/../secret", "/usr/lib/os-release/x"):
        assert resolve(tree.look, path) is None, path
    assert values(inspect_here(root))["os_id"] == ("inside", "read")


@pytest.mark.parametrize("name", ["/dev/zero", "/proc/kcore", "/etc/shadow", "../../../../../../etc/passwd"])
def test_a_link_to_the_machine_reads_nothing_of_it(name: str, busybox: Path, tmp_path: Path):
    image = tmp_path / "image"
    shutil.copytree(busybox, image, symlinks=True)
    (image / "etc/os-release").unlink()
    (image / "etc/os-release").symlink_to(name)
    found = inspect(image, limit_s=LIMIT_S)
    assert found.fact("os_id").evidence == "unknown"
    assert found.value("arch") == "x86_64"


def test_devices_fifos_sparse_and_huge_files_cost_nothing(busybox: Path, tmp_path: Path):
    image = tmp_path / "image"
    shutil.copytree(busybox, image, symlinks=True)
    for name in ("bin/bash", "etc/os-release", "bin/cat"):
        (image / name).unlink(missing_ok=True)
    os.mkfifo(image / "bin/bash")
    os.mkfifo(image / "etc/os-release")
    if os.geteuid() == 0:
        os.mknod(image / "bin/cat", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    with (image / "bin/env2").open("wb") as sparse:
        sparse.truncate(10 << 30)
    (image / "usr/bin").mkdir(parents=True, exist_ok=True)
    with (image / "usr/bin/python3").open("wb") as sparse:
        sparse.truncate(10 << 30)
    started = time.monotonic()
    found = inspect(image, limit_s=LIMIT_S)
    assert time.monotonic() - started < LIMIT_S
    assert found.value("arch") == "x86_64"
    assert found.value("size_bytes") < 100 << 20  # blocks, not lengths
    assert any("python3 has 10737418240 bytes" in note for note in found.notes)


def test_a_huge_os_release_is_left_unread(busybox: Path, tmp_path: Path):
    image = tmp_path / "image"
    shutil.copytree(busybox, image, symlinks=True)
    (image / "etc/os-release").write_text("ID=x\n" * 1_000_000)
    found = inspect(image, limit_s=LIMIT_S)
    assert found.fact("os_id").evidence == "unknown"
    assert any("/etc/os-release" in note for note in found.notes)


@pytest.fixture(scope="module")
def newest_program(program: Callable[..., bytes]) -> bytes:
    return program("-z", "x86-64-v3")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 599), st.integers(0, 255)), max_size=12), length=st.integers(4, 5000))
def test_a_damaged_elf_file_is_read_or_refused(changes: list[tuple[int, int]], length: int, newest_program: bytes):
    damaged = bytearray(newest_program)
    for position, value in changes:
        damaged[min(position, len(damaged) - 1)] = value
    with contextlib.suppress(NotElf):  # the one way to refuse it
        assert isinstance(parse_elf(bytes(damaged[:length])), Program)


def outcome(path: Path) -> Requirements | Uninspectable:
    try:
        return inspect(path, limit_s=LIMIT_S)
    except Uninspectable as error:
        return error


def sif_with(change: Callable[[bytearray], None], good: bytes, path: Path) -> Path:
    damaged = bytearray(good)
    change(damaged)
    path.write_bytes(damaged)
    return path


def put(place: int, data: bytes) -> Callable[[bytearray], None]:
    def change(damaged: bytearray) -> None:
        damaged[place : place + len(data)] = data

    return change


@pytest.mark.parametrize(
    "change",
    [
        put(88, b"\xff" * 8),  # number of parts
        put(96, b"\xff\xff\xff\xff\xff\xff\xff\x7f"),  # where the table lies
        put(128 + 17, b"\xff\xff\xff\xff\xff\xff\xff\x7f"),  # where the root lies
        put(128 + 25, b"\xff" * 8),  # how long it is
        put(128, b"\x00" * 585),
        put(4096, b"\x00" * 4096),  # the squashfs superblock
        lambda damaged: damaged.__delitem__(slice(200, None)),
    ],
)
def test_a_damaged_sif_is_refused_or_says_what_could_not_be_read(
    change: Callable[[bytearray], None], busybox: Path, tmp_path: Path
):
    good = squashed(busybox, tmp_path / "good.sif").read_bytes()
    path = sif_with(change, good, tmp_path / "bad.sif")
    found = outcome(path)
    assert "bad.sif" in str(found) if isinstance(found, Uninspectable) else found.notes


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[" * 100_000, b'{"config": []}', b'{"architecture": {}}', b"\x7fELF", b"hello", b'{"a":' * 100_000],
)
def test_a_file_that_is_no_image_is_refused_or_tells_nothing(content: bytes, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(content)
    found = outcome(path)
    if isinstance(found, Uninspectable):
        assert str(path) in str(found)
        assert found.remedy
    else:
        assert found.fact("arch").evidence == "unknown"


@pytest.mark.parametrize("manifest", [{}, [], [{}], [{"Config": 1}], [{"Config": "../../../etc/passwd"}]])
def test_an_archive_that_points_elsewhere_is_refused(manifest: object, tmp_path: Path):
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as archive:
        data = json.dumps(manifest).encode()
        member = tarfile.TarInfo("manifest.json")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    with pytest.raises(Uninspectable):
        inspect(path, limit_s=LIMIT_S)


def test_a_layout_does_not_lead_out_of_itself(tmp_path: Path):
    (tmp_path / "oci-layout").write_text("{}")
    descriptor = {"digest": "sha256:../../../../etc/passwd", "size": 1}
    (tmp_path / "index.json").write_text(json.dumps({"manifests": [descriptor]}))
    with pytest.raises(Uninspectable, match="digest"):
        inspect(tmp_path, limit_s=LIMIT_S)


def test_an_inspection_that_takes_too_long_is_ended(busybox: Path):
    with pytest.raises(Uninspectable, match="not done within"):
        inspect(busybox, limit_s=0.001)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/nonexistent"])
def test_what_is_neither_file_nor_folder_is_refused(path: str):
    with pytest.raises(Uninspectable):
        inspect(Path(path), limit_s=LIMIT_S)


def test_an_environment_is_read_without_a_shell():
    text = 'export A="1"\nexport B=\'two words\'\nexport C="${C:-"x>=1"}"\nexport D=`id`\nexport E=$HOME\nF=3\n'
    assert parse_environment(text) == {"A": "1", "B": "two words", "C": "x>=1"}


def test_os_release_is_read_as_it_is_written():
    assert parse_os_release("ID=\"rocky\"\nVERSION_ID='9.4'\n# x\nPRETTY_NAME=Plain\nlower=no\n") == {
        "ID": "rocky",
        "VERSION_ID": "9.4",
        "PRETTY_NAME": "Plain",
    }


def test_the_facts_agree_with_the_binaries_own_words():
    """Another way to the same: the version text of the real C library, and the machine in its header."""
    folder = real("bookworm")
    library = next(folder.glob("**/x86_64-linux-gnu/libc.so.6"))
    assert b"GNU C Library (Debian GLIBC 2.36" in library.read_bytes()
    with library.open("rb") as stream:
        assert ELFFile(stream)["e_machine"] == "EM_X86_64"
    facts, _ = read_contents(FolderTree(folder))
    assert facts["libc"].value == "glibc 2.36"
