"""The inbox: reports are acknowledged when they are on disk here, and go into the database right behind, many at once.

A transaction of the database costs some tens of milliseconds, however few reports it has, and a flushed file one or two.
So the writer's thread only looks up which reports are known and appends the others to a segment; the recorder's thread
has another process (StoreProcess) put whole groups of frames into the database. A segment whose frames are all there is
removed. After any death the segments that are left are read again: a report that the database has already counts once.

Who sends while nothing else waits is answered when the database has the report: then it is there for who asks next.
"""

import fcntl
import logging
import os
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from site_db import segments
from site_db.errors import Busy, DatabaseUnavailable
from site_db.leaving import Leaving
from site_db.segments import ASIDE_SUFFIX, DAMAGED_SUFFIX, SUFFIX, Frame, Segment
from site_db.store import Submission
from site_db.times import microseconds

LOG = logging.getLogger("site_db.collector")
_SEGMENT_BYTES = 32 * 1024 * 1024
_GROUP_REPORTS = 500
_RECORDED_AT_ONCE = 2000
_PAUSE_S = 1.0
# While much comes the recorder rests between groups, as many times as long as the last took, unless it is far behind: a small
# group costs nearly as much as a large one, and what comes in cannot wait. Of few reports the senders wait until the
# database has them, and it does not rest.
_REST_TIMES, _LONGEST_REST_S, _FAR_BEHIND_REPORTS = 3, 3.0, 10_000
_FEW_REPORTS = 2
_LOCK_NAME = "lock"

# Frames, and the ids of the reports in each.
Written = Sequence[tuple[Frame, list[bytes]]]


class Recording(Protocol):
    """What brings frames into the database: site_db.store_process.StoreProcess."""

    @property
    def place(self) -> str:
        """Where the database is, for people."""

    def record(self, group: Sequence[Frame]) -> None:
        """Store the reports of these frames, each once. Raises SiteDbError; then the same may be tried again."""


class Limits(NamedTuple):
    """How far the database may be behind, and what senders are told beyond that."""

    reports: int = 100_000
    size_bytes: int = 1 << 30
    retry_after_s: int = 10


class Looked(NamedTuple):
    """Who asked the database already: since which turn (Inbox.look), and which reports it has."""

    turn: int
    known: set[bytes]


class _Waiting(NamedTuple):
    submissions: Sequence[Submission]
    stored: "Future[list[str]]"


class _Kept(NamedTuple):
    """A durable frame that the database doesn't have yet; `release` lets those go on who wait for it."""

    frame: Frame
    ids: list[bytes]
    release: Callable[[], None]


