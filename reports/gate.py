"""Processes that check large batches and make them durable, each in a segment of its own in the inbox's folder.

Parsing and checking takes most of a report's processor time; in threads of the collector it would stand still whenever
another thread has the interpreter. A child gets a body as it came and answers with what became of each line.
"""

import logging
import os
import signal
import subprocess
import sys
import uuid
from io import BytesIO
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from reports.authorization import Sender
from reports.batches import Bodies
from reports.contract import Problem
from reports.intake import utc_now
from reports.problems import HttpProblem
from reports.settings import Settings
from site_db import garbage
from site_db.errors import DatabaseUnavailable
from site_db.inbox import Inbox
from site_db.segments import SUFFIX, Frame, Segment
from site_db.times import microseconds

LOG = logging.getLogger("site_db.collector")
# Not -m: what is pickled there has to be of the module of this name here.
_CHILD = "import sys; from reports.gate import main; main(int(sys.argv[1]))"
_SEGMENT_BYTES = 32 * 1024 * 1024


class Work(NamedTuple):
    """A body to be checked."""

    body: bytes
    encoding: str
    sender: Sender


class LineResult(NamedTuple):
    """What became of a line: the id of a report that is kept, or the refusal."""

    number: int
    report_id: str | None
    status: int
    reason: str
    problems: list[Problem]


class _Refusal(NamedTuple):
    """Why a batch ended early: an HttpProblem's members."""

    status: int
    detail: str
    kind: str


class _Done(NamedTuple):
    lines: list[LineResult]
    written: list[tuple[Frame, list[bytes]]]
    segment: str | None  # the one that is written to now
    refusal: _Refusal | None


class Outcome(NamedTuple):
    """What became of a batch: its lines, "new" or "known" for each that was kept, in their order, and why it ended early."""

    lines: list[LineResult]
    outcomes: list[str]
    problem: HttpProblem | None


class Gate:
    """Children, one for each processor or `children`; started with the first batch, anew when one died.

    Each begins a new segment when its own has more than `segment_bytes`.
    """

    def __init__(
        self, inbox: Inbox, settings: Settings, children: int | None = None, segment_bytes: int = _SEGMENT_BYTES
    ) -> None:
        self._inbox = inbox
        self._settings = settings
        self._idle: SimpleQueue[_Child] = SimpleQueue()
        self._children = [
            _Child(inbox.folder, settings, segment_bytes) for _ in range(children or len(os.sched_getaffinity(0)))
        ]
        for child in self._children:
            self._idle.put(child)

    def check(self, work: Work) -> Outcome:
        """Check a batch, and keep it. Blocks. Raises Busy, DatabaseUnavailable: then nothing of it is acknowledged."""
        self._inbox.check_room(1)
        child = self._idle.get()
        try:
            done = child.ask(work, self._inbox)
            try:
                outcomes = self._inbox.take(done.written)
            finally:
                # Not before, nor in another batch: until they are taken nothing but the child's use of it keeps a segment.
                child.let_go(self._inbox)
        finally:
            self._idle.put(child)
        return Outcome(done.lines, outcomes, HttpProblem(*done.refusal) if done.refusal else None)

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that were started."""
        return [child.pid for child in self._children if child.pid]

    def close(self) -> None:
        """End the children; nobody may be checking any more."""
        for child in self._children:
            child.end(self._inbox)


class _Child:
    def __init__(self, *given: object) -> None:
        self._given = given  # to its _Checker
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._segment: str | None = None
        self._left: list[str] = []  # segments that it has ended

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ask(self, work: Work, inbox: Inbox) -> _Done:
        try:
            if self._pipe is None:
                self._start()
            assert self._pipe  # noqa: S101 - _start made it
            self._pipe.send(work)
            done: _Done | str = self._pipe.recv()
        except (EOFError, OSError) as error:
            self.end(inbox)
            LOG.error("a process that checks batches ended; another is started")
            raise DatabaseUnavailable("A process that checks batches ended.", "It is started anew.") from error
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


class _Checker:
    """The child's work."""

    def __init__(self, folder: Path, settings: Settings, segment_bytes: int) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._bodies = Bodies(settings, quickly=True)
        self._segment: Segment | None = None

    def done(self, work: Work) -> _Done:
        """Check a body chunk by chunk, and flush once."""
        results: list[LineResult] = []
        written: list[tuple[Frame, list[bytes]]] = []
        refusal = None
        rest = self._bodies.lines(BytesIO(work.body), work.encoding)
        try:
            while (chunk := self._bodies.next_chunk(rest, work.sender)) is not None:
                kept = [line.submission for line in chunk if line.submission]
                if kept:
                    ids = [uuid.UUID(item.report["report_id"]).bytes for item in kept]
                    frame = self._writable().append(microseconds(utc_now()), ids, [item.raw for item in kept])
                    written.append((frame, ids))
                results += [
                    LineResult(
                        line.number, line.submission and line.submission.report["report_id"], *line[2:]
                    )
                    for line in chunk
                ]
        except HttpProblem as found:
            refusal = _Refusal(found.status, found.detail, found.kind)
        if written and self._segment:
            self._segment.flush()
        return _Done(results, written, str(self._segment.path) if self._segment else None, refusal)

    def _writable(self) -> Segment:
        segment = self._segment
        if segment and (segment.is_broken or segment.size > self._segment_bytes):
            self._end(segment)
            segment = None
        self._segment = segment or Segment(self._folder / f"{uuid.uuid4().hex}{SUFFIX}")
        return self._segment


    def _end(self, segment: Segment) -> None:
        """Part of the batch may be in it."""
        self._segment = None
        try:
            if not segment.is_broken:
                segment.flush()
        finally:
            segment.close()


def main(descriptor: int) -> None:
    """The child: check what comes, until the pipe ends."""
    # They are for the parent, which ends the pipe when it is done.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    garbage.look_seldom()
    with Connection(descriptor) as pipe:
        _serve(pipe)


def _serve(pipe: Connection) -> None:
    try:
        checker = _Checker(*pipe.recv())
        while True:
            work = pipe.recv()
            try:
                answer: Any = checker.done(work)
            except OSError as error:
                answer = f"The inbox cannot be written: {error.strerror}."
            pipe.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent ended
