"""Single reports on their way to the process that checks and keeps them, and its answers on their way back.

Those that come while it works go together. While it works on one group the next is on its way already, and the database
is asked about the one before: nobody waits for the others' turn. All of it is on the event loop but that question: a
thread in between would wait for the interpreter some milliseconds a group.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from anyio.to_thread import run_sync

from reports import messages
from reports.gate_child import Kept, Work
from site_db.errors import Busy, DatabaseUnavailable

LOG = logging.getLogger("site_db.collector")
_GROUP = 32
_UNDER_WAY = 2  # groups
_RETRY_AFTER_S = 10

# A report's id with "new" or "known"; None for what has to be looked at in full.
Found = tuple[str, str] | None
Tell = Callable[[Sequence[Found]], None]
# Takes over what was kept of a group, and tells what became of each report, from whichever thread. Blocks; raises.
Take = Callable[[Kept, Tell], None]


class _Asked(NamedTuple):
    work: Work
    found: "asyncio.Future[Found]"


class Singles:
    """The collector's end, on one event loop. `connect` starts the process and gives the socket to it; raises OSError."""

    def __init__(self, connect: Callable[[], socket.socket], take: Take) -> None:
        self._connect = connect
        self._take = take
        self._waiting: deque[_Asked] = deque()
        self._under_way: deque[list[_Asked]] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Reports that nobody has begun to look at."""
        return len(self._waiting)

    async def found(self, work: Work) -> Found:
        """What became of a single report. Raises what `Take` raises, and DatabaseUnavailable where the process died."""
        asked = _Asked(work, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self.start()
        self._hand_on()
        return await asked.found

    def start(self) -> None:
        """Start the process now, on this event loop: the first report is not to wait for it."""
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Let go of the process; who still waits is asked to come again."""
        if self._running:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        """As long as there is a process."""
        error: Exception = Busy("The collector is shutting down.", _RETRY_AFTER_S)
        try:
            reader, self._writer = await asyncio.open_connection(sock=self._connect())
            self._hand_on()
            while True:
                await self._next_answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            LOG.error("a process that checks reports ended; another is started")
            error = DatabaseUnavailable("A process that checks reports ended.", "It is started anew.")
        finally:
            if self._writer:
                self._writer.close()
                self._writer = None
            for group in [*self._under_way, list(self._waiting)]:
                _refuse(group, error)
            self._under_way.clear()
            self._waiting.clear()

    async def _next_answer(self, reader: asyncio.StreamReader) -> None:
        kept: Kept | str = await messages.received(reader)
        group = self._under_way.popleft()
        self._hand_on()
        if isinstance(kept, str):
            _refuse(group, DatabaseUnavailable(kept, "Make room, or mend the disk."))
            return
        try:
            await run_sync(self._take, kept, _teller(group))
        except Exception as error:  # noqa: BLE001 - handed to those who wait; the others are to be told, too
            _refuse(group, error)

    def _hand_on(self) -> None:
        while self._writer and self._waiting and len(self._under_way) < _UNDER_WAY:
            group = [self._waiting.popleft() for _ in range(min(_GROUP, len(self._waiting)))]
            self._under_way.append(group)
            self._writer.write(messages.packed([asked.work for asked in group]))


def _teller(group: Sequence[_Asked]) -> Tell:
    loop = asyncio.get_running_loop()

    def tell(results: Sequence[Found]) -> None:
        for asked, found in zip(group, results, strict=True):
            if not asked.found.done():
                asked.found.set_result(found)

    def told(results: Sequence[Found]) -> None:
        loop.call_soon_threadsafe(tell, results)

    return told


def _refuse(group: Sequence[_Asked], error: Exception) -> None:
    for asked in group:
        if not asked.found.done():
            asked.found.set_exception(error)
