"""The single file, built once; glideins to run it in."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.glidein.glidein_standin import Glidein

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The single file as it ships."""
    path = tmp_path_factory.mktemp("program") / "singularity-probe"
    subprocess.run([sys.executable, ROOT / "scripts/build-probe", "--output", path], check=True, timeout=120)
    return path


@pytest.fixture
def glidein(tmp_path: Path, program: Path) -> Callable[..., Glidein]:
    """Makes a glidein: ``glidein(contract, NAME=value, ...)`` with settings in its glidein_config."""

    def make(contract: str = "new", **settings: str) -> Glidein:
        return Glidein(tmp_path / "a work folder", program, contract, settings=settings)

    return make