class Inbox:
    """The seam of site_db.writer.Writer over a folder of segments. `known` tells which ids the database has."""

    def __init__(
        self,
        folder: Path,
        recorder: Recording,
        known: Callable[[Sequence[bytes]], set[bytes]],
        limits: Limits | None = None,
    ) -> None:
        self.folder = folder
        self._recorder = recorder
        self._known = known
        self._limits = limits or Limits()
        self._lock_file = _locked(folder)
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_reports = 0
        self._kept: deque[_Kept] = deque()
        self._kept_ids: set[bytes] = set()
        self._kept_bytes = 0
        self._open_segments: set[str] = set()
        self._frames_of: Counter[str] = Counter()
        self._closed = self._written = False
        self._leaving = Leaving()
        # Answers to the same report by two ways must not both say "new".
        self._answering = threading.Lock()
        self._segment: Segment | None = None
        self._take_up()
        self._threads = [
            threading.Thread(target=run, name=f"site-db-{name}", daemon=True)
            for name, run in (("writer", self._write), ("recorder", self._record))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pending(self) -> int:
        """Reports that the database does not have yet."""
        return self._waiting_reports + len(self._kept_ids)

    @property
    def kept_aside(self) -> int:
        """Files beside the segments that people have to look at: reports that could not be stored, damaged segments."""
        return sum(path.suffix in (ASIDE_SUFFIX, DAMAGED_SUFFIX) for path in self.folder.iterdir())

    def submit(self, submissions: Sequence[Submission]) -> "Future[list[str]]":
        """Queue `submissions`; the future gives "new" or "known" for each when they are durable. Raises Busy."""
        stored: Future[list[str]] = Future()
        with self._changed:
            self.check_room(len(submissions))
            self._waiting.append(_Waiting(submissions, stored))
            self._waiting_reports += len(submissions)
            self._changed.notify_all()
        return stored

    def check_room(self, reports: int) -> None:
        """Raise Busy where `reports` more would be too many."""
        if self._closed:
            raise Busy("The collector is shutting down.", self._limits.retry_after_s)
        if (self._waiting or self._kept) and (
            self.pending + reports > self._limits.reports or self._kept_bytes > self._limits.size_bytes
        ):
            raise Busy(f"{self.pending} reports wait for {self._recorder.place}.", self._limits.retry_after_s)

    def look(self) -> int:
        """Begin to ask the database in another process; to be ended with what this returns (`looked`)."""
        with self._changed:
            return self._leaving.begin()

    def looked(self, turn: int) -> None:
        """End what `look` began."""
        with self._changed:
            self._leaving.end(turn)

    @contextmanager
    def looking(self) -> Iterator[int]:
        """From `look` to `looked`."""
        turn = self.look()
        try:
            yield turn
        finally:
            self.looked(turn)

    def take(
        self,
        written: Written,
        answer: Callable[[list[str]], None],
        *,
        few_wait: bool = False,
        looked: Looked | None = None,
        waits: bool = True,
    ) -> bool:
        """Take over frames that another process has made durable in this folder; `answer` is called with "new" or "known"
        for each report: now, or with `few_wait` and few reports when the database has them, and then perhaps twice.

        Without `looked` the database is asked. False where somebody else is answering and this call is not to wait for them.
        Raises DatabaseUnavailable where the database cannot be asked; the frames are kept nevertheless.
        """
        if not self._answering.acquire(blocking=waits):
            return False
        release: Callable[[], None] = _nobody_waits
        try:
            try:
                outcomes = self._outcomes([report_id for _, ids in written for report_id in ids], looked)
                if few_wait and 0 < len(self._kept_ids) + len(outcomes) <= _FEW_REPORTS:
                    release = partial(answer, outcomes)
            finally:
                # All at once: a segment may have begun and ended with them, and goes with the last that is kept.
                self._keep([_Kept(frame, ids, release) for frame, ids in written])
        finally:
            self._answering.release()
        if release is _nobody_waits or not written:
            answer(outcomes)
        return True

    def use(self, path: str) -> None:
        """A segment of another process: it is not removed before release(path), even if all of it is recorded."""
        with self._changed:
            self._open_segments.add(path)

    def release(self, path: str) -> None:
        """Nothing more is written to this segment."""
        with self._changed:
            self._open_segments.discard(path)
            done = self._pop_done([path])
        _remove(done)

    def close(self) -> None:
        """Take nothing more, store what waits, bring it into the database if that is there, end the threads."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        os.close(self._lock_file)

    def _take_up(self) -> None:
        """What an earlier process left."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            segments.flush(path)  # who wrote it may have died before that: "known" is promised for what is on disk
            found = list(segments.frames(path))
            if damaged_bytes := segments.damaged_bytes(path, [frame for frame, _ in found]):
                LOG.error("%d bytes of %s are not what was written; a copy is kept", damaged_bytes, path)
                segments.keep_damaged(str(path))
            self._keep([_Kept(frame, ids, _nobody_waits) for frame, ids in found])
            if not found:
                path.unlink()
        if self._kept:
            LOG.info("the inbox has %d reports of an earlier run", self.pending)

    # --- the writer's thread: into the segment -----------------------------------------------------------------------

    def _write(self) -> None:
        while group := self._next_group():
            group = [waiting for waiting in group if waiting.stored.set_running_or_notify_cancel()]
            try:
                self._write_group(group)
            except OSError as error:
                self._fail(group, DatabaseUnavailable(f"{self.folder}: {error.strerror}.", "Make room, or mend it."))
            except Exception as error:  # noqa: BLE001 - handed to those who wait; the thread has to live on
                self._fail(group, error)
        if self._segment:
            try:
                self._retire(self._segment)
            except OSError as error:
                LOG.error("%s: %s", self._segment.path, error.strerror)
        with self._changed:
            self._written = True
            self._changed.notify_all()

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            while self._waiting and (not group or size + len(self._waiting[0].submissions) <= _GROUP_REPORTS):
                group.append(self._waiting.popleft())
                size += len(group[-1].submissions)
        return group

    def _write_group(self, group: list[_Waiting]) -> None:
        submissions = [item for waiting in group for item in waiting.submissions]
        ids = [uuid.UUID(item.report["report_id"]).bytes for item in submissions]
        with self._answering:
            outcomes = self._outcomes(ids)
            new = [number for number, outcome in enumerate(outcomes) if outcome == "new"]
            answer = _answers(group, outcomes)
            if not new:
                self._settle(group)
                answer()
                return
            segment = self._writable()
            received_at = microseconds(max(item.received_at for item in submissions))
            frame = segment.append(received_at, [ids[n] for n in new], [submissions[n].raw for n in new])
            segment.flush()
            is_alone = len(self._kept_ids) + len(new) <= _FEW_REPORTS
            self._keep([_Kept(frame, [ids[n] for n in new], answer if is_alone else _nobody_waits)])
        self._settle(group)
        if not is_alone:
            answer()

    def _outcomes(self, ids: Sequence[bytes], looked: Looked | None = None) -> list[str]:
        """What is kept here is asked first: what leaves here meanwhile is in the database already."""
        seen = self._kept_ids.intersection(ids)
        if looked:
            with self._changed:
                seen |= looked.known | self._leaving.since(looked.turn, ids)
        else:
            seen |= self._known([report_id for report_id in ids if report_id not in seen])
        outcomes = []
        for report_id in ids:
            outcomes.append("known" if report_id in seen else "new")
            seen.add(report_id)
        return outcomes

    def _writable(self) -> Segment:
        segment = self._segment
        if segment and (segment.is_broken or segment.size > _SEGMENT_BYTES):
            self._retire(segment)
            segment = None
        if segment is None:
            segment = Segment(self.folder / f"{uuid.uuid4().hex}{SUFFIX}")
            self.use(str(segment.path))
        self._segment = segment
        return segment

    def _retire(self, segment: Segment) -> None:
        segment.close()
        self._segment = None
        self.release(str(segment.path))

    def _settle(self, group: Sequence[_Waiting]) -> None:
        with self._changed:
            self._waiting_reports -= sum(len(waiting.submissions) for waiting in group)

    def _fail(self, group: Sequence[_Waiting], error: Exception) -> None:
        self._settle(group)
        for waiting in group:
            waiting.stored.set_exception(error)

    # --- the recorder's thread: into the database --------------------------------------------------------------------

    def _keep(self, kept: Sequence[_Kept]) -> None:
        with self._changed:
            self._kept += kept
            for frame, ids, _ in kept:
                self._kept_ids.update(ids)
                self._kept_bytes += frame.size
                self._frames_of[frame.path] += 1
            self._changed.notify_all()

    def _record(self) -> None:
        while group := self._next_frames():
            began = time.monotonic()
            try:
                self._recorder.record([kept.frame for kept in group])
            except Exception as error:  # noqa: BLE001 - nothing is lost by trying again, all by a recorder that has died
                LOG.error("not yet in the database: %s", error)
                if not self._retried(group):
                    return
            else:
                self._done(group)
                if sum(kept.frame.reports for kept in group) > _FEW_REPORTS:
                    self._rest(time.monotonic() - began)

    def _rest(self, took_s: float) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._written or len(self._kept_ids) >= _FAR_BEHIND_REPORTS,
                timeout=min(_REST_TIMES * took_s, _LONGEST_REST_S),
            )

    def _next_frames(self) -> list[_Kept]:
        group: list[_Kept] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._kept or self._written)
            for kept in self._kept:
                if group and size + kept.frame.reports > _RECORDED_AT_ONCE:
                    break
                group.append(kept)
                size += kept.frame.reports
        return group

    def _retried(self, group: Sequence[_Kept]) -> bool:
        """Whether it goes on, after a pause; an inbox that is being closed leaves the rest to the next start."""
        for kept in group:
            kept.release()  # what was promised is kept: it is on disk
        with self._changed:
            return not self._changed.wait_for(lambda: self._written, timeout=_PAUSE_S)

    def _done(self, group: Sequence[_Kept]) -> None:
        with self._changed:
            for kept in group:
                self._kept.popleft()
                self._kept_ids.difference_update(kept.ids)
                self._leaving.leave(kept.ids)
                self._kept_bytes -= kept.frame.size
                self._frames_of[kept.frame.path] -= 1
            done = self._pop_done({kept.frame.path for kept in group})
        _remove(done)
        for kept in group:
            kept.release()

    def _pop_done(self, paths: Iterable[str]) -> list[str]:
        """Those of which all is in the database, and to which nobody writes."""
        done = [path for path in paths if self._frames_of[path] <= 0 and path not in self._open_segments]
        for path in done:
            del self._frames_of[path]
        return done


def _remove(paths: Iterable[str]) -> None:
    for path in paths:
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:  # read again at the next start, and known then
            LOG.error("%s cannot be removed: %s", path, error.strerror)


def _nobody_waits() -> None:
    """A frame's release where nobody is to be let go."""


def _answers(group: Sequence[_Waiting], outcomes: list[str]) -> Callable[[], None]:
    """Tell all of a group, once, however often it is called."""

    def answer() -> None:
        rest = iter(outcomes)
        for waiting in group:
            mine = [next(rest) for _ in waiting.submissions]
            if not waiting.stored.done():
                waiting.stored.set_result(mine)

    return answer


def _locked(folder: Path) -> int:
    """The folder, made and locked: two collectors would remove each other's segments. Raises DatabaseUnavailable."""
    try:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            segments.flush_folder(folder.parent)
        descriptor = os.open(folder / _LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DatabaseUnavailable(f"The inbox {folder} cannot be made: {error.strerror}.", "Give another.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        message = f"The inbox {folder} is in use by another collector."
        raise DatabaseUnavailable(message, "Give each collector an inbox of its own, or end the other.") from error
    return descriptor
