"""Processes that check reports and make them durable, each in a segment of its own in the inbox's folder.

Parsing and checking takes most of a report's processor time; in threads of the collector it would stand still whenever
another thread has the interpreter. A child gets a large batch as it came and answers with what became of each line. Single
reports have a child of their own, which gets those together that came while it was busy.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection, Pipe
from queue import SimpleQueue
from typing import NamedTuple

from reports.gate_child import Done, LineResult, Work
from reports.problems import HttpProblem
from reports.settings import Settings
from reports.singles import Found, Singles
from site_db.errors import DatabaseUnavailable
from site_db.inbox import Inbox

LOG = logging.getLogger("site_db.collector")
# Not -m: what is pickled there has to be of the module of this name here.
_CHILD = "import sys; from reports.gate_child import main; main(int(sys.argv[1]))"
_SEGMENT_BYTES = 32 * 1024 * 1024


class Outcome(NamedTuple):
    """What became of a batch: its lines, "new" or "known" for each that was kept, in their order, and why it ended early."""

    lines: list[LineResult]
    outcomes: list[str]
    problem: HttpProblem | None


class Gate:
    """Children, one for each processor or `children` and one for single reports; started when needed, anew when one died.

    Each begins a new segment when its own has more than `segment_bytes`.
    """

    def __init__(
        self, inbox: Inbox, settings: Settings, children: int | None = None, segment_bytes: int = _SEGMENT_BYTES
    ) -> None:
        self._inbox = inbox
        of_batches = children or len(os.sched_getaffinity(0))
        self._children = [_Child(inbox.folder, settings, segment_bytes) for _ in range(1 + of_batches)]
        self._child_of_singles, *rest = self._children
        self._idle: SimpleQueue[_Child] = SimpleQueue()
        for child in rest:
            self._idle.put(child)
        self._singles = Singles(self._keep_singles)

    def check(self, work: Work) -> Outcome:
        """Check a batch, and keep it. Blocks. Raises Busy, DatabaseUnavailable: then nothing of it is acknowledged."""
        self._inbox.check_room(1)
        child = self._idle.get()
        try:
            done = child.ask(work, self._inbox)
            outcomes: list[str] = []
            self._take(child, done, outcomes.extend)
        finally:
            self._idle.put(child)
        return Outcome(done.lines, outcomes, HttpProblem(*done.refusal) if done.refusal else None)

    def submit(self, work: Work) -> "Future[Found]":
        """Queue a single report; the future gives its id with "new" or "known" when it is durable (of few: when the database
        has it), and None for what is not plainly a report. Raises Busy; the future raises DatabaseUnavailable."""
        self._inbox.check_room(1 + self._singles.waiting)
        return self._singles.submit(work)

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that were started."""
        return [child.pid for child in self._children if child.pid]

    def close(self) -> None:
        """End the children; nobody may be checking any more."""
        self._singles.close()
        for child in self._children:
            child.end(self._inbox)

    def _keep_singles(self, bodies: list[Work], answer: Callable[[Sequence[Found]], None]) -> None:
        child = self._child_of_singles
        done = child.ask(bodies, self._inbox)

        def told(outcomes: Sequence[str]) -> None:
            rest = iter(outcomes)
            answer([(line.report_id, next(rest)) if line.report_id else None for line in done.lines])

        self._take(child, done, told, few_wait=True)

    def _take(
        self, child: "_Child", done: Done, answer: Callable[[Sequence[str]], None], *, few_wait: bool = False
    ) -> None:
        try:
            self._inbox.take(done.written, answer, few_wait=few_wait)
        finally:
            # Not before, nor in another batch: until they are taken nothing but the child's use of it keeps a segment.
            child.let_go(self._inbox)


class _Child:
    def __init__(self, *given: object) -> None:
        self._given = given  # to its Checker
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._segment: str | None = None
        self._left: list[str] = []  # segments that it has ended

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ask(self, work: Work | list[Work], inbox: Inbox) -> Done:
        try:
            if self._pipe is None:
                self._start()
            assert self._pipe  # noqa: S101 - _start made it
            self._pipe.send(work)
            done: Done | str = self._pipe.recv()
        except (EOFError, OSError) as error:
            self.end(inbox)
            LOG.error("a process that checks reports ended; another is started")
            raise DatabaseUnavailable("A process that checks reports ended.", "It is started anew.") from error
        if isinstance(done, str):
            raise DatabaseUnavailable(done, "Make room, or mend the disk.")
        if done.segment != self._segment:
            self._left += [self._segment] if self._segment else []
            self._segment = done.segment
            if done.segment:
                inbox.use(done.segment)
        return done

    def let_go(self, inbox: Inbox) -> None:
        """Release the segments that were ended; what they hold was taken."""
        while self._left:
            inbox.release(self._left.pop())

    def end(self, inbox: Inbox) -> None:
        self.let_go(inbox)
        if self._pipe:
            self._pipe.close()
        if self._process:
            self._process.wait()
        if self._segment:
            inbox.release(self._segment)
        self._process = self._pipe = self._segment = None

    def _start(self) -> None:
        self._pipe, theirs = Pipe()
        command = [sys.executable, "-c", _CHILD, str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment
            )
        self._pipe.send(self._given)


