"""Python functions in children that can be abandoned: whatever may hang is called here, never in the probe's own process.

A worker is a forked child that runs ``function(*arguments)`` and sends each value it produces as one line of JSON. The
parent polls; at the limit it kills the child with all that descends from it, and goes on even if it does not die.
"""

import errno
import json
import os
import select
import signal
import sys
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Set, Tuple

from probe import kernel, process, stuck

# What a worker's own children get to die in at its end; what does not is killed once more by who adopts it.
HAND_OVER_S = 0.1

_stuck_since_earlier: Set[str] = set()


def remember_stuck() -> None:
    """Look for what hangs since an earlier run; it will not be touched again. Once, before any worker is started."""
    _stuck_since_earlier.update(stuck.find())


class Result(NamedTuple):
    """What became of a worker.

    ``state``: "done" (``value`` is the last value sent), "timeout" (killed at its limit; ``value`` is the last one sent
    before, or None), "died" (``detail`` says how; ``value`` as before). ``errno`` is set when an OSError ended it.
    """

    state: str
    value: Any
    detail: str
    errno: Optional[int]
    duration_s: float
    left_running: bool = False

    @property
    def lost_reason(self) -> str:
        """The reason code for a worker that gave no answer: a limit of this node, its slowness, or a fault of ours."""
        if self.state == "timeout":
            return "deadline_reached"
        return "resources_exhausted" if self.errno in process.EXHAUSTED else "probe_error"


def is_stuck(name: str) -> bool:
    """Whether what a worker of this name would touch hangs since an earlier run."""
    return stuck.name_of(name) in _stuck_since_earlier


class _Running:
    def __init__(self, name: str, child: int, descriptor: int, limit_s: float) -> None:
        self.name, self.child, self.descriptor = name, child, descriptor
        self.started = time.monotonic()
        self.heard: Optional[float] = None  # when something was last read from it
        self.deadline = self.started + limit_s
        self.buffer = b""


class Pool:
    """Workers side by side. Use: ``start`` some, then ``wait`` until each has given its Result."""

    def __init__(self, wake: Optional[int] = None) -> None:
        self._running: Dict[int, _Running] = {}
        self._unstarted: List[Tuple[str, Result]] = []
        self._poll = select.poll()
        self._wake = wake
        if wake is not None:
            self._poll.register(wake, select.POLLIN)

    def __len__(self) -> int:
        return len(self._running)

    def start(self, name: str, limit_s: float, function: Callable[..., Iterable[Any]], *arguments: Any) -> None:
        """Run a generator function in a child; each value it yields must be JSON; the last one is its result."""
        if is_stuck(name):
            still = "has not answered since an earlier run"
            self._unstarted.append((name, Result("timeout", None, still, None, 0.0, left_running=True)))
            return
        try:
            read_end, write_end = os.pipe()
            child = os.fork()
        except OSError as error:  # no process or descriptor left under the limits here
            self._unstarted.append((name, Result("died", None, _describe(error), error.errno, 0.0)))
            return
        if child == 0:
            _serve(write_end, name, function, arguments)
        os.close(write_end)
        os.set_blocking(read_end, False)
        self._running[read_end] = _Running(name, child, read_end, limit_s)
        self._poll.register(read_end, select.POLLIN)

    def wait(self, until: float, meanwhile: Iterable[Callable[[], object]] = ()) -> Iterator[Tuple[str, Result]]:
        """Yield (name, Result) of workers as they end, until none runs, the monotonic time ``until`` is reached, or the
        wake descriptor has something to read. More may be started by the caller. While nothing has ended, ``meanwhile``
        is called, one after the other."""
        chores = iter(meanwhile)
        while self._running or self._unstarted:
            while self._unstarted:
                yield self._unstarted.pop()
            if not self._running:
                return
            now = time.monotonic()
            next_limit = min(running.deadline for running in self._running.values())
            timeout_s = min(next_limit, until) - now
            ready = self._poll.poll(0)
            chore = None if ready else next(chores, None)
            if chore is not None:
                chore()
                continue
            for descriptor, _ in ready or self._poll.poll(max(0, int(timeout_s * 1000) + 1)):
                if descriptor == self._wake:
                    return
                if not _read(self._running[descriptor]):
                    running = self._drop(descriptor)
                    yield running.name, _finished(running)
            now = time.monotonic()
            yield from self._cut([running for running in self._running.values() if running.deadline <= now])
            if now >= until:
                return

    def so_far(self) -> Dict[str, Tuple[Any, Optional[float]]]:
        """The last value that each worker has sent, and when on the monotonic clock; (None, None) where none came yet."""
        return {running.name: (_latest(running), running.heard) for running in self._running.values()}

    def abandon(self, patience_s: float = process.KILL_WAIT_S) -> Dict[str, Result]:
        """Kill all that still run; returns their results so far, by name."""
        return dict(self._cut(list(self._running.values()), patience_s))

    def _cut(self, late: List[_Running], patience_s: float = process.KILL_WAIT_S) -> Iterator[Tuple[str, Result]]:
        """Kill workers together, so that those that do not die cost one patience, not one each."""
        for running in late:
            self._drop(running.descriptor)
            _kill_family(running.child)
        patience_ends = time.monotonic() + patience_s
        for running in late:
            yield running.name, _cut(running, max(0.0, patience_ends - time.monotonic()))

    def _drop(self, descriptor: int) -> _Running:
        self._poll.unregister(descriptor)
        return self._running.pop(descriptor)


