"""The queue between collectors and the database, on a real cluster of three RabbitMQ nodes."""

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import orjson
import pika
import pytest
from sqlalchemy import func, select

from reports.collector import create_app
from reports.queue import broker
from reports.queue.publisher import Publisher
from reports.queue.settings import Address, QueueProblem, QueueSettings, parse_address
from reports.queue.worker import Replayed, Worker, replay
from reports.queue.worker_metrics import WorkerMetrics
from site_db import tables
from site_db.errors import Busy, DatabaseUnavailable
from site_db.known_reports import known_reports
from site_db.store import Store, Submission
from tests import rabbitmq
from tests.reports.conftest import ANY_AGE, RunServer
from tests.site_db.submissions import sample

pytestmark = [
    pytest.mark.skipif(
        not rabbitmq.is_installed(), reason="RabbitMQ is not installed (apt-get install rabbitmq-server)"
    ),
    pytest.mark.xdist_group("rabbitmq"),
]
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[rabbitmq.Node]]:
    with rabbitmq.cluster(3) as started:
        yield started


@pytest.fixture
def settings(nodes: list[rabbitmq.Node]) -> QueueSettings:
    """A queue of the test's own, on all nodes."""
    return QueueSettings(tuple(parse_address(node.url) for node in nodes), name=f"test-{uuid.uuid4().hex}")


@contextmanager
def publishing(settings: QueueSettings, store: Store) -> Iterator[Publisher]:
    publisher = Publisher(settings, partial(known_reports, store))
    try:
        until(lambda: not publisher.trouble)
        yield publisher
    finally:
        publisher.close()


@contextmanager
def working(settings: QueueSettings, add: Callable[[list[Submission]], list[str]]) -> Iterator[WorkerMetrics]:
    metrics = WorkerMetrics()
    worker = Worker(settings, add, metrics)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield metrics
    finally:
        worker.stop()
        thread.join(20)
        assert not thread.is_alive()


