"""The gate's child: checks what comes as bytes, and makes what is good of it durable in segments of its own."""

import contextlib
import signal
import socket
import uuid
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from reports import compression, messages
from reports.authorization import Sender
from reports.batches import Bodies
from reports.contract import Problem
from reports.intake import utc_now
from reports.problems import HttpProblem
from reports.settings import Settings
from site_db import garbage
from site_db.errors import SiteDbError
from site_db.inbox import Looked, Written
from site_db.known_reports import KnownReports
from site_db.segments import SUFFIX, Frame, Segment
from site_db.store import Submission
from site_db.times import microseconds


class Work(NamedTuple):
    """A body to be checked: a batch, or one report."""

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


class Refusal(NamedTuple):
    """Why a batch ended early: an HttpProblem's members."""

    status: int
    detail: str
    kind: str


class Done(NamedTuple):
    """What became of a body: the frames written, with the ids of their reports, the segment that is written to now, and
    which of the reports the database has already (None where it gave no answer)."""

    lines: list[LineResult]
    written: Written
    segment: str | None
    known: set[bytes] | None
    refusal: Refusal | None

    def looked(self, turn: int) -> Looked | None:
        """That somebody asked the database, since `turn` (Inbox.look)."""
        return None if self.known is None else Looked(turn, self.known)


class Kept(NamedTuple):
    """What became of several single reports: for each its id, or None for what is not plainly a report; the rest as Done has
    it. Short, since it is sent for every few."""

    report_ids: list[str | None]
    written: Written
    segment: str | None
    known: set[bytes] | None

    def looked(self, turn: int) -> Looked | None:
        """As Done's."""
        return None if self.known is None else Looked(turn, self.known)


class Checker:
    """The child's work."""

    def __init__(self, folder: Path, settings: Settings, segment_bytes: int, url: str) -> None:
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._bodies = Bodies(settings, quickly=True)
        self._segment: Segment | None = None
        self._known_reports = KnownReports(url)

    def done(self, work: Work) -> Done:
        """Check a body chunk by chunk, and flush once."""
        results: list[LineResult] = []
        written: list[tuple[Frame, list[bytes]]] = []
        refusal = None
        rest = self._bodies.lines(BytesIO(work.body), work.encoding)
        try:
            while (chunk := self._bodies.next_chunk(rest, work.sender)) is not None:
                written += self._written([line.submission for line in chunk if line.submission])
                results += [
                    LineResult(
                        line.number, line.submission and line.submission.report["report_id"], *line[2:]
                    )
                    for line in chunk
                ]
        except HttpProblem as found:
            refusal = Refusal(found.status, found.detail, found.kind)
        return Done(results, written, *self._flushed(written), refusal)

    def singles(self, bodies: list[Work]) -> Kept:
        """Keep those single reports that are plainly reports; the others are to be looked at in full."""
        found = [self._plain(body) for body in bodies]
        written = self._written([each for each in found if each])
        return Kept([each and each.report["report_id"] for each in found], written, *self._flushed(written))

    def _plain(self, work: Work) -> Submission | None:
        try:
            raw = compression.small(work.body, work.encoding)
            return None if raw is None else self._bodies.quick(raw, work.sender)
        except Exception:  # noqa: BLE001 - whatever it is, it is this report's: the full look says it, and to its sender alone
            return None

    def _written(self, kept: list[Submission]) -> list[tuple[Frame, list[bytes]]]:
        if not kept:
            return []
        ids = [uuid.UUID(item.report["report_id"]).bytes for item in kept]
        return [(self._writable().append(microseconds(utc_now()), ids, [item.raw for item in kept]), ids)]

    def _flushed(self, written: Written) -> tuple[str | None, set[bytes] | None]:
        """All is on disk: the segment, and what of it the database has already."""
        if written and self._segment:
            self._segment.flush()
        return str(self._segment.path) if self._segment else None, self._known([i for _, ids in written for i in ids])

    def _known(self, ids: list[bytes]) -> set[bytes] | None:
        try:
            return self._known_reports(ids)
        except (SiteDbError, SQLAlchemyError):  # the collector asks itself, and says to the senders what is wrong
            return None

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
    """The child: check what comes, until its socket ends."""
    # They are for the parent, which ends the socket when it is done.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    garbage.look_seldom()
    # End of file, or a parent that ended.
    with (
        contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError),
        socket.socket(fileno=descriptor) as parent,
        parent.makefile("rb") as asked,
    ):
        checker = Checker(*messages.read(asked))
        while True:
            parent.sendall(messages.packed(_answer(checker, messages.read(asked))))


def _answer(checker: Checker, work: Work | list[Work]) -> Done | Kept | str:
    try:
        return checker.singles(work) if isinstance(work, list) else checker.done(work)
    except OSError as error:
        return f"The inbox cannot be written: {error.strerror}."