def call_all(limit_s: float, calls: Dict[str, List[Any]], at_once: int) -> Dict[str, Result]:
    """Call several functions side by side, each ``[function, argument, ...]``, its limit counted from its own start."""
    pool = Pool()
    waiting = list(calls)
    results: Dict[str, Result] = {}

    def start_some() -> None:
        while waiting and len(pool) < at_once:
            name = waiting.pop(0)
            function, arguments = calls[name][0], calls[name][1:]
            pool.start(name, limit_s, _once, function, arguments)

    start_some()
    for name, result in pool.wait(float("inf")):
        results[name] = result
        start_some()
    return results


def call_in_turn(calls: List[List[Any]]) -> List[Dict[str, Any]]:
    """Call functions one after the other: {"value": ...} or {"errno": ...} for each."""
    answers: List[Dict[str, Any]] = []
    for function, *arguments in calls:
        try:
            answers.append({"value": function(*arguments)})
        except OSError as error:
            answers.append({"errno": error.errno or errno.EIO})
    return answers


def _once(function: Callable[..., Any], arguments: Iterable[Any]) -> Iterator[Any]:
    yield function(*arguments)


def _serve(descriptor: int, name: str, function: Callable[..., Iterable[Any]], arguments: Iterable[Any]) -> None:
    """In the child: never returns. A failure is the last line sent, so that the parent can say what it was."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, _end_with_descendants)
        # A child of ours that hangs for ever must not hold the pipe on which our own end is awaited.
        process.close_all_but(descriptor)
        process.close_standard_streams()
        stuck.set_name(name)
        os.setsid()
        # When the probe itself is killed, its workers are told, and take with them what a container start left.
        kernel.die_with_parent(signal.SIGTERM)
        kernel.adopt_orphans()
        for value in function(*arguments):
            _send(descriptor, {"value": value})
        _send(descriptor, {"end": True})
    except BaseException as error:  # noqa: BLE001  the one place where a detector's failure becomes data
        _send(descriptor, {"error": _describe(error), "errno": _errno_of(error)})
    finally:
        process.kill_descendants(HAND_OVER_S)
        os._exit(0)


def _end_with_descendants(number: int, _frame: Any) -> None:
    process.kill_descendants()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _send(descriptor: int, message: Dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def _errno_of(error: BaseException) -> Optional[int]:
    return errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)


def _describe(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    traceback = sys.exc_info()[2]
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = (
        "{}:{}".format(os.path.basename(traceback.tb_frame.f_code.co_filename), traceback.tb_lineno)
        if traceback
        else "?"
    )
    return "{}: {} ({})".format(type(error).__name__, error, where)


def _read(running: _Running) -> bool:
    """Read what a worker sent; False at the end of its stream."""
    try:
        block = os.read(running.descriptor, 1 << 20)
    except BlockingIOError:
        return True
    running.buffer += block
    running.heard = time.monotonic()
    return bool(block)


def _messages(running: _Running) -> List[Dict[str, Any]]:
    return [json.loads(line.decode()) for line in running.buffer.split(b"\n")[:-1]]


def _latest(running: _Running) -> Any:
    """The value in the last line that is whole; None when that is none."""
    lines = running.buffer.rsplit(b"\n", 2)[:-1]
    return json.loads(lines[-1].decode()).get("value") if lines else None


def _last_value(messages: List[Dict[str, Any]]) -> Any:
    values = [message["value"] for message in messages if "value" in message]
    return values[-1] if values else None


def _finished(running: _Running) -> Result:
    os.close(running.descriptor)
    status = process.reap(running.child, process.KILL_WAIT_S)
    messages = _messages(running)
    duration_s = time.monotonic() - running.started
    value = _last_value(messages)
    failed = [message for message in messages if "error" in message]
    if failed:
        return Result("died", value, failed[0]["error"], failed[0]["errno"], duration_s)
    if status is None or os.WIFSIGNALED(status):
        how = "signal {}".format(os.WTERMSIG(status)) if status is not None else "closed its pipe without ending"
        return Result("died", value, how, None, duration_s, left_running=status is None)
    if not any("end" in message for message in messages):
        return Result("died", value, "ended without an answer", None, duration_s)
    return Result("done", value, "", None, duration_s)


def _kill_family(child: int) -> None:
    for pid in [child, *_below(child)]:
        process.kill(pid)


def _cut(running: _Running, patience_s: float) -> Result:
    _read(running)
    os.close(running.descriptor)
    left_running = process.reap(running.child, patience_s) is None
    duration_s = time.monotonic() - running.started
    return Result("timeout", _last_value(_messages(running)), "", None, duration_s, left_running)


def _below(ancestor: int) -> List[int]:
    """Descendants of one child of ours, so that killing it frees none of them."""
    parents = {pid: process.state_and_parent(pid)[1] for pid in process.descendants()}
    found = {ancestor}
    for _ in range(len(parents)):
        fresh = {pid for pid, parent in parents.items() if parent in found} - found
        if not fresh:
            break
        found |= fresh
    return sorted(found - {ancestor})
