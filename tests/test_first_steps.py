"""What newcomers are told to type: the tutorial, and README's five commands, run as they stand."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "----- next block -----"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder like .venv/bin, whose programs run this code with this Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "site-db": f'exec {sys.executable} -c "from reports.cli import main; main()" "$@"',
        "python": f'exec {sys.executable} "$@"',
    }
    for name, line in scripts.items():
        (folder / name).write_text(f'#!/bin/sh\nexport PYTHONPATH="{ROOT}"\n{line}\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


def environment(**variables: str) -> dict[str, str]:
    dropped = ("SITE_DB_DATABASE", "COLUMNS", "PROBE_SHARED_DATA", "PYTHONPATH")
    return {**{name: value for name, value in os.environ.items() if name not in dropped}, **variables}


def shape(expected: str) -> re.Pattern[str]:
    """An expected answer as a pattern: `...` is anything, and so is the space between words: tables grow with names."""
    words = re.split(r"(\.\.\.)|\s+", expected.strip())
    pattern = "".join(".*?" if word == "..." else re.escape(word) + r"\s*" for word in words if word)
    return re.compile(pattern, re.DOTALL)


def test_an_expected_answer_is_met_only_by_its_words():
    assert shape("a ...\nb 1").search("a  x y\n b 1")
    assert not shape("a ...\nb 1").search("a x\nb 2")


def test_the_tutorial_runs_as_it_stands_and_answers_as_it_says(programs: Path, tmp_path: Path):
    blocks = BLOCK.findall((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"))
    commands = [text.replace("$PWD/.venv/bin", str(programs)) for kind, text in blocks if kind == "sh"]
    assert len(commands) >= 8
    script = "set -euo pipefail\n" + f"\necho '{MARK}'\n".join(commands)
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment(TUTORIAL=str(tmp_path)),
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
    answers = iter(ran.stdout.split(MARK))
    answer, checked = "", 0
    for kind, text in blocks:
        if kind == "sh":
            answer = next(answers)
        else:
            assert shape(text).search(answer), f"{text}\n---- is not in ----\n{answer}"
            checked += 1
    assert checked >= 8


# --- README's five commands ---


def newcomers_commands(page: str) -> list[str]:
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    [first] = [
        number for number, line in enumerate(lines) if line.startswith("    scripts/quickstart ") and "#" in line
    ]
    return [line.strip() for line in lines[first : lines.index("", first)]]


@pytest.fixture
def clone(programs: Path, tmp_path: Path) -> Path:
    """The repository's files in a folder of their own, with an environment that is made already: no network is needed."""
    clone = tmp_path / "clone"
    for name in ("probe", "site_db", "reports", "scripts"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", clone)
    shutil.copytree(programs, clone / ".venv/bin")
    made_from = hashlib.sha256((clone / "pyproject.toml").read_bytes()).hexdigest()
    (clone / ".venv/.made-from").write_text(f"{made_from} test\n", encoding="utf-8")
    return clone


def test_five_commands_lead_from_a_clone_to_where_an_image_runs_and_why_not(clone: Path, tmp_path: Path):
    commands = newcomers_commands("README.md")
    assert len(commands) == 5
    assert commands == newcomers_commands("docs/can-my-image-run.md")
    image = tmp_path / "image"
    (image / "bin").mkdir(parents=True)
    shutil.copy("/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1", image / "bin/sh")
    script = "set -euo pipefail\n" + f"\necho '{MARK}'\n".join(commands)
    ran = subprocess.run(
        ["bash", "-c", script],
        cwd=clone,
        capture_output=True,
        text=True,
        env=environment(IMAGE=str(image)),
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr
    quickstart, _, inspected, _, matched = ran.stdout.split(MARK)
    assert "== 5. Site report" in quickstart
    assert re.search(r"arch\s+aarch64\s+read", inspected)
    assert "runs on 0 of 1 nodes" in " ".join(matched.split())
    assert "Quickstart-Site" in matched
    if re.search(r"^singularity\s+yes", quickstart, re.MULTILINE):
        assert "image_wrong_arch on 1 nodes" in matched
    assert "Why not:" in matched
