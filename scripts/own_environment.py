"""Moves a script of this folder into the project's own virtual environment, where its dependencies are."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv/bin/python"


def enter() -> None:
    """Start the running script again under ``.venv``; returns where it runs there already, or there is none."""
    if PYTHON.exists() and Path(sys.prefix).resolve() != PYTHON.parent.parent.resolve():
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
