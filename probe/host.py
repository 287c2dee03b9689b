"""The one door to the machine: files, folders, programs, the environment, the clock.

Tests move the root, record what a live host answered and play it back; detectors never notice. Plain reads are for
/proc, /sys, /etc and the like; whatever may lie on a foreign file system goes through ``attempt``.
"""

import os
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from probe import process, workers

READ_LIMIT_BYTES = 256 * 1024

LIMITS = ("nofile", "nproc", "stack", "as", "core", "fsize", "memlock", "data")


class Run(NamedTuple):
    """A program to run with a host's environment and some changes to it (None removes a name)."""

    command: List[str]
    changes: Mapping[str, Optional[str]] = {}


class Host:
    """A machine seen from one process."""

    def __init__(self, environment: Optional[Mapping[str, str]] = None, root: str = "/") -> None:
        self.environment = dict(os.environ if environment is None else environment)
        self._root = root
        self.run_id = os.urandom(8).hex()
        # When the present run has to end, on the monotonic clock; the engine sets it.
        self.ends_at = float("inf")

    def at(self, path: str) -> str:
        """Where a path of this host really lies."""
        return path if self._root == "/" else os.path.join(self._root, path.lstrip("/"))

    def read(self, path: str) -> str:
        """The text of a small local file (256 KiB at most); raises OSError."""
        with open(self.at(path), "rb") as stream:
            return stream.read(READ_LIMIT_BYTES).decode("utf-8", "replace")

    def read_or_none(self, path: str) -> Optional[str]:
        """The text of a small local file, None when it can't be read."""
        try:
            return self.read(path)
        except OSError:
            return None

    def list(self, path: str) -> List[str]:
        """Sorted names in a local folder, none when it can't be listed."""
        try:
            return sorted(os.listdir(self.at(path)))
        except OSError:
            return []

    def attempt_together(self, limit_s: float, calls: Dict[str, List[Any]]) -> Dict[str, workers.Result]:
        """Several attempts that seldom hang, one after the other in one child; apart where that child is lost."""
        name = next(iter(calls), "")
        result = (
            workers.call_all(limit_s, {name: [workers.call_in_turn, list(calls.values())]}, 1)[name] if calls else None
        )
        if result is None or result.state != "done":
            return self.attempt_all(limit_s, calls)
        return {
            name: result._replace(state="died", value=None, errno=answer["errno"], detail=os.strerror(answer["errno"]))
            if "errno" in answer
            else result._replace(value=answer["value"])
            for name, answer in zip(calls, result.value)
        }

    def writable(self, path: str) -> bool:
        """Whether a local path can be written by us."""
        return os.access(self.at(path), os.W_OK)

    def exists(self, path: str) -> bool:
        """Whether a local path exists; for foreign file systems use ``attempt``."""
        return os.path.exists(self.at(path))

    def run(
        self, command: List[str], limit_s: float, changes: Optional[Mapping[str, Optional[str]]] = None
    ) -> process.Outcome:
        """Run a program with this host's environment and some changes to it (None removes a name)."""
        return process.run(command, limit_s, self._changed(changes or {}))

    def run_each(self, runs: Dict[str, Run], limit_s: float, at_once: int = 64) -> Dict[str, process.Outcome]:
        """Run programs side by side, each with the limit from its own start. The names are for the records; what hangs
        since an earlier run is not run again."""
        outcomes = {name: process.Outcome("timeout", None, None, None, "", "", 0.0, True) for name in runs}
        names = [name for name in runs if not workers.is_stuck(name)]
        programs = [process.Program(runs[name].command, self._changed(runs[name].changes), name) for name in names]
        outcomes.update(zip(names, process.run_each(programs, limit_s, at_once)))
        return outcomes

    def _changed(self, changes: Mapping[str, Optional[str]]) -> Dict[str, str]:
        environment = dict(self.environment)
        for name, value in changes.items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        return environment

    def attempt(self, name: str, limit_s: float, function: Callable[..., Any], *arguments: Any) -> workers.Result:
        """Call a function that may hang, or that changes its process for ever, in a child. The name is for the records."""
        return self.attempt_all(limit_s, {name: [function, *arguments]})[name]

    def attempt_all(self, limit_s: float, calls: Dict[str, List[Any]], at_once: int = 64) -> Dict[str, workers.Result]:
        """Several attempts side by side, each ``name: [function, argument, ...]`` with the same limit."""
        return workers.call_all(limit_s, calls, at_once)

    def attempt_in_turn(self, limit_s: float, groups: Dict[str, List[List[Any]]]) -> Dict[str, workers.Result]:
        """Groups of attempts side by side, those of a group in turn in one child: {"value": ..} or {"errno": ..} each."""
        return self.attempt_all(limit_s, {name: [workers.call_in_turn, calls] for name, calls in groups.items()})

    def attempt_each(self, calls: Dict[str, List[Any]], limits_s: Dict[str, float]) -> Dict[str, workers.Result]:
        """Many attempts that seldom hang, each with a limit of its own, in a few children (see relay)."""
        from probe import relay

        return relay.call_each(calls, limits_s)

    def attempt_by_place(
        self, calls: Dict[str, List[Any]], limits_s: Dict[str, float], places: Dict[str, str]
    ) -> Dict[str, workers.Result]:
        """The same, one child a place (a mount); what hangs there spares the place the other attempts."""
        from probe import relay

        return relay.call_by_place(calls, limits_s, places)

    def limit(self, wanted_s: float, share: float = 1.0) -> float:
        """A time limit: what is wanted, but no more than a share of what is left of the deadline (0.2 s at least)."""
        return max(0.2, min(wanted_s, (self.ends_at - time.monotonic()) * share))

    def facts(self) -> Dict[str, Any]:
        """What the kernel tells this process about itself, without a file system."""
        import resource

        uname = os.uname()
        return {
            "hostname": uname.nodename,
            "release": uname.release,
            "arch": uname.machine,
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "cores": os.cpu_count(),
            "cores_usable": len(os.sched_getaffinity(0)),
            "folder": _folder(),
            "limits": {name: resource.getrlimit(getattr(resource, "RLIMIT_" + name.upper()))[0] for name in LIMITS},
        }

    def libc(self) -> Optional[str]:
        """The C library of this process, such as "glibc 2.36"; None where it tells no version (musl)."""
        try:
            return os.confstr("CS_GNU_LIBC_VERSION")
        except (ValueError, OSError):
            return None

    def nonce(self) -> str:
        """A word that nobody else can print."""
        return os.urandom(16).hex()

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()


def cut_short(timed_out: Any, wanted_s: float) -> bool:
    """Whether a Result or an Outcome that timed out might have come to an end: it had less than half of the time that
    was wanted, for a deadline is near, and could be killed."""
    return not timed_out.left_running and bool(timed_out.duration_s < wanted_s / 2)


def _folder() -> Optional[str]:
    try:
        return os.getcwd()
    except OSError:  # the folder was removed under us
        return None
