"""Single reports on their way through the gate: those that come while others are being checked go together."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from reports.gate_child import Work

_GROUP = 16  # larger ones let the child and the collector wait for each other in turns

# A report's id with "new" or "known"; None for what has to be looked at in full.
Found = tuple[str, str] | None
# Checks and keeps bodies, and tells what became of each. Blocks; raises.
Keep = Callable[[list[Work], Callable[[Sequence[Found]], None]], None]


class _Asked(NamedTuple):
    work: Work
    found: "Future[Found]"


class Singles:
    """A thread that hands on what waits."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._changed = threading.Condition()
        self._waiting: deque[_Asked] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="site-db-singles", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Reports that nobody has begun to look at."""
        return len(self._waiting)

    def submit(self, work: Work) -> "Future[Found]":
        """Queue one; what `Keep` raises comes from the future."""
        asked = _Asked(work, Future())
        with self._changed:
            self._waiting.append(asked)
            self._changed.notify()
        return asked.found

    def close(self) -> None:
        """End the thread when nothing waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            try:
                self._keep([asked.work for asked in group], _telling(group))
            except Exception as error:  # noqa: BLE001 - handed to those who wait; the thread has to live on
                for asked in group:
                    if not asked.found.done():
                        asked.found.set_exception(error)

    def _next_group(self) -> list[_Asked]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(_GROUP, len(self._waiting)))]


def _telling(group: Sequence[_Asked]) -> Callable[[Sequence[Found]], None]:
    def tell(results: Sequence[Found]) -> None:
        for asked, found in zip(group, results, strict=True):
            if not asked.found.done():
                asked.found.set_result(found)

    return tell
