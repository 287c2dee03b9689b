"""SIGTERM at any moment of a run with the real Apptainer: a valid report, in part if need be, and nothing left."""

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.lab.images import ensure_user
from tests.lab.laboratory import Laboratory
from tests.probe.in_a_child import wait_for
from tests.probe.test_program import errors_of

pytestmark = pytest.mark.lab

MOMENTS = 5
LONGEST_S = 0.4  # about what a run takes after its work folder is there


def start(lab: Laboratory, folder: Path, mark: str) -> "subprocess.Popen[str]":
    """A run as an ordinary user whose work folder is below `folder`; `mark` is in the environment of all its processes."""
    user = ensure_user()
    os.chown(folder, user.pw_uid, user.pw_gid)
    environment = {
        "PATH": f"{lab.apptainer.parent}:/usr/bin:/bin", "HOME": user.pw_dir, "TMPDIR": str(folder), "LAB_MARK": mark
    }  # fmt: skip
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    return subprocess.Popen(
        [*become, str(lab.probe), "run"],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def left_of(mark: str) -> list[str]:
    """Processes that have the mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAB_MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:  # gone meanwhile
            pass
    return found


@pytest.mark.parametrize("seed", range(MOMENTS))
def test_a_signal_at_any_moment_gives_a_valid_report_and_leaves_nothing(lab: Laboratory, seed: int):
    folder = lab.lab / f"signal-{seed}-{os.getpid()}"
    folder.mkdir()
    try:
        process = start(lab, folder, folder.name)
        wait_for(lambda: any(folder.iterdir()) or process.poll() is not None, 10)
        time.sleep(random.Random(seed).uniform(0, LONGEST_S))
        process.send_signal(signal.SIGTERM)
        signalled = time.monotonic()
        stdout, stderr = process.communicate(timeout=20)
        assert time.monotonic() - signalled < 2
        report = json.loads(stdout)
        assert errors_of(report) == []
        # Once the whole report is out, a signal may end what is left of the program.
        assert process.returncode == 0 or (report["complete"] and process.returncode == -signal.SIGTERM), stderr
        assert "Traceback" not in stderr
        wait_for(lambda: left_of(folder.name) == [])
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)
