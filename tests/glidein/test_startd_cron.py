"""``singularity-probe startd-cron``: the ad, its types, and an end in time."""

import signal
import subprocess
import time
from pathlib import Path

import classad2
import pytest

from probe import classad, peers

KINDS = {"string": str, "integer": int, "boolean": bool}
LINE_LIMIT_BYTES = 64 * 1024


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **more}


def test_the_ad_is_read_whole_and_with_its_types(program: Path, tmp_path: Path):
    more = {"PROBE_PUBLISH": "ospool,start", "PROBE_REPORT_ATTRIBUTE": "yes", "PROBE_DEADLINE": "soon"}
    command = [program, "startd-cron", "--only", "host,credentials", "--site", 'a "site"\n-']
    ended = subprocess.run(command, env=environment(tmp_path, **more), cwd=tmp_path, capture_output=True, timeout=60)
    assert ended.returncode == 0
    assert b"PROBE_DEADLINE is 'soon'" in ended.stderr
    lines = ended.stdout.splitlines()
    assert not any(line.startswith(b"-") or len(line) > LINE_LIMIT_BYTES for line in lines)
    ad = classad2.parseOne(ended.stdout.decode("ascii"))
    assert len(ad) == len(lines)
    for name, value in ad.items():
        if name in classad.ATTRIBUTES:
            assert type(value) is KINDS[classad.ATTRIBUTES[name][0]], name
    assert ad["PROBE_REPORT"].startswith("1:")
    assert str(ad.lookup("PROBE_START")) == peers.START_CLAUSE.strip("()") or ad.eval("PROBE_START") is True


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """A runtime that leaves its process id and hangs."""
    path = tmp_path / "apptainer"
    path.write_text('#!/bin/sh\necho $$ >"$0.pid.part" && mv "$0.pid.part" "$0.pid"\nexec sleep 1000\n')
    path.chmod(0o755)
    return path


def test_sigterm_leaves_an_ad_and_nothing_else_soon(program: Path, tmp_path: Path, hanging: Path):
    command = [program, "startd-cron", "--singularity", hanging]
    running = subprocess.Popen(command, env=environment(tmp_path), cwd=tmp_path, stdout=subprocess.PIPE)
    noted = Path(f"{hanging}.pid")
    until = time.monotonic() + 30
    while not noted.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    began = time.monotonic()
    running.send_signal(signal.SIGTERM)
    output, _ = running.communicate(timeout=30)
    assert time.monotonic() - began < 5.0
    assert running.returncode == 0
    ad = classad2.parseOne(output.decode())
    assert (ad["PROBE_STATUS"], ad["PROBE_COMPLETE"]) == ("partial", False)
    assert "PROBE_SINGULARITY_USABLE" not in ad
    assert not Path("/proc", noted.read_text().strip()).exists()
