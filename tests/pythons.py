"""The Pythons of this machine, for tests that run the probe as a program under each of them."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

SUPPORTED = tuple(f"3.{minor}" for minor in range(6, 14))


def python(version: str) -> Path:
    """The interpreter of a version ("3.6", "2.7"); skips the test where there is none."""
    found = _all_pythons().get(version)
    if found is None:
        pytest.skip(f"no Python {version} on this machine")
    return found


@cache
def _all_pythons() -> dict[str, Path]:
    """By version, from PATH and from pyenv's folder; a shim of pyenv is not an interpreter."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
    else:
        root = os.environ.get("PYENV_ROOT") or str(Path.home() / ".pyenv")
    folders += sorted(Path(root).glob("versions/*/bin"))
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("python[23].*")) if "shims" not in folder.parts else ():
            match = re.fullmatch(r"python([23]\.\d+)", path.name)
            if match and os.access(path, os.X_OK):
                found.setdefault(match[1], path)
    return found
