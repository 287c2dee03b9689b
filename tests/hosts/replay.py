"""A recorded host, played back without touching the machine, and the report that the probe makes of it.

Written for Python 3.6, as scripts/capture-host is.
"""

import os

from probe import settings
from probe.host import Host
from probe.process import Outcome
from probe.workers import Result
from tests.hosts.playing import detect_all, report_of
from tests.hosts.recording import FORMAT

NOWHERE = "/nonexistent/captured-host"


class NotRecorded(Exception):
    """A detector asks for what was not recorded: capture the host again, or add it to host.json by hand."""


class ReplayHost(Host):
    """A recorded machine. Nothing here reads a file, starts a program or forks."""

    def __init__(self, notes: "dict") -> None:
        if notes["format"] != FORMAT:
            raise ValueError(f"a host of format {notes['format']}; this plays {FORMAT}")
        super().__init__(notes["environment"], root=NOWHERE)
        self.notes = notes
        self._nonces = iter(notes["nonces"])
        self._used = {}

    def _noted(self, kind: str, key: str) -> "object":
        try:
            return self.notes[kind][key]
        except KeyError:
            raise NotRecorded(f"{kind}: {key!r}") from None

    def facts(self) -> "dict":
        """As recorded."""
        return dict(self.notes["facts"])

    def now(self) -> float:
        """As recorded."""
        return float(self.notes["now"])

    def nonce(self) -> str:
        """The next of the recorded words."""
        return str(next(self._nonces))

    def read(self, path: str) -> str:
        """As recorded; raises OSError where it did then."""
        found = self._noted("reads", path)
        if isinstance(found, dict):
            raise OSError(found["errno"], os.strerror(found["errno"]), path)
        return str(found)

    def list(self, path: str) -> "list":
        """As recorded."""
        return list(self._noted("lists", path))

    def exists(self, path: str) -> bool:
        """As recorded."""
        return bool(self._noted("exists", path))

    def run(self, command: "list", *_: "object") -> "object":
        """Never: programs that detectors run are recorded by their names."""
        raise NotRecorded(f"run: {command!r}")

    def run_each(self, runs: "dict", *_: "object") -> "dict":
        """As recorded: the notes hold programs among the attempts."""
        return {name: _outcome_of(self._next(name)) for name in runs}

    def attempt_all(self, _limit_s: float, calls: "dict", *_: "object") -> "dict":
        """As recorded, in the order in which a name was used again; the last one stays."""
        return {name: self._next(name) for name in calls}

    def attempt_together(self, limit_s: float, calls: "dict") -> "dict":
        """As recorded; one child or several makes no difference here."""
        return self.attempt_all(limit_s, calls)

    def attempt_each(self, calls: "dict", _limits_s: "dict") -> "dict":
        """As recorded; who made which attempt makes no difference here."""
        return self.attempt_all(0.0, calls)

    def attempt_by_place(self, calls: "dict", _limits_s: "dict", _places: "dict") -> "dict":
        """As attempt_each."""
        return self.attempt_all(0.0, calls)

    def _next(self, name: str) -> Result:
        noted = self._noted("attempts", name)
        number = self._used[name] = min(self._used.get(name, -1) + 1, len(noted) - 1)
        return Result(**noted[number])


def _outcome_of(noted: Result) -> Outcome:
    """What a noted attempt to run a program came to; hosts were captured when each had a child of its own."""
    if noted.state == "done":
        return Outcome(*noted.value)
    if noted.state == "died":
        return Outcome("not_started", None, None, noted.errno, "", noted.detail, noted.duration_s)
    return Outcome("timeout", None, None, None, "", noted.detail, noted.duration_s, noted.left_running)


def replayed_report(notes: "dict") -> "dict":
    """The report, from notes alone.

    Two of the probe's looks do not go through its host, the C library's version and the permissions of a control
    group's file: meanwhile they are answered from the notes.
    """
    host = ReplayHost(notes)
    chosen = settings.combine("manual", {}, host.environment, "config", notes.get("config", ""), {})
    outside = notes["outside"]
    real = os.confstr, os.access

    def confstr(_name: str) -> str:
        if outside["libc"] is None:
            raise ValueError("unrecognized configuration name")
        return str(outside["libc"])

    def access(path: str, _mode: int) -> bool:
        return bool(outside["writable"].get(path.replace(NOWHERE, "", 1), False))

    os.confstr, os.access = confstr, access
    try:
        return report_of(detect_all(host, chosen), chosen)
    finally:
        os.confstr, os.access = real
