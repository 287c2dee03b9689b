"""Asking the database which reports it has, for an answer only: it may be slow, away or hung, and nothing waits for it."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue

from site_db.errors import SiteDbError

LOG = logging.getLogger("site_db.queue")
_REST_AFTER_FAILURE_S = 5.0
Find = Callable[[Sequence[bytes]], set[bytes]]
_Question = tuple[Sequence[bytes], "Future[set[bytes]]"]


class KnownReports:
    """One thread that asks `find`. While it hangs, or shortly after it failed, every answer is "none"."""

    def __init__(self, find: Find) -> None:
        self._find = find
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        self._unanswered: Future[set[bytes]] | None = None
        self._rests_until = 0.0
        # A daemon: a question that hangs must not keep the program.
        self._thread = threading.Thread(target=self._run, name="site-db-known", daemon=True)
        self._thread.start()

    def ask(self, report_ids: Sequence[bytes]) -> "Future[set[bytes]]":
        """Those that the database has, or none of them; from one thread only, one question after the other."""
        answer: Future[set[bytes]] = Future()
        is_stuck = self._unanswered is not None and not self._unanswered.done()
        if is_stuck or time.monotonic() < self._rests_until:
            answer.set_result(set())
        else:
            self._unanswered = answer
            self._questions.put((report_ids, answer))
        return answer

    def close(self) -> None:
        """End the thread when it has answered."""
        self._questions.put(None)

    def _run(self) -> None:
        while question := self._questions.get():
            report_ids, answer = question
            try:
                found = self._find(report_ids)
            except SiteDbError as error:
                LOG.warning("the database does not say which reports are known: %s", error)
                self._rests_until = time.monotonic() + _REST_AFTER_FAILURE_S
                found = set()
            except Exception as error:  # noqa: BLE001 - the answer is a courtesy, and the thread has to live on
                found = _nothing(error)
            answer.set_result(found)


def _nothing(error: Exception) -> set[bytes]:
    LOG.error("looking up known reports: %s", error, exc_info=error)
    return set()
