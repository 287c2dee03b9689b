"""The publisher's connection: made again whenever it is lost, with both queues declared and confirmations asked for.

Everything but the constructor runs in the thread of the loop; `trouble` and `depths` may be read from everywhere.
"""

import logging
import time
from functools import partial
from typing import Protocol

import pika
from pika.adapters.select_connection import IOLoop
from pika.channel import Channel

from reports.queue import broker, messages
from reports.queue.settings import Address, QueueProblem, QueueSettings
from site_db.store import Submission

LOG = logging.getLogger("site_db.queue")
_READY_LIMIT_S = 10.0
# A broker that says nothing for two of these is gone.
_HEARTBEAT_S = 10
_DEPTH_EVERY_TICKS = 5


class User(Protocol):
    """Who publishes through a Link."""

    def on_ready(self) -> None:
        """From now on it can be published."""

    def on_confirmed(self, tag: int, with_earlier: bool, is_ack: bool) -> None:
        """The broker has the message of this tag on disk (and all before it), or, not `is_ack`, has refused it."""

    def on_lost(self, why: str) -> None:
        """Nothing that is unconfirmed now will be confirmed."""


class Link:
    """See the module. `trouble` says why nothing can be published now; it is empty when it can."""

    def __init__(self, settings: QueueSettings, user: User) -> None:
        self.loop = IOLoop()
        self.trouble = "no broker has answered yet"
        self.depths = {declared.name: float("nan") for declared in broker.queues(settings)}
        self.openings = 0
        self.is_stopped = False
        self._settings = settings
        self._user = user
        self._turns = broker.turns(settings.addresses)
        self._connection: pika.SelectConnection | None = None
        self._channel: Channel | None = None
        self._place = ""
        self._since = 0.0
        self._last_tag = self._ticks = 0

    def open(self) -> None:
        """Begin the next attempt, after its pause."""
        turn = next(self._turns)
        self._place = str(turn.address)
        self.loop.call_later(turn.pause_s, lambda: self._connect(turn.address))

    def publish(self, submission: Submission) -> int:
        """Publish one report, only while there is no trouble; its tag."""
        assert self._channel is not None  # noqa: S101 - there is trouble without one
        body, headers = messages.pack(submission)
        properties = pika.BasicProperties(
            content_type=messages.CONTENT_TYPE,
            content_encoding=messages.ENCODING,
            type=messages.KIND,
            message_id=submission.report["report_id"],
            headers=headers,
            delivery_mode=pika.DeliveryMode.Persistent.value,
        )
        # Mandatory: a message that finds no queue would be confirmed all the same.
        self._channel.basic_publish("", self._settings.name, body, properties, mandatory=True)
        self._last_tag += 1
        return self._last_tag

    def drop(self, why: str) -> None:
        """Give this connection up; the next is made when it has closed."""
        self._set_trouble(why)
        if self._connection and not (self._connection.is_closing or self._connection.is_closed):
            self._connection.close()

    def stop(self) -> None:
        """End the connection and the loop."""
        self.is_stopped = True
        if self._connection is None:
            self.loop.stop()
        elif not (self._connection.is_closing or self._connection.is_closed):
            # Also one that is not open yet; the loop ends when it has closed.
            self._connection.close()

    def tick(self) -> None:
        """Once a second: end an attempt that leads nowhere, and ask now and then how long the queues are."""
        if self.trouble:
            is_late = time.monotonic() - self._since > _READY_LIMIT_S
            if self._connection and self._connection.is_open and self._channel is None and is_late:
                self.drop("the broker answers, but the queue does not")
            return
        self._ticks += 1
        if self._ticks % _DEPTH_EVERY_TICKS == 1 and self._channel:
            for name in self.depths:
                self._channel.queue_declare(name, passive=True, callback=partial(self._measured, name))

    def _measured(self, name: str, answer: pika.frame.Method) -> None:
        self.depths[name] = answer.method.message_count

    def _connect(self, address: Address) -> None:
        if self.is_stopped:
            return
        self._since = time.monotonic()
        try:
            parameters = broker.parameters(address, self._settings.ca_file, "site-db serve", _HEARTBEAT_S)
        except QueueProblem as error:  # a file of certificates that is being replaced
            self._set_trouble(str(error))
            self.open()
            return
        self._connection = pika.SelectConnection(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._closed,
            on_close_callback=self._closed,
            custom_ioloop=self.loop,
        )

    def _opened(self, connection: pika.SelectConnection) -> None:
        connection.add_on_connection_blocked_callback(self._blocked)
        connection.add_on_connection_unblocked_callback(self._unblocked)
        connection.channel(on_open_callback=self._prepare)

    def _prepare(self, channel: Channel) -> None:
        """Declare the queues one after the other, then ask for confirmations."""
        channel.add_on_close_callback(self._channel_closed)
        channel.add_on_return_callback(lambda *_: self.drop("the queue is not there any more"))
        left = iter(broker.queues(self._settings))

        def declare_next(_: object = None) -> None:
            declared = next(left, None)
            if declared:
                channel.queue_declare(declared.name, durable=True, arguments=declared.arguments, callback=declare_next)
            else:
                channel.confirm_delivery(self._confirmed, callback=lambda _: self._ready(channel))

        declare_next()

    def _ready(self, channel: Channel) -> None:
        self._channel = channel
        self._last_tag = 0
        self._turns = broker.turns(self._settings.addresses)
        self.openings += 1
        self.trouble = ""
        LOG.info("publishing to %s at %s", self._settings.name, self._place)
        self._user.on_ready()

    def _confirmed(self, frame: pika.frame.Method) -> None:
        method = frame.method
        self._user.on_confirmed(method.delivery_tag, method.multiple, isinstance(method, pika.spec.Basic.Ack))

    def _blocked(self, *_: object) -> None:
        self._set_trouble("the broker is short of memory or disk")

    def _unblocked(self, *_: object) -> None:
        if self._channel:
            self.trouble = ""
            self._user.on_ready()

    def _channel_closed(self, channel: Channel, error: Exception) -> None:
        if isinstance(error, pika.exceptions.ChannelClosedByBroker):
            self._channel = None
            self.drop(broker.told(error, self._settings))
        elif channel is self._channel:
            self._channel = None

    def _closed(self, _: pika.SelectConnection, error: BaseException) -> None:
        self._connection = self._channel = None
        self._set_trouble(f"the connection ended: {broker.reason_of(error)}")
        if self.is_stopped:
            self.loop.stop()
        else:
            self.open()

    def _set_trouble(self, why: str) -> None:
        if not self.trouble and not self.is_stopped:
            LOG.warning("not publishing to %s at %s: %s", self._settings.name, self._place, why)
        self.trouble = why
        self._user.on_lost(why)
