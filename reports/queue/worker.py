"""The database's end of the queue: takes what collectors published, stores it in groups, acknowledges after the commit.

A worker that dies, or loses its connection, has its reports delivered again, to itself or to another: they are stored once,
by their ids. While the database is away it keeps its group and tries again. What can never be stored goes to the queue of
dead letters.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import pika
from pika.adapters.blocking_connection import BlockingChannel

from reports.intake import Rejected, validate
from reports.queue import broker, messages
from reports.queue.messages import Poison
from reports.queue.settings import QueueProblem, QueueSettings
from site_db.errors import SiteDbError
from site_db.store import Submission

LOG = logging.getLogger("site_db.worker")
# How long a group that is not full waits for more. A commit costs about as much.
_GATHER_S = 0.02
_IDLE_S = 0.5
# Nothing is read from the connection while a group is stored; SQLite alone may wait 15 s for another writer.
_HEARTBEAT_S = 60
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
# More than any limit of a collector; what it accepted is not refused here for its size.
_REPORT_LIMIT_BYTES = 65 * 1024 * 1024
Add = Callable[[list[Submission]], list[str]]


class Delivery(NamedTuple):
    """A message as it came."""

    tag: int
    name: str
    headers: dict[str, Any] | None
    body: bytes


_Good = tuple[Delivery, Submission]


class Watcher(Protocol):
    """Who is told what happens: metrics."""

    def on_connected(self, is_connected: bool) -> None:
        """A connection was made, or ended."""

    def on_stored(self, outcomes: Sequence[str], seconds: float) -> None:
        """A group was committed."""

    def on_dead_letter(self, reason: str) -> None:
        """A message went to the dead letters."""

    def on_database_failure(self) -> None:
        """The database did not store a group; it is tried again."""


class Worker:
    """See the module. `add` is Store.add; `group` reports at most go in one commit, twice as many are on their way."""

    def __init__(self, settings: QueueSettings, add: Add, watcher: Watcher, *, group: int = 500) -> None:
        self._settings = settings
        self._add = add
        self._watcher = watcher
        self._group = group
        self._arrived: list[Delivery] = []
        self._is_stopping = False

    def stop(self) -> None:
        """Finish the group under way, then return from `run`. For a signal's handler."""
        self._is_stopping = True

    def run(self) -> None:
        """Take and store until `stop`. Raises QueueProblem for what only people can mend."""
        turns = broker.turns(self._settings.addresses)
        while not self._is_stopping:
            turn = next(turns)
            self._rest(turn.pause_s)
            try:
                with _connected(self._settings, turn) as channel:
                    turns = broker.turns(self._settings.addresses)
                    LOG.info("taking reports from %s at %s", self._settings.name, turn.address)
                    self._watcher.on_connected(True)
                    self._take(channel)
            except pika.exceptions.ChannelClosedByBroker as error:
                LOG.warning("%s: %s", turn.address, broker.told(error, self._settings))
            except (pika.exceptions.AMQPError, OSError) as error:
                LOG.warning("%s: %s", turn.address, broker.reason_of(error))
            finally:
                self._watcher.on_connected(False)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_stopping and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))

    def _take(self, channel: BlockingChannel) -> None:
        self._arrived = []
        channel.basic_qos(prefetch_count=2 * self._group)
        channel.basic_consume(self._settings.name, self._arrive)
        while not self._is_stopping:
            self._gather(channel.connection)
            if group := self._arrived[: self._group]:
                del self._arrived[: self._group]
                self._store(channel, group)

    def _arrive(
        self, _: BlockingChannel, method: pika.spec.Basic.Deliver, properties: pika.BasicProperties, body: bytes
    ) -> None:
        self._arrived.append(Delivery(method.delivery_tag, str(properties.message_id), properties.headers, body))

    def _gather(self, connection: pika.BlockingConnection) -> None:
        """Let arrive what there is, up to a group."""
        connection.process_data_events(0 if self._arrived else _IDLE_S)
        count = 0
        while count < len(self._arrived) < self._group:
            count = len(self._arrived)
            connection.process_data_events(_GATHER_S)

    def _store(self, channel: BlockingChannel, group: Sequence[Delivery]) -> None:
        """Store a group and acknowledge it; what is no report is buried."""
        good: list[_Good] = []
        for delivery in group:
            try:
                good.append((delivery, _submission(delivery)))
            except Poison as poison:
                self._bury(channel, delivery, poison)
        batches = deque([good] if good else [])
        pauses = self._pauses(channel.connection)
        while batches and not self._is_stopping:
            batch = batches.popleft()
            try:
                self._add_batch(batch)
            except SiteDbError as error:
                LOG.warning("not stored, tried again: %s", error)
                self._watcher.on_database_failure()
                batches.appendleft(batch)
                next(pauses)
            except Exception as error:  # noqa: BLE001 - something in one of them: the others are not to pay for it
                if len(batch) > 1:
                    batches.extendleft([each] for each in reversed(batch))
                else:
                    self._bury(channel, batch[0][0], _unstorable(error))
            else:
                # With all before it: those were stored or buried.
                channel.basic_ack(batch[-1][0].tag, multiple=True)

    def _add_batch(self, batch: Sequence[_Good]) -> None:
        began = time.monotonic()
        outcomes = self._add([submission for _, submission in batch])
        self._watcher.on_stored(outcomes, time.monotonic() - began)

    def _pauses(self, connection: pika.BlockingConnection) -> Iterator[None]:
        """Each is longer than the one before, up to a limit; heartbeats go on, and `stop` ends it."""
        pause_s = _FIRST_PAUSE_S
        while True:
            end = time.monotonic() + pause_s
            while not self._is_stopping and (left := end - time.monotonic()) > 0:
                connection.process_data_events(min(left, 0.2))
            yield
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    def _bury(self, channel: BlockingChannel, delivery: Delivery, poison: Poison) -> None:
        LOG.error("report %s to the dead letters: %s: %s", delivery.name, poison.reason, poison)
        channel.basic_reject(delivery.tag, requeue=False)
        self._watcher.on_dead_letter(poison.reason)


