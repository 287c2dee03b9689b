"""The collector's end of the queue: what is accepted is published, and answered when most brokers have it on disk.

It stands where site_db.writer.Writer stands otherwise. One thread owns the connection and does everything in turn; whoever
submits waits for a Future. At most one question at a time asks the database which reports it has already; those are not
published.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import takewhile

from reports.queue.known import Find, KnownReports
from reports.queue.link import Link
from reports.queue.settings import QueueSettings
from site_db.errors import Busy
from site_db.store import Submission

LOG = logging.getLogger("site_db.queue")
# Below the ten seconds that a probe waits for an answer.
CONFIRM_LIMIT_S = 8.0
_LOOKUP_LIMIT_S = 0.5
_TICK_S = 1.0
# RabbitMQ 3.10: a channel whose first message found no leader of the queue refuses everything from then on.
_REFUSED_LIMIT_S = 2.0


class _Waiting:
    """One submission on its way: what is known of each report, and which are not confirmed yet."""

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self.submissions = submissions
        self.ids = [uuid.UUID(item.report["report_id"]).bytes for item in submissions]
        self.stored: Future[list[str]] = Future()
        self.outcomes = ["known"] * len(submissions)
        self.unconfirmed = 0
        self.since = time.monotonic()


class Publisher:
    """See the module. `find_known` asks the database. Every attribute without lock belongs to the thread of the loop."""

    def __init__(
        self,
        settings: QueueSettings,
        find_known: Find,
        *,
        max_pending: int = 5000,
        max_group: int = 500,
        retry_after_s: int = 5,
    ) -> None:
        self._settings = settings
        self._known = KnownReports(find_known)
        self._max_pending, self._max_group = max_pending, max_group
        self._retry_after_s = retry_after_s
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._pending = 0
        self._closed = False
        self._link = Link(settings, self)
        self._asking: Future[set[bytes]] | None = None
        self._sent: dict[int, _Waiting] = {}
        self.published = self.refused = 0
        self._refused_since = 0.0
        self._thread = threading.Thread(target=self._run, name="site-db-publisher", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Reports that wait for their confirmation."""
        return self._pending

    @property
    def depth(self) -> float:
        """Reports in the queue, as the broker last said; not a number before it has."""
        return self._link.depths[self._settings.name]

    @property
    def dead_letters(self) -> float:
        """Reports that no worker could store, likewise."""
        return self._link.depths[self._settings.dead_letters]

    @property
    def reconnects(self) -> int:
        """How often the connection was made again."""
        return max(0, self._link.openings - 1)

    @property
    def trouble(self) -> str:
        """Why nothing can be published now; empty if it can."""
        return self._link.trouble

    def submit(self, submissions: Sequence[Submission]) -> "Future[list[str]]":
        """Publish `submissions`; the future gives "new" or, for what the database has, "known", after the confirmation.

        Raises Busy, at once or by the future, when the queue is away or full, when too many wait, or after `close`.
        """
        waiting = _Waiting(submissions)
        with self._changed:
            if self._closed:
                raise self._busy("The collector is shutting down.")
            if self.trouble:
                raise self._busy(f"The queue takes nothing now: {self.trouble}.")
            if self._pending and self._pending + len(submissions) > self._max_pending:
                raise self._busy(f"{self._pending} reports wait for the queue.")
            self._waiting.append(waiting)
            self._pending += len(submissions)
        self._link.loop.add_callback_threadsafe(self._take)
        return waiting.stored

    def close(self) -> None:
        """Take nothing more, wait for what is under way, end the connection and the thread."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._pending, CONFIRM_LIMIT_S + _TICK_S)
        self._known.close()
        self._link.loop.add_callback_threadsafe(self._link.stop)
        self._thread.join(CONFIRM_LIMIT_S)

    def _busy(self, message: str) -> Busy:
        return Busy(message, self._retry_after_s)

    def _run(self) -> None:
        self._link.open()
        self._tick()
        while not self._link.is_stopped:
            try:
                self._link.loop.start()
            except Exception as error:  # noqa: BLE001 - the thread has to live on; who waits is told
                self._begin_anew(error)
        self._link.loop.close()

    def _begin_anew(self, error: Exception) -> None:
        LOG.error("publishing: %s", error, exc_info=error)
        self._link.drop("an error in the publisher")

    def _tick(self) -> None:
        """Look, once a second, for what takes too long."""
        self._link.loop.call_later(_TICK_S, self._tick)
        oldest = next(iter(self._sent.values()), None)
        if oldest and time.monotonic() - oldest.since > CONFIRM_LIMIT_S:
            self._link.drop("no confirmation in time: too few brokers answer")
        elif self._refused_since and time.monotonic() - self._refused_since > _REFUSED_LIMIT_S:
            self._refused_since = 0.0
            self._link.drop("it takes nothing: full, or a new connection may help")
        self._link.tick()

    def _take(self) -> None:
        """Ask about the next submissions, unless a question is under way."""
        if self._asking or not (group := self._next_group()):
            return
        asked = self._asking = self._known.ask([each for waiting in group for each in waiting.ids])

        def go_on() -> None:
            if self._asking is asked:
                self._asking = None
                try:
                    self._publish(group, asked.result() if asked.done() else set())
                except Exception:
                    for waiting in group:
                        self._fail(waiting, "The queue takes nothing now: an error in the publisher.")
                    raise
                self._take()

        timer = self._link.loop.call_later(_LOOKUP_LIMIT_S, go_on)

        def answered() -> None:
            self._link.loop.remove_timeout(timer)
            go_on()

        asked.add_done_callback(lambda _: self._link.loop.add_callback_threadsafe(answered))

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        size = 0
        while self._waiting and (not group or size + len(self._waiting[0].submissions) <= self._max_group):
            waiting = self._waiting.popleft()
            # False for a sender that has gone meanwhile: its reports are not acknowledged to anyone.
            if waiting.stored.set_running_or_notify_cancel():
                group.append(waiting)
                size += len(waiting.submissions)
            else:
                self._done(waiting)
        return group

    def _publish(self, group: list[_Waiting], known: set[bytes]) -> None:
        for waiting in group:
            if self._link.trouble:
                self._fail(waiting, f"The queue takes nothing now: {self._link.trouble}.")
                continue
            seen = set(known)
            for number, item in enumerate(waiting.submissions):
                if waiting.ids[number] not in seen:
                    seen.add(waiting.ids[number])
                    waiting.outcomes[number] = "new"
                    waiting.unconfirmed += 1
                    self._sent[self._link.publish(item)] = waiting
            if not waiting.unconfirmed:
                self._succeed(waiting)

    def on_ready(self) -> None:
        """Of Link: go on with what waits."""
        self._take()

    def on_confirmed(self, tag: int, with_earlier: bool, is_ack: bool) -> None:
        """Of Link: answer those whose last message it was."""
        tags = list(takewhile(lambda sent: sent <= tag, self._sent)) if with_earlier else [tag]
        for each in tags:
            waiting = self._sent.pop(each, None)
            if waiting is None:  # it was given up meanwhile
                continue
            self.published += is_ack
            self.refused += not is_ack
            waiting.unconfirmed -= 1
            if is_ack:
                self._refused_since = 0.0
            else:
                self._refused_since = self._refused_since or time.monotonic()
                self._fail(waiting, "The queue is full, or has no leader yet.")
            if not waiting.unconfirmed:
                self._succeed(waiting)

    def on_lost(self, why: str) -> None:
        """Of Link: nobody is to wait for what may never come."""
        sent, self._sent = self._sent, {}
        for waiting in sent.values():
            self._fail(waiting, f"The queue did not confirm: {why}.")

    def _succeed(self, waiting: _Waiting) -> None:
        if not waiting.stored.done():
            waiting.stored.set_result(waiting.outcomes)
            self._done(waiting)

    def _fail(self, waiting: _Waiting, message: str) -> None:
        if not waiting.stored.done():
            waiting.stored.set_exception(self._busy(message))
            self._done(waiting)

    def _done(self, waiting: _Waiting) -> None:
        with self._changed:
            self._pending -= len(waiting.submissions)
            self._changed.notify_all()
