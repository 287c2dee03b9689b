"""A short look of scripts/hostile-inputs, and the description's own promises by schemathesis. Both on a real collector."""

import json
import subprocess
import sys
from pathlib import Path

import httpx

from tests.sample_reports import sample_report

ROOT = Path(__file__).parents[2]
# The phase `coverage` takes minutes for the schema of a report: docs/collector.md has the command for all of it.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_no_hostile_input_breaks_the_collector_or_gets_out_again():
    program = [
        sys.executable,
        str(ROOT / "scripts/hostile-inputs"),
        "--count",
        "220",
        "--seed",
        "5",
        "--format",
        "json",
    ]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout)
    assert summary["wrong"] == []
    assert done.returncode == 0
    assert summary["requests"] == 220
    assert set(summary["by_status"]) >= {"200", "201", "400", "401", "415", "422"}


def test_the_collector_answers_as_its_description_says(client: httpx.Client, tmp_path: Path):
    headers = {"content-type": "application/json"}
    assert client.post("/api/v1/reports", json=sample_report(), headers=headers).status_code == 201
    program = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{client.base_url}/openapi.json"]
    options = ["--checks", CHECKS, "--max-time", "6", "--phases", "fuzzing", "--seed", "1"]
    done = subprocess.run([*program, *options, "--no-color"], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
