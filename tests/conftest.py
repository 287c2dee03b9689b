"""How the tests share the machine when they run side by side (``pytest -n auto``, as scripts/test does)."""

import os
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# Laboratory nodes count the processes of one user, mount over the same places and wait for what hangs: one at a time.
ONE_AT_A_TIME = ("tests/lab/", "tests/glidein/", "tests/probe/test_minimal_image.py")

# pytest-xdist gives its workers 80; then tables have other widths than in a run without it.
os.environ.pop("COLUMNS", None)


class ByFile(LoadScopeScheduling):
    """The tests of a file stay in one process, and those of the laboratory all in one.

    pytest-xdist's own groups by mark (loadgroup, 3.8) are lost on the way with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "one at a time" if nodeid.startswith(ONE_AT_A_TIME) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:  # noqa: ANN401  a type that xdist does not export
    """pytest-xdist's question who gives tests to processes."""
    return ByFile(config, log)
