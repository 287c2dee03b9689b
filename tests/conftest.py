"""How the tests share the machine when they run side by side (``pytest -n auto --dist loadgroup``, as scripts/test does)."""

import os
from pathlib import Path

import pytest

# Laboratory nodes count the processes of one user, mount over the same places and wait for what hangs: one at a time.
ONE_AT_A_TIME = {"lab", "glidein"}
FILES_OF_THE_SAME_USER = {"test_minimal_image"}

# pytest-xdist gives its workers 80; then tables have other widths than in a run without it.
os.environ.pop("COLUMNS", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, and those of the laboratory all in one."""
    for item in items:
        folder, name = Path(item.path).parent.name, Path(item.path).stem
        alone = folder in ONE_AT_A_TIME or name in FILES_OF_THE_SAME_USER
        item.add_marker(pytest.mark.xdist_group("one at a time" if alone else f"{folder}/{name}"))
