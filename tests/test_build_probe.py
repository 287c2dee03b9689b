"""scripts/build-probe, run on a copy of the sources with the tools of this machine, or with some of them taken away."""

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pythons import SUPPORTED, python

ROOT = Path(__file__).parents[1]
NATIVE = platform.machine()
FOREIGN = "aarch64" if NATIVE == "x86_64" else "x86_64"
TOOLS = ("as", "ld", "mksquashfs", f"{FOREIGN}-linux-gnu-as", f"{FOREIGN}-linux-gnu-ld")
KILOBYTE = 1000

Build = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The sources alone, as a checkout has them."""
    for folder in ("probe", "scripts"):
        ignored = shutil.ignore_patterns("payload-*[!S]", "image-*", "__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / "tree" / folder, ignore=ignored)
    return tmp_path / "tree"


@pytest.fixture
def build(tree: Path, tmp_path: Path) -> Build:
    """Runs the tree's build with the given tools as the only programs on PATH."""

    def run(
        *options: str | Path, tools: tuple[str, ...] = TOOLS, python: Path | str = sys.executable, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        path = tmp_path / f"tools-{'-'.join(tools)}"
        path.mkdir(exist_ok=True)
        for tool in tools:
            target = shutil.which(tool) or pytest.skip(f"no {tool} on this machine")
            if not (path / tool).is_symlink():
                (path / tool).symlink_to(target)
        return subprocess.run(
            [python, tree / "scripts/build-probe", *options],
            env={"PATH": str(path), **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def made(tree: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tree.glob("probe/data/*") if path.name.startswith(("pay", "im"))}


def test_the_single_file_holds_the_program_its_data_and_nothing_else(tree: Path, build: Build):
    (tree / "probe/__pycache__").mkdir()
    (tree / "probe/__pycache__/version.cpython-311.pyc").touch()
    answer = build()
    assert (answer.returncode, answer.stderr) == (0, "")
    program = tree / "dist/singularity-probe"
    assert program.stat().st_mode & 0o777 == 0o755
    assert program.stat().st_size <= 150 * KILOBYTE
    with zipfile.ZipFile(program) as archive:
        names = set(archive.namelist())
        sizes = {entry.filename: entry.compress_size for entry in archive.infolist()}
    expected = {path.relative_to(tree).as_posix() for path in tree.glob("probe/**/*.py")}
    expected |= {path.relative_to(tree).as_posix() for path in tree.glob("probe/data/*")}
    assert names == expected | {"__main__.py"}
    packed = [name for name in names if name.startswith(("probe/data/payload-", "probe/data/image-"))]
    assert len(packed) == 8
    assert sum(sizes[name] for name in packed) < 16 * KILOBYTE


def test_building_again_from_nothing_gives_the_same_bytes(tree: Path, build: Build, tmp_path: Path):
    build("--output", tmp_path / "first", TZ="UTC")
    shutil.rmtree(tree / "build")
    for path in tree.glob("probe/data/[pi]*-*"):
        path.unlink()
    os.utime(tree / "probe/version.py", (1, 1))
    build("--output", tmp_path / "second", TZ="Asia/Tokyo")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_source_date_epoch_dates_what_is_packed(tree: Path, build: Build):
    assert build(SOURCE_DATE_EPOCH="1700000000").returncode == 0
    with zipfile.ZipFile(tree / "dist/singularity-probe") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    assert (1700000000).to_bytes(8, "little") in (tree / f"probe/data/image-{NATIVE}-gzip.sif").read_bytes()[:128]


def test_data_are_made_once_and_again_when_a_source_or_an_output_changes(tree: Path, build: Build):
    build("--data-only")
    assert not (tree / "dist").exists()
    first = made(tree)
    assert build("--data-only", tools=()).returncode == 0, "nothing to do needs no tools"

    source = tree / f"probe/payload/payload-{NATIVE}.S"
    source.write_text(source.read_text().replace('" end\\n"', '" End\\n"'))
    build("--data-only")
    changed = made(tree)
    assert first.keys() == changed.keys()
    assert b" End\n" in changed[f"payload-{NATIVE}"]

    (tree / f"probe/data/payload-{NATIVE}").write_bytes(b"")
    build("--data-only")
    assert made(tree) == changed


def test_without_the_foreign_assembler_the_build_goes_on_and_says_what_it_lacks(tree: Path, build: Build):
    build("--data-only")
    (tree / "build/probe-data.sha256").unlink()
    answer = build(tools=TOOLS[:3])
    assert answer.returncode == 0
    assert f"this build can't test containers on {FOREIGN} nodes" in answer.stderr
    assert "binutils-" in answer.stderr
    assert {name for name in made(tree) if FOREIGN in name} == set(), "of other sources, perhaps: gone"
    assert build().stderr == "", "made as soon as the assembler is there"
    assert f"payload-{FOREIGN}" in made(tree)


@pytest.mark.parametrize("missing", ["as", "ld", "mksquashfs"])
def test_without_a_tool_of_this_machine_the_error_names_the_packages(tree: Path, build: Build, missing: str):
    answer = build(tools=tuple(tool for tool in TOOLS[:3] if tool != missing))
    assert answer.returncode == 1
    assert f"error: {missing} is missing: apt-get install " in answer.stderr
    assert "dnf install " in answer.stderr
    assert not (tree / "dist").exists()


def test_an_error_of_the_assembler_is_passed_on(tree: Path, build: Build):
    (tree / f"probe/payload/payload-{NATIVE}.S").write_text("nonsense\n")
    answer = build()
    assert answer.returncode == 1
    assert "no such instruction" in answer.stderr or "unknown mnemonic" in answer.stderr


@pytest.mark.parametrize("version", [version for version in SUPPORTED if int(version[2:]) >= 9])
def test_every_python_since_3_9_builds_the_same_data(tree: Path, build: Build, version: str):
    assert build("--data-only").returncode == 0
    expected = made(tree)
    shutil.rmtree(tree / "build")
    answer = build(python=python(version))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert made(tree) == expected
