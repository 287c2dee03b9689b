"""`site-db serve`: the collector from the command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from reports import serving
from reports.collector import create_app
from reports.logs import FORMATS, log_to_stderr
from reports.queue.options import choose_queue, queue_options
from reports.queue.settings import QueueSettings
from reports.serve_configuration import Configuration, read_configuration
from reports.session import Session, common_options
from reports.settings import Settings
from reports.writing import empty_inbox, writing
from site_db.known_reports import known_reports
from site_db.store import Store

DEFAULT_PORT = 8642
_session = click.make_pass_decorator(Session, ensure=True)
_file = click.Path(path_type=Path, dir_okay=False)


class _Chosen(NamedTuple):
    """What counts: an option before the file, the file before the default."""

    host: str
    port: int
    is_open: bool
    tls: serving.Tls | None
    log_format: str


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Port; 0 takes a free one.  [default: {DEFAULT_PORT}]")
@click.option("--config", "config_file", type=_file, metavar="FILE", help="Tokens, limits, TLS: a TOML file.")
@click.option("--tls-cert", type=_file, metavar="FILE", help="Certificate chain (PEM): serve https.")
@click.option("--tls-key", type=_file, metavar="FILE", help="Its private key (PEM).")
@click.option("--log-format", type=click.Choice(FORMATS), help="How to write the log on stderr.  [default: text]")
@click.option("--open", "is_open", is_flag=True, help="No tokens, and listen beyond this machine: anyone may write.")
@queue_options
@common_options
@_session
def serve(session: Session, /, config_file: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's options
    """Run the collector, its API and its page until it is stopped (SIGTERM or Ctrl-C).

    Without tokens in the configuration it takes reports from everybody who reaches the address, so it listens on this
    machine only. With a queue they are published there, and `site-db worker` stores them.

    \b
    Examples:
      site-db serve
      site-db serve --config /etc/site-db/serve.toml
      site-db --database postgresql+psycopg://sitedb@db/sitedb serve --config serve.toml --port 443
      site-db serve --queue amqp://site-db@mq1/reports --queue amqp://site-db@mq2/reports --queue-password-file FILE
    """
    given = read_configuration(config_file) if config_file else Configuration({}, Settings(), None, {})
    chosen = _choose(options, given.server)
    _check(chosen, has_tokens=given.authorizer is not None)
    log_to_stderr(output_format=chosen.log_format)
    queue = choose_queue(options["queue_addresses"], options["queue_password_file"], given.queue)
    with session.store() as store, _sink(queue, session.url, store, given.limits) as sink:
        app = create_app(store, given.limits, given.authorizer, **sink)

        def ready(url: str) -> None:
            click.echo(f"listening on {url}", err=True)

        serving.serve(app, chosen.host, chosen.port, ready, chosen.tls)


@contextmanager
def _sink(queue: QueueSettings | None, url: str, store: Store, limits: Settings) -> Iterator[dict[str, Any]]:
    """Where reports go, as create_app takes it: the queue, or the inbox and a process that stores them."""
    if queue:
        from reports.queue.publisher import Publisher  # its library is an extra

        empty_inbox(store, url, limits)
        yield {"queue": Publisher(queue, partial(known_reports, store))}
        return
    with writing(store, url, limits) as (writer, gate):
        yield {"writer": writer, "gate": gate}


def _choose(options: dict[str, Any], server: dict[str, Any]) -> _Chosen:
    certificate = options["tls_cert"] or server.get("tls_certificate")
    key = options["tls_key"] or server.get("tls_key")
    if bool(certificate) != bool(key):
        raise click.UsageError("--tls-cert and --tls-key belong together.")
    return _Chosen(
        options["host"] or server.get("host", "127.0.0.1"),
        server.get("port", DEFAULT_PORT) if options["port"] is None else options["port"],
        options["is_open"] or server.get("open", False),
        serving.Tls(str(certificate), str(key)) if certificate else None,
        options["log_format"] or server.get("log_format", "text"),
    )


def _check(chosen: _Chosen, has_tokens: bool) -> None:
    if chosen.is_open and has_tokens:
        raise click.UsageError("The configuration has tokens, and --open is for a collector without: leave one out.")
    if serving.is_loopback(chosen.host):
        return
    if not (chosen.is_open or has_tokens):
        raise click.UsageError(
            f"--host {chosen.host} can be reached by other machines, and nothing says who may send. Give --config with "
            "[tokens] (docs/tokens.md), or say --open if the network itself keeps strangers out."
        )
    if has_tokens and not chosen.tls:
        click.echo(
            "warning: tokens travel unencrypted on this address; give --tls-cert and --tls-key, or listen on 127.0.0.1 "
            "behind a proxy that does TLS.",
            err=True,
        )
