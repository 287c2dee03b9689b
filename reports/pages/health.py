"""How the collector is: its own figures, the size of its database, what it refused."""

from prometheus_client.parser import text_string_to_metric_families

from reports.pages import cells
from reports.pages.asked import Asked
from reports.pages.centre import Centre
from reports.pages.model import Block, Cell, Column, Facts, Grid, Page
from reports.version import VERSION
from site_db.sizes import read_sizes
from site_db.times import moment

_MIB = 1024 * 1024
_MICROSECONDS = 1_000_000
_WATCHED = {
    "site_db_queue_reports": "Waiting for their commit",
    "site_db_posts": "Being answered",
    "site_db_connections": "Connections",
    "site_db_reports_received_total": "Reports received",
    "site_db_reports_stored_total": "Stored",
    "site_db_reports_known_total": "Known already",
}

Samples = dict[str, list[tuple[dict[str, str], float]]]


def collector(centre: Centre, asked: Asked) -> Page:  # noqa: ARG001 - the shape of all pages
    """The figures since the collector started."""
    now = centre.now()
    samples = _samples(centre.figures())
    sizes = centre.kept.ask("sizes", lambda: read_sizes(centre.store))
    rows = [(title, cells.count(int(_one(samples, name)))) for name, title in _WATCHED.items() if name in samples]
    committed = _one(samples, "site_db_last_commit_timestamp_seconds")
    rows += [
        ("Last commit (UTC)", cells.when(moment(int(committed * _MICROSECONDS)) if committed else None, now)),
        ("Reports ever", cells.count(sizes.reports)),
        ("Nodes ever", cells.count(sizes.nodes)),
        ("Database", Cell(sizes.database_bytes, f"{sizes.database_bytes / _MIB:,.0f} MiB")),
        ("Free to be used again", Cell(sizes.free_bytes, f"{sizes.free_bytes / _MIB:,.0f} MiB")),
    ]
    if "site_db_disk_free_bytes" in samples:
        free = _one(samples, "site_db_disk_free_bytes")
        rows.append(("Free on the disk", Cell(free, f"{free / _MIB:,.0f} MiB")))
    rows.append(("Version", cells.text(VERSION)))
    blocks: list[Block] = [Facts("", rows), _refused(samples), _answered(samples)]
    lead = ["Counts since this process started. For Prometheus: /metrics; is it ready: /readyz."]
    return Page("Collector", "collector", now, blocks, lead)


def _samples(text: bytes) -> Samples:
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _one(samples: Samples, name: str) -> float:
    return samples[name][0][1] if name in samples else 0.0


def _refused(samples: Samples) -> Grid:
    counted = sorted(samples.get("site_db_refused_total", []), key=lambda item: -item[1])
    rows = [[cells.text(of["reason"]), cells.text(of["status"]), cells.count(int(number))] for of, number in counted]
    columns = [Column("reason", "Reason"), Column("status", "HTTP status"), Column("count", "Count", numeric=True)]
    return Grid("refused", "Refused", columns, rows, False, "Nothing was refused.")


def _answered(samples: Samples) -> Grid:
    counted = sorted(samples.get("site_db_requests_total", []), key=lambda item: -item[1])
    rows = [[cells.text(of["path"]), cells.text(of["status"]), cells.count(int(number))] for of, number in counted]
    columns = [Column("path", "Path"), Column("status", "HTTP status"), Column("count", "Count", numeric=True)]
    return Grid("requests", "Requests answered", columns, rows, True, "None yet.")
