"""What a container start with our payload tells: whether it ran, in which mode, and what it saw inside.

The payload prints lines that begin with a nonce (payload/payload-x86_64.S); a start is good only if the exit code is 0,
the nonce's last line is there, and nothing was printed before its first: Singularity has been seen to exit 0 after a
FATAL (glideinWMS issue 395), and GlideinWMS takes a banner for the map.
"""

import os
import re
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from probe import stderr_rules
from probe.checks import Check, check, decisive_lines
from probe.process import EXHAUSTED, Outcome


class Seen(NamedTuple):
    """What the payload printed: the uid map's lines, its pid, and the errno (0: opened) of each path it was given."""

    complete: bool
    uid_map: List[str]
    pid: Optional[int]
    paths: Dict[str, int]


class Verdict(NamedTuple):
    """One judged start."""

    status: str
    reason: Optional[str]
    message: Optional[str]
    seen: Seen
    outcome: Outcome
    command: str

    @property
    def ok(self) -> bool:
        """True when the payload ran to its end."""
        return self.status == "ok"

    @property
    def mode(self) -> Optional[str]:
        """privileged, unprivileged or fakeroot, by the first line of the uid map; None when it did not run."""
        # Without a map there are no user namespaces, and GlideinWMS says the same.
        found = mode_of(self.seen.uid_map) if self.seen.uid_map else "privileged"
        return found if self.ok else None

    def as_check(self, identifier: str) -> Check:
        """This start as a check of the report."""
        return check(
            identifier,
            self.status,
            self.reason,
            self.message,
            self.outcome.duration_s,
            command=self.command,
            exit_code=self.outcome.exit_code,
            signal=self.outcome.signal,
            errno=self.outcome.error,
            left_running=self.outcome.left_running or None,
            defunct=self.outcome.defunct or None,
            stderr=decisive_lines(self.outcome.stderr) or None,
            uid_map=" ; ".join(self.seen.uid_map) or None,
        )


def parse(stdout: str, nonce: str) -> Seen:
    """The payload's lines out of whatever else was printed (Singularity 2.x prints escape codes on stdout)."""
    words = re.findall("^.*?" + re.escape(nonce) + r" (\w+) ?(.*?)\r?$", stdout, re.MULTILINE)
    paths = {}
    for key, value in words:
        if key == "path":
            error, _, path = value.partition(" ")
            if error.isdecimal():
                paths[path] = int(error)
    pids = [int(value) for key, value in words if key == "pid" and value.isdecimal()]
    return Seen(
        any(key == "end" for key, _ in words) and _first_line(stdout).startswith(nonce),
        [" ".join(value.split()) for key, value in words if key == "uid_map"],
        pids[0] if pids else None,
        paths,
    )


def _first_line(stdout: str) -> str:
    """The line that GlideinWMS judges by (singularity_test_exec): the first, without 2.x's escape codes."""
    return re.sub(r"\x1b(\[[0-9;]*m?|[()][A-Z0-9])", "", stdout).partition("\n")[0]


def mode_of(uid_map: List[str]) -> Optional[str]:
    """The mode by the first line of /proc/self/uid_map inside, as GlideinWMS reads it; None without a line."""
    fields = uid_map[0].split() if uid_map else []
    if len(fields) < 2:
        return None
    if fields[0] != "0":
        return "unprivileged"
    return "privileged" if fields[1] == "0" else "fakeroot"


def judge(
    outcome: Outcome, nonce: str, command: str, facts: Callable[[], Dict[str, Any]], limit_s: float, maps: bool = True
) -> Verdict:
    """Judge one start; ``facts`` gives what the rules for messages may ask (see stderr_rules), if they have to.

    ``maps``: this kernel has uid maps; on one that is older GlideinWMS does not ask for them.
    """
    seen = parse(outcome.stdout, nonce)
    status, reason, message = "ok", None, None  # type: str, Optional[str], Optional[str]
    banner: Any = False
    if outcome.state == "timeout":
        status, reason, message = "timeout", "runtime_timeout", "no answer within {:.0f} s".format(limit_s)
    elif outcome.state == "not_started":
        status, reason = "fail", "resources_exhausted" if outcome.error in EXHAUSTED else "runtime_not_executable"
        message = os.strerror(outcome.error) if outcome.error else "could not be executed"
    elif outcome.succeeded and seen.complete and maps and not seen.uid_map:
        # The factory's test reads the map, and jobs need /proc.
        status, reason, message = "fail", "runtime_config_invalid", "/proc/self/uid_map cannot be read inside"
    elif outcome.succeeded and seen.complete:
        pass
    elif outcome.signal:
        status, reason, message = "fail", "runtime_crashed", "ended by signal {}".format(outcome.signal)
    elif outcome.succeeded:
        status, reason, message = "fail", "runtime_wrong_output", "exit code 0, but the payload did not run"
        banner = seen.uid_map and not _first_line(outcome.stdout).startswith(nonce)
    else:
        status = "fail"
    if banner:
        message = "GlideinWMS reads the first line that it prints, {!r}".format(_first_line(outcome.stdout)[:80])
    elif status == "fail":
        match = stderr_rules.match(outcome.stderr, facts())
        reason = match.reason if match else reason or "runtime_failed"
        message = match.line if match else message or _last_line(outcome)
    return Verdict(status, reason, message, seen, outcome, command)


def _last_line(outcome: Outcome) -> str:
    lines = decisive_lines(outcome.stderr, 1)
    return lines[0] if lines else "exit code {} without a message".format(outcome.exit_code)
