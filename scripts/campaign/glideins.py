"""Glideins as a collector meets them: each starts at its moment, makes one report, and tries as the probe does.

The tries, their limits and pauses are the probe's own (probe/delivery.py). A report that was not taken waits in the spool
for the node's next run.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson
from campaign.load import Address, report_of

from probe import delivery

_PATH = "/api/v1/reports"
# A node whose report was not taken tries again in its next run: ten minutes or more later in the field.
NEXT_RUN_S = (20.0, 40.0)
_RUNS = 20


class Plan(NamedTuple):
    """How many start within how long."""

    count: int
    seconds: float
    seed: int
    progress: Callable[[int, int], None]


class Answer(NamedTuple):
    """One try: a status, 0 for none, and what the collector asked to wait."""

    status: int
    retry_after_s: float = 0.0
    is_ours: bool = False


class Fleet:
    """All glideins of a plan. After `run`: who was acknowledged, and how it went."""

    def __init__(self, addresses: Sequence[Address], plan: Plan) -> None:
        self.acknowledged: set[str] = set()
        self.answers: Counter[str] = Counter()
        self.tries: Counter[int] = Counter()
        self.spooled = self.undelivered = 0
        self.answered_after_s: list[float] = []
        self.wrong: list[str] = []
        self._addresses = addresses
        self._plan = plan
        self._chance = random.Random(plan.seed)

    async def run(self) -> None:
        began = time.monotonic()
        moments = sorted(self._chance.uniform(0, self._plan.seconds) for _ in range(self._plan.count))
        running: set[asyncio.Task[None]] = set()
        for number, moment in enumerate(moments):
            await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
            task = asyncio.create_task(self._glidein(number))
            running.add(task)
            task.add_done_callback(running.discard)
            if number % 100 == 0:
                self._plan.progress(number, len(self.acknowledged))
        await asyncio.gather(*running)

    async def _glidein(self, number: int) -> None:
        report = report_of(number)
        body = orjson.dumps(report)
        for run in range(_RUNS):
            if await self._sent(body, report["report_id"]):
                return
            self.spooled += run == 0
            await asyncio.sleep(self._chance.uniform(*NEXT_RUN_S))
        self.undelivered += 1

    async def _sent(self, body: bytes, report_id: str) -> bool:
        """One run of the probe: so many tries, with their pauses, within its time."""
        began = time.monotonic()
        until = began + delivery.MOST_S
        for turn in range(len(delivery.PAUSES_S) + 1):
            answer = await self._tried(body, report_id, min(delivery.TRY_LIMIT_S, until - time.monotonic()))
            self.answers[str(answer.status or "none")] += 1
            if answer.is_ours:
                self.acknowledged.add(report_id)
                self.tries[turn + 1] += 1
                self.answered_after_s.append(time.monotonic() - began)
                return True
            if answer.status and delivery.refusal(answer.status) not in delivery.PASSING:
                self.wrong.append(f"a report was answered {answer.status}")
                return True
            if turn == len(delivery.PAUSES_S):
                break
            pause_s = max(delivery.PAUSES_S[turn] * self._chance.uniform(0.5, 1.0), answer.retry_after_s)
            if time.monotonic() + pause_s >= until:
                break
            await asyncio.sleep(pause_s)
        return False

    async def _tried(self, body: bytes, report_id: str, limit_s: float) -> Answer:
        try:
            async with asyncio.timeout(max(0.1, limit_s)):
                return await self._asked(body, report_id)
        except (OSError, ValueError, EOFError):  # TimeoutError is an OSError
            return Answer(0)

    async def _asked(self, body: bytes, report_id: str) -> Answer:
        host, port = self._chance.choice(self._addresses)
        reader, writer = await asyncio.open_connection(host, port)
        try:
            head = f"POST {_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            said = await reader.read(-1)
        finally:
            writer.close()
        if not said.startswith(b"HTTP/1.1 "):
            raise EOFError("the connection just ended")
        top, _, rest = said.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        status = int(first.split()[1])
        is_ours = status in (200, 201) and orjson.loads(rest)["report_id"] == report_id
        return Answer(status, float(headers.get("retry-after", 0)), is_ours)
