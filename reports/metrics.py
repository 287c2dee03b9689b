"""The collector's own figures, for Prometheus. One registry per collector: nothing is global.

They answer: is it healthy, is it behind, who is refused and why. Every label comes from a fixed set, never from a client.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reports.tokens.authorizer import TokenAuthorizer

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_COMMIT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts since the start of this process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.received = self._counter("reports_received", "Reports that arrived, whatever became of them")
        self.stored = self._counter("reports_stored", "New reports that were stored")
        self.known = self._counter("reports_known", "Reports that were stored already and came again")
        self.refused = self._counter(
            "refused",
            "Requests, and lines of batches, that were refused, by HTTP status and reason",
            ["status", "reason"],
        )
        self.requests = self._counter("requests", "Requests answered, by path of the description", ["path", "status"])
        self.commit_seconds = Histogram(
            "site_db_commit_seconds",
            "Time from submission to the committed transaction, queueing included",
            buckets=_COMMIT_BUCKETS_S,
            registry=self._registry,
        )
        self.last_commit = Gauge(
            "site_db_last_commit_timestamp_seconds", "When reports were last stored", registry=self._registry
        )

    def watch(self, name: str, told: str, ask: Callable[[], float]) -> None:
        """A gauge that is asked when Prometheus asks."""
        Gauge(f"site_db_{name}", told, registry=self._registry).set_function(ask)

    def watch_tokens(self, authorizer: TokenAuthorizer) -> None:
        """What is known of keys and tokens."""
        self._registry.register(_Tokens(authorizer))

    def text(self) -> bytes:
        """The exposition in Prometheus's text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, told: str, labels: Iterable[str] = ()) -> Counter:
        return Counter(f"site_db_{name}", told, labels, registry=self._registry)


class CountedAnswers:
    """ASGI middleware that counts answers by status and by the path of the description; `paths` names each endpoint's."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: Mapping[object, str]) -> None:
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer, and look."""

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = self._paths.get(scope.get("endpoint"), "other")
                self._metrics.requests.labels(path, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting)


class _Tokens(Collector):
    """Figures of the keys of each issuer; issuers are those of the configuration, and "factories"."""

    def __init__(self, authorizer: TokenAuthorizer) -> None:
        self._authorizer = authorizer

    def collect(self) -> Iterator[Metric]:
        """The figures now."""
        keys = GaugeMetricFamily("site_db_issuer_keys", "Keys that may be used", labels=["issuer"])
        ages = GaugeMetricFamily("site_db_issuer_keys_age_seconds", "Since keys were last read", labels=["issuer"])
        failures = CounterMetricFamily("site_db_issuer_failures", "Keys could not be read", labels=["issuer"])
        for source in self._authorizer.verifier.sources:
            keys.add_metric([source.name], source.count)
            ages.add_metric([source.name], source.age_s)
            failures.add_metric([source.name], source.failures)
        lookups = CounterMetricFamily("site_db_tokens", "Tokens looked at, by whether remembered", labels=["memory"])
        lookups.add_metric(["hit"], self._authorizer.hits)
        lookups.add_metric(["miss"], self._authorizer.misses)
        yield from (keys, ages, failures, lookups)
