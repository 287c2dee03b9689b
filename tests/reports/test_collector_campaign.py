"""The short versions of scripts/collector-campaign and scripts/simulate-glideins: a few kills and seconds each."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def summary(script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, "--format", "json", *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if '"wrong": [\n' in done.stdout else 0)
    return found


@pytest.mark.skipif(not shutil.which("fusermount3"), reason="fuse3 is not installed")
def test_kills_and_an_outage_lose_nothing_that_was_acknowledged():
    """The stage with the queue takes a minute: tests/reports/test_queue.py kills a node of it."""
    stages = ("kills-single", "read-only")
    arguments = ("--stages", ",".join(stages), "--kills", "2", "--outage-seconds", "1", "--seed", "3")
    found = summary("collector-campaign", *arguments)
    assert [found[name]["wrong"] for name in stages] == [[], []]
    assert [found[name]["lost"] for name in stages] == [0, 0]
    assert sum(found["kills-single"]["kills"].values()) == 2
    assert found["read-only"]["refused_503"] > 0


def test_glideins_that_start_together_are_all_stored_once():
    found = summary("simulate-glideins", "--count", "300", "--minutes", "0.05")
    assert found["wrong"] == []
    assert found["acknowledged"] == 300