class Replayed(NamedTuple):
    """What became of the dead letters."""

    stored: int
    left: int


def replay(settings: QueueSettings, add: Add) -> Replayed:
    """Try each dead letter once, alone; what cannot be stored stays. Raises QueueProblem, DatabaseUnavailable."""
    counts = {True: 0, False: 0}
    try:
        with _connected(settings, next(broker.turns(settings.addresses))) as channel:
            waiting = channel.queue_declare(settings.dead_letters, passive=True).method.message_count
            for _ in range(waiting):
                method, properties, body = channel.basic_get(settings.dead_letters)
                if method is None:
                    break
                delivery = Delivery(method.delivery_tag, str(properties.message_id), properties.headers, body)
                if is_stored := _is_stored(delivery, add):
                    channel.basic_ack(delivery.tag)
                counts[is_stored] += 1
    except (pika.exceptions.AMQPError, OSError) as error:
        message = f"The dead letters cannot be read: {broker.reason_of(error)}."
        raise QueueProblem(message, "See that the broker runs and lets this user in.") from error
    return Replayed(counts[True], counts[False])


def _is_stored(delivery: Delivery, add: Add) -> bool:
    try:
        add([_submission(delivery)])
    except SiteDbError:
        raise
    except Poison as poison:
        LOG.warning("report %s stays: %s: %s", delivery.name, poison.reason, poison)
        return False
    except Exception as error:  # noqa: BLE001 - it stays, and the next is tried
        _unstorable(error)
        return False
    return True


def _unstorable(error: Exception) -> Poison:
    LOG.error("a report cannot be stored: %s", error, exc_info=error)
    return Poison("not_storable", type(error).__name__)


def _submission(delivery: Delivery) -> Submission:
    """The report of a message, looked at again: who may write to the queue need not be a collector. Raises Poison."""
    text = messages.unpack(delivery.body, delivery.headers)
    try:
        return validate(text.raw, _REPORT_LIMIT_BYTES, now=lambda: text.received_at)
    except Rejected as rejected:
        raise Poison(rejected.kind, str(rejected)) from rejected


@contextmanager
def _connected(settings: QueueSettings, turn: broker.Turn) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(
        broker.parameters(turn.address, settings.ca_file, "site-db worker", _HEARTBEAT_S)
    )
    try:
        channel = connection.channel()
        for declared in broker.queues(settings):
            channel.queue_declare(declared.name, durable=True, arguments=declared.arguments)
        yield channel
    finally:
        if connection.is_open:
            connection.close()
