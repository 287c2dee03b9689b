"""Running the collector: a bound socket, a server with limits, a word when it is ready, a stop that loses nothing."""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette

from reports.connections import Bounds, bounded
from reports.metrics import Metrics
from reports.settings import Settings
from site_db import garbage
from site_db.errors import SiteDbError

LOG = logging.getLogger("site_db.collector")
_KEEP_ALIVE_S = 15
_GRACE_S = 30
_HEADER_BYTES = 32 * 1024


class CannotListen(SiteDbError):
    """The address cannot be listened on, or the certificate cannot be used."""


class Tls(NamedTuple):
    """The files of a certificate chain and its key (PEM). SIGHUP has them read again."""

    certificate: str
    key: str


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(app: Starlette, host: str, port: int, ready: Callable[[str], None], tls: Tls | None = None) -> None:
    """Serve an application of create_app until SIGTERM or SIGINT, then finish what is under way.

    `ready` gets the URL once requests are taken. Raises CannotListen. Port 0 takes a free one.
    """
    if tls:
        _check(tls)
    garbage.look_seldom()
    with _listening(host, port) as listener, _signals_end_quietly():
        _Server(server_config(app, tls), tls, lambda: ready(_url(listener, tls))).run(sockets=[listener])


def server_config(app: Starlette, tls: Tls | None = None) -> uvicorn.Config:
    """Uvicorn's configuration with the limits of the application."""
    settings: Settings = app.state.settings
    metrics: Metrics = app.state.metrics

    def count(status: str, reason: str) -> None:
        metrics.refused.labels(status, reason).inc()

    return uvicorn.Config(
        app,
        http=bounded(Bounds(settings.header_timeout_s, settings.request_timeout_s, settings.connections, count)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # else X-Forwarded-For, which anybody may send, would say who is a proxy that we trust
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_GRACE_S,
        h11_max_incomplete_event_size=_HEADER_BYTES,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )


class _Server(uvicorn.Server):
    """Uvicorn's server with one event more, started, and one signal more, SIGHUP."""

    def __init__(self, config: uvicorn.Config, tls: Tls | None, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._tls = tls
        self._say_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            return
        metrics: Metrics = self.config.app.state.metrics  # type: ignore[union-attr]  # server_config gave it a Starlette
        metrics.watch("connections", "Open connections", lambda: len(self.server_state.connections))
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._renew)
        self._say_started()

    def _renew(self) -> None:
        """Use the certificate that lies there now, for new connections; the old one if that is no good."""
        if not (self._tls and self.config.ssl):
            return
        try:
            # In a context of its own first: half a change would end every handshake.
            _check(self._tls)
            self.config.ssl.load_cert_chain(self._tls.certificate, self._tls.key)
        except (CannotListen, OSError) as error:
            LOG.error("the old certificate is kept: %s", error)
        else:
            LOG.info("the certificate was read again")


def _check(tls: Tls) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl.SSLError is one
        message = f"The certificate {tls.certificate} with the key {tls.key} cannot be used: {error.strerror or error}."
        raise CannotListen(
            message, "Both are PEM files that belong together; the certificate is the whole chain."
        ) from error


@contextlib.contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Uvicorn raises the signal that stopped it once more at its end; then a clean stop would not look like one."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
        # Connections inherit it. asyncio sets it only on sockets that name their protocol, which this one does not: an
        # answer in two writes then waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        message = f"Cannot listen on {host} port {port}: {error.strerror or error}."
        raise CannotListen(message, "Choose another with --host and --port, or stop what listens there.") from error


def _url(listener: socket.socket, tls: Tls | None) -> str:
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
