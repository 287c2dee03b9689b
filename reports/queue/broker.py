"""The broker as both ends see it: connection parameters, the two queues, in which order addresses are tried and how often.

Needs pika (extra `rabbitmq`); `settings.require_library` says so where it is missing.
"""

import random
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pika

from reports.queue.settings import Address, QueueProblem, QueueSettings

_CONNECT_LIMIT_S = 5.0
# Pauses between rounds over all addresses.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
# Deliveries of one message that ended without an answer: each time a worker died with it, or lost its connection.
_DELIVERY_LIMIT = 50
# RabbitMQ 4 drops a message after 20 of them where nothing is said, and every replay that leaves a dead letter is one.
_NO_DELIVERY_LIMIT = 1_000_000_000
# How it begins to say so of a queue; the same code also ends the channel of who acknowledges nothing for half an hour.
_OTHER_LIMITS = "PRECONDITION_FAILED - inequivalent arg"


class Declared(NamedTuple):
    """A queue as it is declared by whoever comes first."""

    name: str
    arguments: dict[str, Any]


def queues(settings: QueueSettings) -> list[Declared]:
    """The dead letters' queue, and the queue itself: copies on most brokers, on disk, nothing dropped when full.

    At-least-once dead lettering needs `reject-publish` (RabbitMQ 3.10 and later); the usual way may lose the letter.
    """
    copies = {"x-queue-type": "quorum"}
    return [
        Declared(
            settings.dead_letters,
            {**copies, "x-overflow": "reject-publish", "x-delivery-limit": _NO_DELIVERY_LIMIT},
        ),
        Declared(
            settings.name,
            {
                **copies,
                "x-overflow": "reject-publish",
                "x-max-length": settings.length_limit,
                "x-max-length-bytes": settings.length_limit_bytes,
                "x-delivery-limit": _DELIVERY_LIMIT,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": settings.dead_letters,
                "x-dead-letter-strategy": "at-least-once",
            },
        ),
    ]


def parameters(address: Address, ca_file: str | None, name: str, heartbeat_s: int) -> pika.ConnectionParameters:
    """How to connect; `name` is what the broker's list of connections shows. Raises QueueProblem."""
    return pika.ConnectionParameters(
        host=address.host,
        port=address.port,
        virtual_host=address.virtual_host,
        credentials=pika.PlainCredentials(address.user, address.password, erase_on_connect=False),
        heartbeat=heartbeat_s,
        connection_attempts=1,
        socket_timeout=_CONNECT_LIMIT_S,
        stack_timeout=2 * _CONNECT_LIMIT_S,
        ssl_options=_tls(address, ca_file),
        client_properties={"connection_name": name},
    )


def _tls(address: Address, ca_file: str | None) -> pika.SSLOptions | None:
    if not address.is_tls:
        return None
    try:
        return pika.SSLOptions(ssl.create_default_context(cafile=ca_file), address.host)
    except OSError as error:  # ssl.SSLError is one
        raise QueueProblem(f"{ca_file}: {error.strerror or error}.", "ca_file is a PEM file.") from error


class Turn(NamedTuple):
    """One attempt to connect: wait, then try this address."""

    pause_s: float
    address: Address


def turns(addresses: Sequence[Address]) -> Iterator[Turn]:
    """Attempts without end, to be begun anew after a success: every address at once, then longer and longer pauses.

    The order is drawn, so that collectors spread over the brokers, and half of each pause, so that they do not come together.
    """
    pause_s = 0.0
    while True:
        for number, address in enumerate(random.sample(addresses, len(addresses))):
            yield Turn(pause_s * random.uniform(0.5, 1.0) if number == 0 else 0.0, address)  # noqa: S311 - no secret
        pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * pause_s))


def told(error: pika.exceptions.ChannelClosedByBroker, settings: QueueSettings) -> str:
    """Why the broker ended a channel, with what to do where only people can do something."""
    if not error.reply_text.startswith(_OTHER_LIMITS):
        return reason_of(error)
    return (
        f"{settings.name} exists with other limits ({reason_of(error)}); give those that it has, or let workers empty "
        "it, then delete it"
    )


def reason_of(error: BaseException) -> str:
    """What pika raised or reported, in a line; its own texts hold no password."""
    text = " ".join(str(part) for part in (getattr(error, "exceptions", None) or [error]))
    return " ".join((text or type(error).__name__).split())[:300]