def until(is_so: Callable[[], bool], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def ids(items: Sequence[Submission]) -> list[bytes]:
    return [uuid.UUID(item.report["report_id"]).bytes for item in items]


def stored(store: Store) -> list[bytes]:
    with store.reading() as connection:
        return [bytes(each) for each in connection.scalars(select(tables.reports.c.report_id))]


def count(metrics: WorkerMetrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"site_db_worker_{name}_total", labels) or 0.0


def depth(settings: QueueSettings, name: str) -> int:
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", settings.addresses[-1].port)) as connection:
        return int(connection.channel().queue_declare(name, passive=True).method.message_count)


def test_a_report_goes_by_the_queue_into_the_database(settings: QueueSettings, store: Store, run_server: RunServer):
    reports = [sample(node=number).raw for number in range(4)]
    publisher = Publisher(settings, partial(known_reports, store))
    until(lambda: not publisher.trouble)
    with run_server(create_app(store, ANY_AGE, queue=publisher)) as url, httpx.Client(base_url=url) as client:
        assert client.post("/api/v1/reports", content=reports[0], headers=JSON).json()["status"] == "new"
        lines = {"content-type": "application/x-ndjson"}
        answer = client.post("/api/v1/reports", content=b"\n".join([*reports, reports[3], b"{}"]), headers=lines)
        statuses = [orjson.loads(line)["status"] for line in answer.iter_lines()]
        assert statuses == ["new", "new", "new", "new", "known", "rejected"]
        assert stored(store) == []
        ready = client.get("/readyz").json()
        assert ready == {"status": "ready", "queue": "ready", "database": "ready"}
        assert "site_db_broker_connected 1.0" in client.get("/metrics").text
        with working(settings, store.add):
            until(lambda: len(stored(store)) == 4)
            again = client.post("/api/v1/reports", content=reports[0], headers=JSON)
        assert (again.status_code, again.json()["status"]) == (200, "known")
    assert len(set(stored(store))) == 4
    assert depth(settings, settings.name) == depth(settings, settings.dead_letters) == 0


def test_what_no_worker_can_store_goes_to_the_dead_letters_and_may_be_tried_again(
    settings: QueueSettings, store: Store
):
    items = [sample(node=number) for number in range(6)]
    bad = items[3].report["report_id"]

    def add(group: list[Submission]) -> list[str]:
        if any(item.report["report_id"] == bad for item in group):
            raise ValueError("one of these")
        return store.add(group)

    with publishing(settings, store) as publisher:
        spoilt = [items[0]._replace(raw=b"{"), items[1]._replace(raw=b'{"schema_version": "1.0"}')]
        assert publisher.submit([*spoilt, *items[2:]]).result(20) == ["new"] * 6
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", settings.addresses[0].port)) as connection:
        for body, headers in ((b"no zstd", {"received_at": "2026-11-20T18:00:00+00:00"}), (b"", {}), (b"", None)):
            connection.channel().basic_publish("", settings.name, body, pika.BasicProperties(headers=headers))
    with working(settings, add) as metrics:
        until(lambda: depth(settings, settings.dead_letters) == 6 and len(stored(store)) == 3)
    assert sorted(stored(store)) == sorted(ids([items[2], *items[4:]]))
    assert count(metrics, "dead_letters", reason="not_storable") == 1
    assert count(metrics, "dead_letters", reason="headers") == 2
    assert count(metrics, "reports", status="new") == 3
    assert replay(settings, store.add) == Replayed(stored=1, left=5)
    assert sorted(stored(store)) == sorted(ids(items[2:]))
    until(lambda: depth(settings, settings.dead_letters) == 5)


def test_no_number_of_deliveries_drops_a_dead_letter() -> None:
    """RabbitMQ 4 drops after 20 where a queue says nothing; the one here has no limit of its own."""
    dead, queue = (declared.arguments for declared in broker.queues(QueueSettings(())))
    assert dead["x-delivery-limit"] >= 1_000_000
    assert queue["x-dead-letter-strategy"] == "at-least-once"


def test_a_worker_that_waited_too_long_for_the_database_is_told_just_that() -> None:
    said = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms."
    told = broker.told(pika.exceptions.ChannelClosedByBroker(406, said), QueueSettings(()))
    assert "timed out" in told
    assert "other limits" not in told


def test_an_error_in_publishing_is_told_to_who_waits_and_mends_itself(
    settings: QueueSettings, store: Store, monkeypatch: pytest.MonkeyPatch
):
    with publishing(settings, store) as publisher:
        with monkeypatch.context() as patched:
            patched.setattr(publisher._link, "publish", lambda _item: 1 // 0)
            assert isinstance(publisher.submit([sample(node=1), sample(node=2)]).exception(20), Busy)
        assert publisher.pending == 0
        until(lambda: publisher.reconnects == 1)
        assert publisher.submit([sample()]).result(20) == ["new"]


def test_a_file_of_certificates_that_is_away_for_a_while_ends_no_publisher(
    settings: QueueSettings, store: Store, monkeypatch: pytest.MonkeyPatch
):
    with publishing(settings, store) as publisher:
        failed = threading.Event()
        real = broker.parameters

        def parameters(address: Address, ca_file: str | None, name: str, heartbeat_s: int) -> pika.ConnectionParameters:
            if failed.is_set():
                return real(address, ca_file, name, heartbeat_s)
            failed.set()
            raise QueueProblem("ca.pem: No such file.", "")

        monkeypatch.setattr(broker, "parameters", parameters)
        publisher._link.loop.add_callback_threadsafe(partial(publisher._link.drop, "lost"))
        assert failed.wait(20)
        until(lambda: publisher.reconnects == 1)
        assert publisher.submit([sample()]).result(20) == ["new"]


def test_a_full_queue_refuses_and_takes_again_when_workers_have_emptied_it(settings: QueueSettings, store: Store):
    small = QueueSettings(settings.addresses, settings.name, length_limit=3)
    items = [sample(node=number) for number in range(40)]
    acknowledged = []
    with publishing(small, store) as publisher:
        for item in items:
            # It takes a few beyond the limit: RabbitMQ looks at it after it has taken one.
            if (error := publisher.submit([item]).exception(20)) is None:
                acknowledged.append(item)
            else:
                assert isinstance(error, Busy)
                assert "full" in str(error)
        assert 3 <= len(acknowledged) < 20
        assert publisher.refused == 40 - len(acknowledged)
        with working(small, store.add):
            until(lambda: set(ids(acknowledged)) <= set(stored(store)))
            assert publisher.submit([items[-1]]).result(20) == ["new"]
            until(lambda: ids(items)[-1] in stored(store))


def test_a_queue_with_other_limits_is_named(settings: QueueSettings, store: Store):
    with publishing(settings, store):
        other = Publisher(QueueSettings(settings.addresses, settings.name, length_limit=7), lambda _: set())
        until(lambda: "other limits" in other.trouble)
        with pytest.raises(Busy, match="other limits"):
            other.submit([sample()])
        other.close()


def test_a_worker_keeps_its_group_while_the_database_is_away(settings: QueueSettings, store: Store):
    items = [sample(node=number) for number in range(5)]
    failures = iter([True, True])

    def add(group: list[Submission]) -> list[str]:
        if next(failures, False):
            raise DatabaseUnavailable("The database is away.", "Wait.")
        return store.add(group)

    def find(_: Sequence[bytes]) -> set[bytes]:
        raise DatabaseUnavailable("The database is away.", "Wait.")

    publisher = Publisher(settings, find)
    until(lambda: not publisher.trouble)
    assert publisher.submit(items).result(20) == ["new"] * 5
    publisher.close()
    with working(settings, add) as metrics:
        until(lambda: len(stored(store)) == 5)
    assert count(metrics, "database_failures") == 2


def test_a_lookup_that_hangs_delays_no_answer_for_long(settings: QueueSettings):
    hangs = threading.Event()

    def find(_: Sequence[bytes]) -> set[bytes]:
        hangs.wait(30)
        return set()

    publisher = Publisher(settings, find)
    until(lambda: not publisher.trouble)
    began = time.monotonic()
    for number in range(20):
        assert publisher.submit([sample(node=number)]).result(20) == ["new"]
    assert time.monotonic() - began < 10
    hangs.set()
    publisher.close()


def test_sigterm_finishes_the_group_of_a_worker(settings: QueueSettings, store: Store, tmp_path: Path):
    items = [sample(node=number) for number in range(300)]
    with publishing(settings, store) as publisher:
        publisher.submit(items).result(20)
    options = [word for address in settings.addresses for word in ("--queue", str(address))]
    password = tmp_path / "password"
    password.write_text("guest\n")
    config = tmp_path / "serve.toml"
    config.write_text(f'[queue]\naddresses = ["amqp://nowhere.invalid"]\nname = "{settings.name}"\n')
    command = [sys.executable, "-c", "from reports.cli import main; main()", "worker", "--config", str(config)]
    command += ["--queue-password-file", str(password), "--group", "20", "--metrics-port", "0", *options]
    environment = {**os.environ, "SITE_DB_DATABASE": store.place}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        figures = worker.stderr.readline().split()[-1]
        until(lambda: len(stored(store)) >= 20)
        assert "site_db_worker_connected 1.0" in httpx.get(figures).text
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    assert len(stored(store)) % 20 == 0
    assert len(stored(store)) + depth(settings, settings.name) == 300


def test_a_node_killed_under_load_loses_nothing_that_was_acknowledged(
    nodes: list[rabbitmq.Node], settings: QueueSettings, store: Store, monkeypatch: pytest.MonkeyPatch
):
    # All of them are connected to the node that dies.
    monkeypatch.setattr(broker.random, "sample", lambda items, _: list(items))
    acknowledged: list[bytes] = []
    refused = []
    done = threading.Event()
    # Who declares a queue first has its leader: the node that dies.
    with publishing(QueueSettings(settings.addresses[:1], settings.name), store):
        pass

    def send(publisher: Publisher, seed: int) -> None:
        number = seed
        while not done.is_set():
            number += 10
            item = sample(node=number % 97)
            try:
                publisher.submit([item]).result(20)
                acknowledged.extend(ids([item]))
            except Busy:
                refused.append(number)
                done.wait(0.02)

    with publishing(settings, store) as first, publishing(settings, store) as second:
        senders = [threading.Thread(target=send, args=((first, second)[n % 2], n)) for n in range(4)]
        with working(settings, store.add), working(settings, store.add):
            for sender in senders:
                sender.start()
            until(lambda: len(acknowledged) > 100)
            nodes[0].kill()
            before = len(acknowledged)
            until(lambda: len(acknowledged) > before + 100)
            done.set()
            for sender in senders:
                sender.join(30)
            until(lambda: set(acknowledged) <= set(stored(store)))
    with store.reading() as connection:
        counted = connection.scalar(select(func.sum(tables.observations.c["count"])))
    assert counted == len(set(stored(store))) == len(stored(store))
    assert min(first.reconnects, second.reconnects) >= 1
