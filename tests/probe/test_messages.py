"""What is said to people, where nobody can hear it."""

import errno
import io
import os
import sys

import pytest

from probe import look, messages


class Broken(io.StringIO):
    """A terminal that takes nothing."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, _text: str) -> int:
        raise self._error

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), BrokenPipeError(errno.EPIPE, "gone"), ValueError("closed")]
)
def test_a_log_that_takes_nothing_is_no_error(monkeypatch: pytest.MonkeyPatch, error: Exception):
    monkeypatch.setattr(sys, "stderr", Broken(error))
    messages.say("a message")
    look._progress("scratch", 1, 2)
    monkeypatch.setattr(sys, "stderr", None)
    messages.say("a message")


def test_a_disk_that_is_full_is_found_at_once_and_passed_over(monkeypatch: pytest.MonkeyPatch):
    with os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb", 0) as raw:
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, write_through=True))
        messages.say("a message")
        sys.stderr.detach()


def test_a_message_is_one_line_of_printable_ascii(capsys: pytest.CaptureFixture[str]):
    messages.say("caf\xe9\n\x1b[31mred")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("singularity-probe: caf")
    assert said.isascii()
