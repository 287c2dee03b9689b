"""The dashboard and the alerts: every metric and label that they use is one that a running collector has."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from reports.metrics import Metrics
from reports.queue.worker_metrics import WorkerMetrics
from reports.readiness import watch_queue
from site_db.store import Submission

ROOT = Path(__file__).parents[1]
ALERTS = YAML(typ="safe").load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text(encoding="utf-8"))
PANELS: dict[str, list[str]] = {
    panel["title"]: [target["expr"] for target in panel["targets"]] for panel in DASHBOARD["panels"]
}
EXPRESSIONS = [*(rule["expr"] for rule in RULES), *(expr for found in PANELS.values() for expr in found)]

# What Prometheus puts on every sample, and the metric that it makes itself.
ITS_LABELS, ITS_METRICS = {"job", "instance"}, {"up": set[str]()}
FUNCTIONS = {"histogram_quantile", "sum", "rate", "time", "min", "max", "deriv"}
WORDS = {"by", "and", "or", "unless", "on", "offset"}
CONFIGURATION = """
[server]
port = 0
[tokens]
audience = ["https://sitedb.example.org"]
keys = "keys"
"""


class Broker:
    """A queue as the collector sees it."""

    trouble = ""
    pending = reconnects = published = refused = 0
    depth = dead_letters = 0.0

    def close(self) -> None:
        """Nothing is open."""

    def submit(self, submissions: list[Submission]) -> Future[list[str]]:
        """Never asked here."""
        raise NotImplementedError


def of_the_queue() -> list[bytes]:
    """The figures of a collector's queue and of a worker, after one of everything."""
    metrics, worker = Metrics(), WorkerMetrics()
    watch_queue(metrics, Broker())
    worker.on_connected(True)
    worker.on_stored(["new"], 0.1)
    worker.on_dead_letter("not_json")
    worker.on_database_failure()
    return [metrics.text(), generate_latest(worker.registry)]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The samples of a running collector with tokens, after one request that it refuses, of a queue and of a worker."""
    folder = tmp_path_factory.mktemp("collector")
    (folder / "serve.toml").write_text(CONFIGURATION, encoding="utf-8")
    program = [sys.executable, "-c", "from reports.cli import main; main()", "--database", f"sqlite:///{folder}/s.db"]
    keys = ["--keys", str(folder / "keys")]
    _run(*program, "token", "keys", "add", "--readers", *keys)
    issue = ("token", "issue", "prometheus", "--reader", "--audience", "https://sitedb.example.org")
    token = _run(*program, *issue, *keys).strip()
    serve = [*program, "serve", "--config", str(folder / "serve.toml")]
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = server.stderr.readline().split()[-1]
        assert httpx.post(f"{url}/api/v1/reports", json={}).status_code == 401
        text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {token}"}).raise_for_status().text
        server.terminate()
    found: dict[str, set[str]] = {}
    for each in (text, *(told.decode() for told in of_the_queue())):
        for family in text_string_to_metric_families(each):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def used(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric of an expression with the labels of its matchers."""
    for name, matchers in re.findall(r"\b((?:site_db|process)_\w+|up)\b(\{[^}]*\})?", expression):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def grouped(expression: str) -> set[str]:
    return {label for labels in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in re.split(r"[,\s]+", labels)}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_label_is_one_of_a_running_collector(exposed: dict[str, set[str]], expression: str):
    known = {**exposed, **ITS_METRICS}
    metrics = list(used(expression))
    assert metrics
    available = ITS_LABELS.copy()
    for name, labels in metrics:
        assert name in known
        assert labels <= known[name] | ITS_LABELS, name
        available |= known[name]
    assert grouped(expression) <= available


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_has_known_functions_and_balanced_brackets(expression: str):
    bare = re.sub(r'"[^"]*"', "", expression)
    for opening, closing in ("()", "{}", "[]"):
        assert bare.count(opening) == bare.count(closing)
    assert set(re.findall(r"\b([a-z_]+)\s*\(", bare)) - WORDS <= FUNCTIONS
    for function, name, window in re.findall(r"(\w+)\((\w+)(?:\{[^}]*\})?\[([^\]]*)\]", bare):
        is_counter = name.endswith(("_total", "_bucket"))
        assert function == ("rate" if is_counter else "deriv"), f"{function} of {name}"
        assert re.fullmatch(r"\d+[smh]|\$__rate_interval", window)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_and_what_to_do(exposed: dict[str, set[str]], rule: dict[str, Any]):
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert set(rule["annotations"]) == {"summary", "remedy"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    labels = {label for name, _ in used(rule["expr"]) for label in exposed.get(name, ())} | ITS_LABELS
    kept = grouped(rule["expr"]) or labels
    named = re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values()))
    assert set(named) <= kept
    assert f"`{rule['alert']}`" in (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")


def test_reasons_in_alerts_are_reasons_of_the_collector():
    documented = (ROOT / "docs/collector.md").read_text(encoding="utf-8")
    words = [
        word for rule in RULES for found in re.findall(r'reason=~?"([^"]*)"', rule["expr"]) for word in found.split("|")
    ]
    assert words
    assert [word for word in words if f"`{word}`" not in documented] == []


def test_every_figure_of_collector_queue_and_workers_is_on_the_dashboard(exposed: dict[str, set[str]]):
    shown = {name for found in PANELS.values() for expression in found for name, _ in used(expression)}
    own = {re.sub(r"_(bucket|sum|count)$", "_bucket", name) for name in exposed if name.startswith("site_db_")}
    left_out = {"site_db_issuer_keys"}  # how many keys an issuer has changes with nothing that somebody should look at
    assert {name for name in own if not name.endswith("_created")} - shown == left_out


def test_panels_do_not_overlap_and_name_no_data_source_of_ours():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
    assert "http" not in json.dumps(DASHBOARD).replace("site_db", "")
