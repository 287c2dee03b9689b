"""Senders that deliver reports whatever happens, and remember which were acknowledged. To loopback only, at a bounded rate."""

import contextlib
import http.client
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

Address = tuple[str, int]
TEMPLATE: dict[str, Any] = json.loads((Path(__file__).parents[1] / "fleet/report.json").read_text(encoding="utf-8"))
_TRY_LIMIT_S = 15.0
_PATH = "/api/v1/reports"


def report_of(node: int) -> dict[str, Any]:
    """A report of real size, made now on node number `node`, with an id of its own."""
    host = {**TEMPLATE["host"], "machine_id": f"{node:032x}", "hostname": f"wn{node:06}.example.org"}
    entry, site = f"Example_CE{node % 50}", f"Example-T2-{node % 20}"
    glidein = {**TEMPLATE["glidein"], "factory": "Example-Factory", "entry": entry, "site": site}
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {**TEMPLATE, "report_id": str(uuid.uuid4()), "created_at": made, "host": host, "glidein": glidein}


class Load:
    """`senders` threads that share `rate` reports a second, to any of `addresses`, single and in batches.

    Each goes on with a report until it is acknowledged. Some acknowledged reports are sent again.
    """

    def __init__(self, addresses: Sequence[Address], seed: int, senders: int = 6, rate: float = 60.0) -> None:
        self.acknowledged: set[str] = set()
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.undelivered = 0
        self.last_acknowledged = self.longest_gap_s = 0.0
        self._addresses = list(addresses)
        self._pause_s = senders / rate
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._give_up = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(random.Random(f"{seed} {number}"),), daemon=True)
            for number in range(senders)
        ]

    def start(self) -> None:
        self.last_acknowledged = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self, limit_s: float) -> None:
        """Begin nothing new, and let what has begun be delivered."""
        self._ends.set()
        end = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._give_up.set()
        for thread in self._threads:
            thread.join(2 * _TRY_LIMIT_S)

    def _send(self, chance: random.Random) -> None:
        before: list[dict[str, Any]] = []
        while not self._ends.is_set():
            size = chance.choice((1, 1, 1, 1, chance.randint(2, 20)))
            reports = [report_of(chance.randrange(2000)) for _ in range(size)]
            if before and chance.random() < 0.1:
                reports[0] = chance.choice(before)
            if self._delivered(reports, chance):
                before = [*before, reports[-1]][-20:]
            self._ends.wait(self._pause_s * size * chance.uniform(0.5, 1.5))

    def _delivered(self, reports: list[dict[str, Any]], chance: random.Random) -> bool:
        kind = "application/json" if len(reports) == 1 else "application/x-ndjson"
        body = b"\n".join(map(orjson.dumps, reports))
        while not self._give_up.is_set():
            if self._is_taken(body, kind, chance.choice(self._addresses)):
                return True
            self._give_up.wait(chance.uniform(0.1, 0.5))
        with self._lock:
            self.undelivered += len(reports)
        return False

    def _is_taken(self, body: bytes, kind: str, address: Address) -> bool:
        connection = http.client.HTTPConnection(*address, timeout=_TRY_LIMIT_S)
        try:
            connection.request("POST", _PATH, body, {"Content-Type": kind})
            answer = connection.getresponse()
            text, status = answer.read(), answer.status
        except (OSError, http.client.HTTPException) as error:
            self._count(f"no answer ({type(error).__name__})")
            return False
        finally:
            with contextlib.suppress(OSError):
                connection.close()
        self._count(str(status))
        if status not in (200, 201):
            if status not in (429, 503) or not answer.getheader("Retry-After"):
                self._note(f"status {status} with Retry-After {answer.getheader('Retry-After')}: {text[:300]!r}")
            return False
        lines = [json.loads(line) for line in text.splitlines()]
        taken = {line["report_id"] for line in lines if line["status"] in ("new", "known")}
        if len(taken) != len(body.splitlines()):
            self._note(f"not all of a batch were taken: {text[:300]!r}")
        self._acknowledge(taken)
        return True

    def _acknowledge(self, report_ids: set[str]) -> None:
        now = time.monotonic()
        with self._lock:
            self.longest_gap_s = max(self.longest_gap_s, now - self.last_acknowledged)
            self.last_acknowledged = now
            self.acknowledged |= report_ids

    def _count(self, answer: str) -> None:
        with self._lock:
            self.answers[answer] += 1

    def _note(self, wrong: str) -> None:
        with self._lock:
            if wrong not in self.wrong and len(self.wrong) < 20:
                self.wrong.append(wrong)
