"""The one writer of a process: reports of many senders go to the database in common commits.

A commit costs a disk flush (some milliseconds), whether it holds one report or five hundred. Whoever submits while one
is under way shares the next.
"""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from site_db.errors import Busy, SiteDbError
from site_db.store import Submission


class Adding(Protocol):
    """What stores: site_db.store.Store, or site_db.store_process.StoreProcess."""

    @property
    def place(self) -> str:
        """Where the reports go, for people."""

    def add(self, submissions: Sequence[Submission]) -> list[str]:
        """As Store.add."""


class _Waiting(NamedTuple):
    submissions: Sequence[Submission]
    stored: "Future[list[str]]"


class Writer:
    """One thread that stores what is submitted. At most `max_pending` reports wait; `max_group` go in one commit."""

    def __init__(self, store: Adding, *, max_pending: int = 5000, max_group: int = 500, retry_after_s: int = 5) -> None:
        self._store = store
        self._max_pending = max_pending
        self._max_group = max_group
        self._retry_after_s = retry_after_s
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._pending = 0
        self._closed = False
        # A daemon: a program that ends without close() ends. What was not acknowledged its sender still has.
        self._thread = threading.Thread(target=self._run, name="site-db-writer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Reports that wait or are being stored."""
        return self._pending

    def submit(self, submissions: Sequence[Submission]) -> "Future[list[str]]":
        """Queue `submissions`; the future gives what Store.add gives, after the commit, or raises what it raised.

        Raises Busy when too many reports wait (a single submission larger than the queue is taken if it is empty), or
        when the writer is closed.
        """
        stored: Future[list[str]] = Future()
        with self._changed:
            if self._closed:
                raise Busy("The collector is shutting down.", self._retry_after_s)
            if self._pending and self._pending + len(submissions) > self._max_pending:
                raise Busy(f"{self._pending} reports wait for {self._store.place}.", self._retry_after_s)
            self._waiting.append(_Waiting(submissions, stored))
            self._pending += len(submissions)
            self._changed.notify()
        return stored

    def close(self) -> None:
        """Take nothing more, store what waits, end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            # False for a sender that has gone meanwhile and cancelled: its reports are not acknowledged to anyone.
            self._write([waiting for waiting in group if waiting.stored.set_running_or_notify_cancel()])
            with self._changed:
                self._pending -= sum(len(waiting.submissions) for waiting in group)

    def _next_group(self) -> list[_Waiting]:
        """What to commit next, in order of arrival; empty when the writer is closed and all is stored."""
        group: list[_Waiting] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            while self._waiting and (not group or size + len(self._waiting[0].submissions) <= self._max_group):
                group.append(self._waiting.popleft())
                size += len(group[-1].submissions)
        return group

    def _write(self, group: list[_Waiting]) -> None:
        try:
            results = iter(self._store.add([item for waiting in group for item in waiting.submissions]))
        except Exception as error:  # noqa: BLE001 - handed to those who wait; the thread has to live on
            self._fail(group, error)
        else:
            for waiting in group:
                waiting.stored.set_result([next(results) for _ in waiting.submissions])

    def _fail(self, group: list[_Waiting], error: Exception) -> None:
        if len(group) == 1 or isinstance(error, SiteDbError):
            for waiting in group:
                waiting.stored.set_exception(error)
        else:
            # Something in one of them: the others are not to pay for it.
            for waiting in group:
                self._write([waiting])
