"""Calls of the probe that change their process for ever, or kill all its descendants: made in a forked child."""
# ruff: noqa: ANN401 - the rows of a table give the types of its test's arguments

import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

LIMIT_S = 30


class Child:
    """A forked child that runs a function and sends back what it returns, as JSON takes it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._read_end, write_end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read_end)
            _serve(function, write_end)
        os.close(write_end)

    def signal(self, number: int) -> None:
        """Send the child a signal."""
        os.kill(self.pid, number)

    def answer(self) -> Any:
        """Wait for the child; returns its function's value, raises what it raised as an AssertionError."""
        with os.fdopen(self._read_end, "rb") as stream:
            data = stream.read()
        _, status = os.waitpid(self.pid, 0)
        assert data, f"the child ended with status {status} and said nothing"
        answer = json.loads(data)
        assert "error" not in answer, answer.get("error")
        return answer["value"]


def _serve(function: Callable[[], Any], write_end: int) -> None:
    signal.alarm(LIMIT_S)  # a test that hangs ends here
    try:
        message = {"value": function()}
    except BaseException:  # noqa: BLE001 - whatever it is, the parent fails with it
        message = {"error": traceback.format_exc()}
    os.write(write_end, json.dumps(message).encode())
    os._exit(0)


def in_a_child(function: Callable[[], Any]) -> Any:
    """The function's value, computed in a child of its own."""
    return Child(function).answer()


def wait_for(condition: Callable[[], object], limit_s: float = 10) -> None:
    """Return as soon as something outside of us has become true; fail where it does not."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as stream:  # noqa: PTH123 - read within milliseconds, many times
            return stream.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
