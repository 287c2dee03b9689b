"""The collector's own figures, for Prometheus. One registry per collector: nothing is global."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_COMMIT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts since the start of this process. `queued` is asked when Prometheus asks."""

    def __init__(self, queued: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self.received = Counter(
            "site_db_reports_received", "Reports that arrived, whatever became of them", registry=self._registry
        )
        self.stored = Counter("site_db_reports_stored", "New reports that were stored", registry=self._registry)
        self.known = Counter(
            "site_db_reports_known", "Reports that were stored already and came again", registry=self._registry
        )
        self.refused = Counter(
            "site_db_refused",
            "Requests to store, and lines of batches, that were refused, by HTTP status",
            ["status"],
            registry=self._registry,
        )
        self.commit_seconds = Histogram(
            "site_db_commit_seconds",
            "Time from submission to the committed transaction, queueing included",
            buckets=_COMMIT_BUCKETS_S,
            registry=self._registry,
        )
        waiting = Gauge("site_db_queue_reports", "Reports that wait for their commit", registry=self._registry)
        waiting.set_function(queued)

    def text(self) -> bytes:
        """The exposition in Prometheus's text format."""
        return generate_latest(self._registry)
