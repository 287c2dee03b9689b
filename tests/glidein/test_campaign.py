"""The short version of scripts/glidein-campaign: runs side by side, kills, a full disk."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_nothing_that_happens_to_many_runs_at_once_damages_the_glideins_files(program: Path):
    command = [sys.executable, ROOT / "scripts/glidein-campaign", "--program", program, "--format", "json"]
    command += ["--runs", "7", "--side-by-side", "7", "--foreign", "4", "--kill-within", "2", "--seed", "3"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(ended.stdout)
    assert (found["damage_count"], found["left_behind"], found["wrong_exit_codes"]) == (0, [], 0)
    assert (found["runs"], found["foreign_lines_lost"]) == (8, 0)
    assert found["reads"] > 20
