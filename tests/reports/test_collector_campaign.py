"""The short versions of scripts/collector-campaign and scripts/simulate-glideins: a few kills and seconds each."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import rabbitmq

SCRIPTS = Path(__file__).parents[2] / "scripts"
pytestmark = pytest.mark.xdist_group("rabbitmq")


def summary(script: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, SCRIPTS / script, "--format", "json", *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if '"wrong": [\n' in done.stdout else 0)
    return found


@pytest.mark.skipif(
    not (rabbitmq.is_installed() and shutil.which("fusermount3")), reason="rabbitmq-server or fuse3 is not installed"
)
def test_kills_and_outages_lose_nothing_that_was_acknowledged():
    arguments = ("--kills", "4", "--outage-seconds", "2", "--rate", "40", "--seed", "3")
    found = summary("collector-campaign", *arguments)
    assert found.pop("seed") == 3
    assert {name: stage["wrong"] for name, stage in found.items()} == {name: [] for name in found}
    assert [name for name, stage in found.items() if stage["lost"]] == []
    assert [sum(found[name]["kills"].values()) for name in ("kills", "kills-single")] == [4, 4]
    assert all(found[name]["refused_503"] > 0 for name in ("database-gone", "disk-full", "read-only"))


def test_glideins_that_start_together_are_all_stored_once():
    found = summary("simulate-glideins", "--count", "300", "--minutes", "0.05")
    assert found["wrong"] == []
    assert found["acknowledged"] == 300
