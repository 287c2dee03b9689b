"""Waiting on the event loop for what other threads finish, with one wake-up for many.

asyncio.wrap_future wakes the loop once for each future: a write to its own pipe that gives up the interpreter lock, and with
some thousand answers a second that alone took a tenth of the time.
"""

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


class Awaiting:
    """Of one event loop, the one that first waits."""

    def __init__(self) -> None:
        self._finished: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._is_woken = False

    async def result(self, future: "Future[Result]") -> Result:
        """What `future` gives or raises."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Result] = loop.create_future()

        def finished(done: "Future[Result]") -> None:
            self._finished.append((waiting, done))
            # After the append: whoever finds it set has not yet begun to look.
            if not self._is_woken:
                self._is_woken = True
                loop.call_soon_threadsafe(self._tell)

        future.add_done_callback(finished)
        return await waiting

    def _tell(self) -> None:
        self._is_woken = False
        while self._finished:
            waiting, done = self._finished.popleft()
            if waiting.done():  # cancelled: nobody waits any more
                continue
            if error := done.exception():
                waiting.set_exception(error)
            else:
                waiting.set_result(done.result())
