"""Processes that check reports and make them durable, each in a segment of its own in the inbox's folder.

Parsing and checking takes most of a report's processor time; in threads of the collector it would stand still whenever
another thread has the interpreter. A child gets a large batch as it came and answers with what became of each line. Single
reports have a child of their own, which gets those together that came while it was busy.
"""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import BinaryIO, NamedTuple

from reports import messages
from reports.gate_child import Done, Kept, LineResult, Work
from reports.problems import HttpProblem
from reports.settings import Settings
from reports.singles import Found, Singles, Tell
from site_db.errors import DatabaseUnavailable
from site_db.inbox import Inbox
from site_db.segments import Frame

LOG = logging.getLogger("site_db.collector")
# Not -m: what is pickled there has to be of the module of this name here.
_CHILD = "import sys; from reports.gate_child import main; main(int(sys.argv[1]))"
_SEGMENT_BYTES = 32 * 1024 * 1024

Written = Sequence[tuple[Frame, list[bytes]]]


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
        self._singles = Singles(partial(self._child_of_singles.start_anew, inbox), self._take_singles)

    def check(self, work: Work) -> Outcome:
        """Check a batch, and keep it. Blocks. Raises Busy, DatabaseUnavailable: then nothing of it is acknowledged."""
        self._inbox.check_room(1)
        child = self._idle.get()
        try:
            done = child.ask(work, self._inbox)
            outcomes: list[str] = []
            self._take(child, done.written, outcomes.extend)
        finally:
            self._idle.put(child)
        return Outcome(done.lines, outcomes, HttpProblem(*done.refusal) if done.refusal else None)

    async def start(self) -> None:
        """Start the child of single reports; of batches each starts with the first."""
        self._singles.start()

    async def found(self, work: Work) -> Found:
        """A single report's id with "new" or "known" when it is durable (of few: when the database has it), None for what is
        not plainly a report. Raises Busy, DatabaseUnavailable."""
        self._inbox.check_room(1 + self._singles.waiting)
        return await self._singles.found(work)

    async def stop(self) -> None:
        """Take no single reports any more; to be called on the event loop that asked for them."""
        await self._singles.stop()

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that were started."""
        return [child.pid for child in self._children if child.pid]

    def close(self) -> None:
        """End the children; nobody may be checking any more."""
        for child in self._children:
            child.end(self._inbox)

    def _take_singles(self, kept: Kept, tell: Tell) -> None:
        child = self._child_of_singles
        child.writes_to(kept.segment, self._inbox)

        def told(outcomes: Sequence[str]) -> None:
            rest = iter(outcomes)
            tell([(report_id, next(rest)) if report_id else None for report_id in kept.report_ids])

        written = [(kept.frame, kept.ids)] if kept.frame else []
        self._take(child, written, told, few_wait=True)

    def _take(
        self, child: "_Child", written: Written, answer: Callable[[Sequence[str]], None], *, few_wait: bool = False
    ) -> None:
        try:
            self._inbox.take(written, answer, few_wait=few_wait)
        finally:
            # Not before, nor in another batch: until they are taken nothing but the child's use of it keeps a segment.
            child.let_go(self._inbox)


class _Child:
    """A process and the segments that it writes to."""

    def __init__(self, *given: object) -> None:
        self._given = given  # to its Checker
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._answers: BinaryIO | None = None
        self._segment: str | None = None
        self._left: list[str] = []  # segments that it has ended

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ask(self, work: Work, inbox: Inbox) -> Done:
        try:
            if self._socket is None:
                self._socket = self._started()
                self._answers = self._socket.makefile("rb")
            assert self._answers  # noqa: S101 - made with the socket
            self._socket.sendall(messages.packed(work))
            done: Done | str = messages.read(self._answers)
        except (EOFError, OSError) as error:
            self.end(inbox)
            LOG.error("a process that checks reports ended; another is started")
            raise DatabaseUnavailable("A process that checks reports ended.", "It is started anew.") from error
        if isinstance(done, str):
            raise DatabaseUnavailable(done, "Make room, or mend the disk.")
        self.writes_to(done.segment, inbox)
        return done

    def start_anew(self, inbox: Inbox) -> socket.socket:
        """End what runs, start another, and give the socket to it to whom it belongs from now on. Raises OSError."""
        if self._process:
            self._process.kill()  # not waited for: whoever has its socket is done with it
        self.end(inbox)
        return self._started()

    def writes_to(self, segment: str | None, inbox: Inbox) -> None:
        """Note the segment of an answer, before what it tells of is taken."""
        if segment != self._segment:
            self._left += [self._segment] if self._segment else []
            self._segment = segment
            if segment:
                inbox.use(segment)

    def let_go(self, inbox: Inbox) -> None:
        """Release the segments that were ended; what they hold was taken."""
        while self._left:
            inbox.release(self._left.pop())

    def end(self, inbox: Inbox) -> None:
        """End it with its socket, and wait for it: what it keeps is taken, or for the next start of the collector."""
        self.let_go(inbox)
        if self._answers:
            self._answers.close()
        if self._socket:
            self._socket.close()
        if self._process:
            self._process.wait()
        if self._segment:
            inbox.release(self._segment)
        self._process = self._socket = self._answers = self._segment = None

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _CHILD, str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment
            )
        ours.sendall(messages.packed(self._given))
        return ours
