"""Small values that the probe's tests need: settings, outcomes of programs, results of workers."""
# ruff: noqa: ANN401 - the rows of a table give the types of its test's arguments

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.process import Outcome
from probe.settings import Settings, combine
from probe.workers import Result

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "reports/schema/report-1.0.json").read_text(encoding="utf-8"))


def settings(glidein: Mapping[str, str] | None = None, **changes: Any) -> Settings:
    """Settings as of a run without options, in a glidein with these names."""
    return combine("manual", {}, {}, None, "", dict(glidein or {}))._replace(**changes)


def exited(code: int = 0, stdout: str = "", stderr: str = "") -> Outcome:
    """A program that ended by itself."""
    return Outcome("exited", code, None, None, stdout, stderr, 0.1)


def killed(signal_number: int, stderr: str = "") -> Outcome:
    """A program that a signal ended."""
    return Outcome("exited", None, signal_number, None, "", stderr, 0.1)


def not_started(errno: int) -> Outcome:
    """A program that could not be executed."""
    return Outcome("not_started", None, None, errno, "", "", 0.1)


def timed_out(stderr: str = "") -> Outcome:
    """A program that was killed at its limit."""
    return Outcome("timeout", None, None, None, "", stderr, 5.0)


def done(value: Any) -> Result:
    """A worker that answered."""
    return Result("done", value, "", None, 0.1)


HUNG = Result("timeout", None, "", None, 4.0)


def died(detail: str, errno: int | None = None) -> Result:
    """A worker that failed."""
    return Result("died", None, detail, errno, 0.1)


def recorded_texts() -> Path | None:
    """The folder of texts recorded from older products, where this machine has it."""
    folders = [
        ROOT.parent / "shared/data/recorded",
        Path(os.environ.get("PROBE_SHARED_DATA", "/nonexistent")) / "recorded",
    ]
    return next((folder for folder in folders if folder.is_dir()), None)
