"""The systems that are tried: what runs, over which database, with what in between. All on loopback, gone at the end."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from campaign.failing_folder import FailingFolder
from campaign.programs import Collector, PostgreSQL, SiteDb, until

from tests import rabbitmq


class System(NamedTuple):
    """A system under load: its programs by what they are, and where its reports end."""

    database: str
    collectors: Sequence[Collector]
    workers: Sequence[SiteDb]
    server: PostgreSQL | None = None
    nodes: Sequence[rabbitmq.Node] = ()
    folder: FailingFolder | None = None

    def programs(self) -> list[SiteDb]:
        return [*self.collectors, *self.workers]


@contextmanager
def sqlite_system(failing: bool = False) -> Iterator[System]:
    """One collector over SQLite; `failing`: in a folder that can be made to fail."""
    folder = FailingFolder() if failing else None
    try:
        with tempfile.TemporaryDirectory(prefix="campaign-") as name:
            place = folder.path if folder else Path(name)
            url = f"sqlite:///{place / 'site.db'}"
            with _started(System(url, [Collector(1, url, [], Path(name))], [], folder=folder)) as system:
                yield system
    finally:
        if folder:
            folder.remove()


@contextmanager
def postgresql_system() -> Iterator[System]:
    """Two collectors over PostgreSQL."""
    with _server() as server, tempfile.TemporaryDirectory(prefix="campaign-") as name:
        collectors = [Collector(number, server.url, [], Path(name)) for number in (1, 2)]
        with _started(System(server.url, collectors, [], server)) as system:
            yield system


@contextmanager
def queue_system() -> Iterator[System]:
    """Two collectors, a queue on three nodes, two workers, PostgreSQL."""
    with rabbitmq.cluster(3) as nodes, _server() as server, tempfile.TemporaryDirectory(prefix="campaign-") as name:
        password = Path(name) / "password"
        password.write_text("guest\n")
        queue = ["--queue-password-file", str(password)]
        queue += [word for node in nodes for word in ("--queue", f"amqp://guest@127.0.0.1:{node.port}")]
        collectors = [Collector(number, server.url, queue, Path(name)) for number in (1, 2)]
        logs = [Path(name) / f"worker-{number}.log" for number in (1, 2)]
        workers = [SiteDb(log.stem, server.url, ["worker", *queue], log) for log in logs]
        with _started(System(server.url, collectors, workers, server, nodes)) as system:
            yield system


@contextmanager
def _server() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    try:
        server.start()
        until(server.is_ready, "PostgreSQL's start")
        yield server
    finally:
        server.remove()


@contextmanager
def _started(system: System) -> Iterator[System]:
    try:
        for program in system.programs():
            program.start()
        for collector in system.collectors:
            until(collector.is_ready, f"the start of {collector.name}")
        yield system
    finally:
        for program in system.programs():
            program.kill()


SYSTEMS: dict[str, Callable[[], AbstractContextManager[System]]] = {
    "sqlite": sqlite_system,
    "postgresql": postgresql_system,
    "queue": queue_system,
}
