"""`GET /readyz`: can this collector take reports now. And the queue as the collector sees it, where there is one."""

from typing import Any, Protocol

from anyio.to_thread import run_sync

from reports.disk import Disk
from reports.metrics import Metrics
from reports.problems import HttpProblem
from reports.receiving import Accepting
from site_db.errors import DatabaseUnavailable
from site_db.store import Store


class Queue(Accepting, Protocol):
    """reports.queue.publisher.Publisher, which needs a library that not everybody has."""

    @property
    def trouble(self) -> str:
        """Why nothing can be published now; empty if it can."""

    @property
    def depth(self) -> float:
        """Reports in the queue that no worker has taken."""

    @property
    def dead_letters(self) -> float:
        """Reports that no worker could store."""

    @property
    def reconnects(self) -> int:
        """Connections to a broker after the first."""

    published: int
    refused: int


async def check_ready(store: Store, disk: Disk, queue: Queue | None) -> dict[str, Any]:
    """The answer of a collector that can take reports. Raises HttpProblem 503, DatabaseUnavailable.

    With a queue it takes reports while the database is away, and says that in `database`.
    """
    if disk.is_short:
        raise HttpProblem.try_again("disk", "there is too little free space to take reports", 60)
    if queue is None:
        await run_sync(store.ping)
        return {"status": "ready"}
    if queue.trouble:
        raise HttpProblem.try_again("busy", f"the queue takes nothing now: {queue.trouble}", 5)
    try:
        await run_sync(store.ping)
    except DatabaseUnavailable:
        return {"status": "ready", "queue": "ready", "database": "unavailable"}
    return {"status": "ready", "queue": "ready", "database": "ready"}


def watch_queue(metrics: Metrics, queue: Queue) -> None:
    """The queue's figures, for Prometheus."""
    metrics.watch("broker_connected", "1 while reports can be published, else 0", lambda: not queue.trouble)
    metrics.watch("broker_reports", "Reports in the queue that no worker has taken", lambda: queue.depth)
    metrics.watch("broker_dead_letters", "Reports in the queue that no worker could store", lambda: queue.dead_letters)
    metrics.watch("broker_published", "Reports that the broker has confirmed", lambda: queue.published)
    metrics.watch("broker_refused", "Reports that the broker has refused: the queue is full", lambda: queue.refused)
    metrics.watch("broker_reconnects", "Connections to a broker after the first", lambda: queue.reconnects)
