"""A worker's own figures, for Prometheus."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from site_db.errors import SiteDbError

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class WorkerMetrics:
    """Counts since the start of this process; a Watcher of reports.queue.worker."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._stored = Counter(
            "site_db_worker_reports", "Reports taken from the queue, new and known", ["status"], registry=registry
        )
        self._dead = Counter(
            "site_db_worker_dead_letters", "Messages that cannot be stored", ["reason"], registry=registry
        )
        self._failures = Counter(
            "site_db_worker_database_failures", "Groups that the database did not take at once", registry=registry
        )
        self._connections = Counter("site_db_worker_connections", "Connections to a broker", registry=registry)
        self._connected = Gauge("site_db_worker_connected", "1 while connected to a broker, else 0", registry=registry)
        self._last = Gauge(
            "site_db_worker_last_commit_timestamp_seconds", "When reports were last stored", registry=registry
        )
        self._seconds = Histogram(
            "site_db_worker_commit_seconds", "Time to store a group", buckets=_BUCKETS_S, registry=registry
        )

    def serve(self, host: str, port: int) -> int:
        """Answer Prometheus at this address, in a thread; the port, for 0 a free one. Raises SiteDbError."""
        try:
            server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            raise SiteDbError(
                f"Cannot listen on {host} port {port}: {error.strerror or error}.", "Choose another --metrics-port."
            ) from error
        return int(server.server_port)

    def on_connected(self, is_connected: bool) -> None:
        """A connection was made, or ended."""
        self._connected.set(is_connected)
        if is_connected:
            self._connections.inc()

    def on_stored(self, outcomes: Sequence[str], seconds: float) -> None:
        """A group was committed."""
        for status in ("new", "known"):
            self._stored.labels(status).inc(outcomes.count(status))
        self._last.set_to_current_time()
        self._seconds.observe(seconds)

    def on_dead_letter(self, reason: str) -> None:
        """A message went to the dead letters."""
        self._dead.labels(reason).inc()

    def on_database_failure(self) -> None:
        """The database did not store a group; it is tried again."""
        self._failures.inc()
