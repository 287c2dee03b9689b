"""Single reports on their way to the process that checks and keeps them, and its answers on their way back.

Those that come while it works go together, and while it works on one group the next is on its way already: nobody waits
for the other's turn. All of it is on the event loop: a thread in between would wait for the interpreter some
milliseconds a group.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from anyio.to_thread import run_sync

from reports import child, messages
from reports.child import Child, not_written
from reports.gate_child import Kept, Work
from site_db.errors import Busy
from site_db.inbox import Inbox

_GROUP = 32
_UNDER_WAY = 2  # groups
_RETRY_AFTER_S = 10

# A report's id with "new" or "known"; None for what has to be looked at in full.
Found = tuple[str, str] | None


class _Asked(NamedTuple):
    work: Work
    found: "asyncio.Future[Found]"


class _Group(NamedTuple):
    """Reports that went together, and since when the child may have asked the database about them (Inbox.look)."""

    asked: list[_Asked]
    turn: int


class Singles:
    """The collector's end, on one event loop."""

    def __init__(self, asked: Child, inbox: Inbox) -> None:
        self._child = asked
        self._inbox = inbox
        self._waiting: deque[_Asked] = deque()
        self._under_way: deque[_Group] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._running: asyncio.Task[None] | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._is_stopping = False

    @property
    def waiting(self) -> int:
        """Reports that nobody has begun to look at."""
        return len(self._waiting)

    async def found(self, work: Work) -> Found:
        """What became of a single report. Raises Busy, DatabaseUnavailable: then it is not acknowledged."""
        if self._is_stopping:
            raise _stopping()
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
        """Let go of the process when what it has answered is taken; who still waits is asked to come again."""
        self._is_stopping = True
        self._cut()
        if self._running:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        """As long as there is a process."""
        error: Exception = _stopping()
        try:
            reader, self._writer = await asyncio.open_connection(sock=self._child.start_anew())
            self._hand_on()
            while not self._is_stopping:
                await self._take(await messages.received(reader), self._under_way.popleft())
        except Exception as why:  # noqa: BLE001 - whatever it is, those who wait are told, and the next report starts another
            error = error if self._is_stopping else self._child.ended(why)
        finally:
            self._cut()
            self._writer = None
            self._watch()
            while self._under_way:
                self._refuse(self._under_way.popleft(), error)
            _tell_all(list(self._waiting), error)
            self._waiting.clear()

    def _cut(self) -> None:
        """End the connection: who waits for an answer is told that there will be none."""
        if self._writer:
            self._writer.transport.abort()

    def _watch(self) -> None:
        """Have the connection cut if no answer comes, where one is owed."""
        if self._watching:
            self._watching.cancel()
        is_owed = self._writer and self._under_way
        self._watching = asyncio.get_running_loop().call_later(child.ANSWER_LIMIT_S, self._cut) if is_owed else None

    def _hand_on(self) -> None:
        while self._writer and self._waiting and len(self._under_way) < _UNDER_WAY:
            asked = [self._waiting.popleft() for _ in range(min(_GROUP, len(self._waiting)))]
            try:
                message = messages.packed([each.work for each in asked])
            except Exception as error:  # noqa: BLE001 - handed to those who wait: nobody else's answers are theirs
                _tell_all(asked, error)
                continue
            self._under_way.append(_Group(asked, self._inbox.look()))
            self._writer.write(message)
            if len(self._under_way) == 1:
                self._watch()

    async def _take(self, kept: Kept | str, group: _Group) -> None:
        self._watch()
        self._hand_on()
        if isinstance(kept, str):
            self._refuse(group, not_written(kept))
            return
        self._child.writes_to(kept.segment)
        told, looked = _teller(group.asked, kept.report_ids), kept.looked(group.turn)
        take = partial(self._inbox.take, kept.written, told, few_wait=True, looked=looked)
        try:
            # Seldom is somebody else answering just now, or the database did not answer the child.
            if looked is None or not take(waits=False):
                await run_sync(take)
        except Exception as error:  # noqa: BLE001 - handed to those who wait; the others are to be told, too
            _tell_all(group.asked, error)
        finally:
            self._inbox.looked(group.turn)
            # Not before: until they are taken nothing but the child's use of it keeps a segment.
            self._child.let_go()

    def _refuse(self, group: _Group, error: Exception) -> None:
        self._inbox.looked(group.turn)
        _tell_all(group.asked, error)


def _teller(group: Sequence[_Asked], report_ids: Sequence[str | None]) -> Callable[[Sequence[str]], None]:
    """Tells each what became of its report, from whichever thread, and once, however often it is called."""
    loop = asyncio.get_running_loop()

    def tell(outcomes: Sequence[str]) -> None:
        rest = iter(outcomes)
        for asked, report_id in zip(group, report_ids, strict=True):
            found = (report_id, next(rest)) if report_id else None
            if not asked.found.done():
                asked.found.set_result(found)

    def told(outcomes: Sequence[str]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it those who waited
            loop.call_soon_threadsafe(tell, outcomes)

    return told


def _stopping() -> Busy:
    return Busy("The collector is shutting down.", _RETRY_AFTER_S)


def _tell_all(group: Sequence[_Asked], error: Exception) -> None:
    for asked in group:
        if not asked.found.done():
            asked.found.set_exception(error)
