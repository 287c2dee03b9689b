"""Processes that check reports and make them durable, each in a segment of its own in the inbox's folder.

Parsing and checking takes most of a report's processor time; in threads of the collector it would stand still whenever
another thread has the interpreter. A child gets a large batch as it came and answers with what became of each line. Single
reports have a child of their own, which gets those together that came while it was busy.
"""

import os
from queue import SimpleQueue
from typing import NamedTuple

from reports.child import Child
from reports.gate_child import LineResult, Work
from reports.problems import HttpProblem
from reports.settings import Settings
from reports.singles import Found, Singles
from site_db.inbox import Inbox

_SEGMENT_BYTES = 32 * 1024 * 1024


class Outcome(NamedTuple):
    """What became of a batch: its lines, "new" or "known" for each that was kept, in their order, and why it ended early."""

    lines: list[LineResult]
    outcomes: list[str]
    problem: HttpProblem | None


class Gate:
    """Children, one for each processor or `children` and one for single reports; started when needed, anew when one died.

    Each asks the database at `url` which reports it has, and begins a new segment when its own has more than
    `segment_bytes`.
    """

    def __init__(
        self,
        inbox: Inbox,
        settings: Settings,
        url: str,
        children: int | None = None,
        segment_bytes: int = _SEGMENT_BYTES,
    ) -> None:
        self._inbox = inbox
        of_batches = children or len(os.sched_getaffinity(0))
        self._children = [Child(inbox, settings, segment_bytes, url) for _ in range(1 + of_batches)]
        self._singles = Singles(self._children[0], inbox)
        self._idle: SimpleQueue[Child] = SimpleQueue()
        for child in self._children[1:]:
            self._idle.put(child)

    def check(self, work: Work) -> Outcome:
        """Check a batch, and keep it. Blocks. Raises Busy, DatabaseUnavailable: then nothing of it is acknowledged."""
        self._inbox.check_room(1)
        child = self._idle.get()
        outcomes: list[str] = []
        try:
            with self._inbox.looking() as turn:
                done = child.ask(work)
                try:
                    self._inbox.take(done.written, outcomes.extend, looked=done.looked(turn))
                finally:
                    # Not before: until they are taken nothing but the child's use of it keeps a segment.
                    child.let_go()
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
            child.end()
