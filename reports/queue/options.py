"""The options by which `serve` and `worker` are told where the queue is; they go before the file's [queue]."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from reports.queue.settings import QueueSettings, has_password, make_settings, require_library
from reports.serving import is_loopback

Command = TypeVar("Command", bound=Callable[..., Any])
_file = click.Path(path_type=Path, dir_okay=False)


def queue_options(command: Command) -> Command:
    """Give a command --queue and --queue-password-file."""
    address = click.option(
        "--queue",
        "queue_addresses",
        multiple=True,
        metavar="URL",
        help="A broker of the queue, amqp://USER@HOST/VIRTUAL_HOST (amqps: TLS); once for each of the cluster.",
    )
    password = click.option(
        "--queue-password-file", type=_file, metavar="FILE", help="The password of the queue's user, on one line."
    )
    return address(password(command))


def choose_queue(addresses: tuple[str, ...], password_file: Path | None, table: dict[str, Any]) -> QueueSettings | None:
    """The queue that is meant; None where there is none. `table` is [queue]. Raises QueueProblem; warns on stderr."""
    chosen = dict(table)
    if addresses:
        chosen["addresses"] = addresses
        if has_password(addresses):
            _warn("a password in --queue can be seen by everybody on this machine; use --queue-password-file")
    if password_file:
        chosen["password_file"] = str(password_file)
    if "addresses" not in chosen:
        return None
    require_library()
    # What the library logs, with tracebacks, the publisher and the worker say in a line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    settings = make_settings(chosen)
    for address in settings.addresses:
        if not (address.is_tls or is_loopback(address.host)):
            _warn(f"reports and the password travel unencrypted to {address}; amqps:// does TLS")
    return settings


def _warn(text: str) -> None:
    click.echo(f"warning: {text}.", err=True)
