"""Connections with an end: uvicorn's HTTP/1.1 protocol, with the times and numbers that it leaves open.

Uvicorn ends idle connections, but waits for ever for a client that sends its headers a byte at a time or does not take
its answer, and answers some errors in plain text. Here each connection has one timer: first for the next request's
headers, then for the whole exchange.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple

import h11
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from reports.problems import HttpProblem

Count = Callable[[str, str], None]


class Bounds(NamedTuple):
    """Times in seconds; `tell` gets the status and reason of what is refused before it is a request."""

    header_timeout_s: float
    request_timeout_s: float
    connections: int
    tell: Count


def bounded(bounds: Bounds) -> type[H11Protocol]:
    """The protocol with these bounds, for uvicorn.Config."""
    return type("BoundedProtocol", (_Bounded,), {"bounds": bounds})


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    problem = HttpProblem.try_again("connections", "too many connections are open", 5)
    await _closing(problem)(scope, receive, send)


def _closing(problem: HttpProblem) -> Response:
    response = problem.response()
    response.headers["Connection"] = "close"
    return response


class _Bounded(H11Protocol):
    bounds: Bounds
    _timer: asyncio.TimerHandle | None = None
    _is_answering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        open_now = len(self.connections)
        if open_now > 2 * self.bounds.connections:
            self.bounds.tell("503", "connections")
            transport.abort()
            return
        if open_now > self.bounds.connections:
            self.bounds.tell("503", "connections")
            self.app = _crowded
        self._start_timer(self.bounds.header_timeout_s)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._is_answering and self._has_request():
            self._is_answering = True
            self._start_timer(self.bounds.request_timeout_s)

    def on_response_complete(self) -> None:
        super().on_response_complete()  # which may find the next request in what was received already
        self._is_answering = self._has_request()
        is_busy = self._is_answering or self.transport.get_write_buffer_size() > 0
        self._start_timer(self.bounds.request_timeout_s if is_busy else self.bounds.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        # Called for whatever h11 cannot read, also in the middle of a body that is being answered.
        self._refuse(HttpProblem(400, msg, "bad_request"))

    def _should_upgrade(self) -> bool:
        return False

    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timer(self, after_s: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(after_s, self._on_time_out)

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _on_time_out(self) -> None:
        if self._is_answering or self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.bounds.tell("408", "slow")
            self.transport.abort()  # a client that takes nothing would keep a polite end waiting for ever
        else:
            self._refuse(HttpProblem(408, "the request's headers did not arrive in time", "slow"))

    def _refuse(self, problem: HttpProblem) -> None:
        """Answer without the application, if nothing was answered yet, and end the connection."""
        self.bounds.tell(str(problem.status), problem.kind)
        if self._has_request():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            response = _closing(problem)
            head = h11.Response(status_code=problem.status, headers=response.raw_headers)
            with contextlib.suppress(h11.LocalProtocolError):  # the body of an answer to HEAD
                for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
