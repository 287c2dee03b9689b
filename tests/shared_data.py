"""The real files of factories and registries, which are no part of the repository: beside it, or where a variable says."""

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).parents[2] / "shared" / "data"


def shared_data(*steps: str) -> Path:
    """A path in the shared data; the test is skipped where that is not there."""
    folder = Path(os.environ.get("PROBE_SHARED_DATA") or _BESIDE)
    path = folder.joinpath(*steps)
    if not path.exists():
        pytest.skip(f"no real data at {path}: set PROBE_SHARED_DATA to its folder")
    return path
