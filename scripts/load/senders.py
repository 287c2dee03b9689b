"""Processes that send prepared requests over kept connections and take the time of each answer.

One process holds many connections in one loop, so that it takes little of the processors that the server needs too. All
load goes to one server on loopback, and ends by itself: when the bodies are sent or the time is over.
"""

import contextlib
import multiprocessing
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from multiprocessing.connection import Connection
from typing import NamedTuple

from load.bodies import bases, batch, reports, single

_PIECE = 256 * 1024
_ANSWER_LIMIT_S = 60.0


class Load(NamedTuple):
    """What one process sends. `lines` 0: single reports. `per_s` None: each connection as fast as answers come."""

    port: int
    path: str
    requests: int
    seconds: float
    connections: int
    seed: int
    lines: int = 0
    per_s: float | None = None
    again: bool = False  # begin anew with the bodies when they are sent: for who does not store them
    kept: bool = True  # make all bodies before the clock starts; else each when it is sent


@dataclass
class Outcome:
    """What became of it: answers by status, reports acknowledged as new, milliseconds of each request."""

    statuses: Counter[int] = field(default_factory=Counter)
    acknowledged: int = 0
    began: float = 0.0
    ended: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)


def send(loads: list[Load], started: Callable[[], None] = lambda: None) -> list[Outcome]:
    """Run each load in a process of its own, all from one moment on; `started` is called at that moment."""
    bases()  # here once, not in each child
    context = multiprocessing.get_context("fork")
    pairs = [context.Pipe() for _ in loads]
    children = [
        context.Process(target=_child, args=(load, theirs), daemon=True)
        for load, (_, theirs) in zip(loads, pairs, strict=True)
    ]
    for child in children:
        child.start()
    for ours, _ in pairs:
        ours.recv()  # its bodies are made
    started()
    for ours, _ in pairs:
        ours.send("go")
    outcomes: list[Outcome] = [ours.recv() for ours, _ in pairs]
    for child in children:
        child.join()
    return outcomes


def _child(load: Load, told: Connection) -> None:
    made: Iterator[bytes] = islice(_requests(load), load.requests)
    if load.kept:
        bodies = list(made)
        made = cycle(bodies) if load.again else iter(bodies)
    told.send("ready")
    told.recv()
    told.send(_Loop(load, made).run())


def _requests(load: Load) -> Iterator[bytes]:
    made = reports(load.seed)
    while True:
        if load.lines:
            body, media_type, encoding = batch(list(islice(made, load.lines))), "application/x-ndjson", "zstd"
        else:
            body, media_type, encoding = single(next(made)), "application/json", "gzip"
        head = (
            f"POST {load.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {media_type}\r\n"
            f"Content-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body


@dataclass
class _Wire:
    """One connection: what is still to be sent, what has come, and when the request was due."""

    socket: socket.socket
    due: float = 0.0
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    answer: bytearray = field(default_factory=bytearray)


class _Loop:
    def __init__(self, load: Load, requests: Iterator[bytes]) -> None:
        self._load = load
        self._requests = requests
        self._outcome = Outcome()
        self._selector = selectors.DefaultSelector()
        self._idle = deque(self._connect() for _ in range(load.connections))
        self._busy = 0

    def run(self) -> Outcome:
        self._outcome.began = now = time.monotonic()
        end, due = now + self._load.seconds, now
        going_on = True
        while going_on or self._busy:
            now = time.monotonic()
            while going_on and self._idle and (self._load.per_s is None or due <= now):
                going_on = now < end and self._begin(due if self._load.per_s else now)
                due += 1 / self._load.per_s if self._load.per_s else 0.0
            if now > end + _ANSWER_LIMIT_S:
                raise TimeoutError(f"{self._busy} requests were not answered within {_ANSWER_LIMIT_S:g} s")
            self._turn(min(0.2, max(0.0, due - now)) if self._load.per_s and going_on and self._idle else 0.2)
        self._outcome.ended = time.monotonic()
        return self._outcome

    def _connect(self) -> _Wire:
        wire = _Wire(socket.create_connection(("127.0.0.1", self._load.port)))
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.socket.setblocking(False)
        return wire

    def _begin(self, due: float) -> bool:
        request = next(self._requests, None)
        if request is None:
            return False
        wire = self._idle.popleft()
        wire.due, wire.unsent, wire.answer = due, memoryview(request), bytearray()
        self._busy += 1
        self._selector.register(wire.socket, selectors.EVENT_READ, wire)
        self._push(wire)
        return True

    def _push(self, wire: _Wire) -> None:
        with contextlib.suppress(BlockingIOError):
            wire.unsent = wire.unsent[wire.socket.send(wire.unsent) :]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wire.unsent else 0)
        self._selector.modify(wire.socket, events, wire)

    def _turn(self, timeout_s: float) -> None:
        for key, events in self._selector.select(timeout_s):
            wire: _Wire = key.data
            if events & selectors.EVENT_WRITE:
                self._push(wire)
            if events & selectors.EVENT_READ:
                self._take(wire)

    def _take(self, wire: _Wire) -> None:
        piece = wire.socket.recv(_PIECE)
        wire.answer += piece
        head, found, body = wire.answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0]
        if piece and not (found and len(body) >= int(length)):
            return
        self._selector.unregister(wire.socket)
        self._busy -= 1
        self._outcome.latencies_ms.append((time.monotonic() - wire.due) * 1000)
        self._outcome.statuses[int(head[9:12]) if piece else 0] += 1
        self._outcome.acknowledged += body.count(b'"status":"new"')
        if not piece or b"connection: close" in head.lower():
            wire.socket.close()
            wire = self._connect()
        self._idle.append(wire)
