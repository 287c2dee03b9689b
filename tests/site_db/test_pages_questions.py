"""What pages ask of the database: history by day, where reasons occur, labels of sites, the mark of changed data."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest

from site_db.data_version import data_version
from site_db.entry_nodes import nodes_of_entry
from site_db.errors import UnknownName
from site_db.history import read_history
from site_db.latency import cvmfs_latencies
from site_db.occurrences import entries_by_reason, list_occurrences
from site_db.rules import default_rules
from site_db.site_labels import Labels, entry_labels, site_labels
from site_db.store import Store, Submission
from tests.sample_reports import sample_report

NOW = datetime.fromisoformat("2026-11-20T12:00:00+00:00")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A node that worked two days ago and is broken since yesterday, and a healthy one of another site today."""
    opened = Store.open(f"sqlite:///{tmp_path / 'site.db'}")
    add(opened, "healthy", 2)
    add(opened, "pid_masked", 1)
    add(opened, "healthy", 0, host__machine_id="b" * 32, glidein__site="Other", glidein__entry="Other_CE")
    yield opened
    opened.close()


def add(store: Store, case: str, days_ago: int, **fields: object) -> None:
    made = NOW - timedelta(days=days_ago)
    report = sample_report(case, created_at=made.strftime("%Y-%m-%dT%H:%M:%SZ"), **fields)
    store.add([Submission(report, orjson.dumps(report), made)])


def test_history_has_every_day_and_the_share_of_those_that_could_tell(store: Store):
    history = read_history(store, NOW, 4)
    singularity = default_rules().capability("singularity")
    assert singularity is not None
    assert [day.day for day in history.days] == [17, 18, 19, 20]
    assert history.share(singularity) == [None, 1.0, 0.0, 1.0]
    assert history.counts(lambda profile: profile["singularity"]["mode"]) == {"unprivileged": [0, 1, 0, 1]}


def test_history_of_one_site_leaves_out_others(store: Store):
    assert [day.day for day in read_history(store, NOW, 3, "Other").nodes] == [20]
    with pytest.raises(UnknownName):
        read_history(store, NOW, 3, "Nowhere")


def test_a_reason_occurs_where_the_newest_report_gives_it(store: Store):
    found = list_occurrences(store, NOW)["proc_masked"]
    assert (found.failing, found.nodes, found.sites) == (1, 1, 1)
    [entry] = entries_by_reason(store, NOW)["proc_masked"]
    assert (entry.entry, entry.site, entry.failing, entry.of_nodes) == ("Example_T2_CE1", "Example-T2", 1, 1)
    assert "pid_namespace" in entry.capabilities


def test_a_reason_that_makes_no_capability_fail_is_counted_apart(store: Store):
    found = list_occurrences(store, NOW)["gpu_none"]
    assert (found.failing, found.nodes, found.sites) == (0, 2, 2)


def test_what_nobody_configured_is_no_label(store: Store):
    assert site_labels(store)["Other"] == Labels(factories=("factory.example.org",))
    assert entry_labels(store)["Other_CE", "factory.example.org"].vos == ()


def test_the_nodes_of_an_entry_are_those_of_their_newest_reports(store: Store):
    [node] = nodes_of_entry(store, "Example_T2_CE1", 10)
    assert (node.singularity, node.reason, node.reports) == ("no", "proc_masked", 2)


def test_latencies_are_of_the_newest_reports_of_nodes(store: Store):
    found = cvmfs_latencies(store, NOW, 7, 100)
    assert found["oasis.opensciencegrid.org"] == [0.004, 0.004]
    assert cvmfs_latencies(store, NOW, 7, 100, "Other")["oasis.opensciencegrid.org"] == [0.004]
    assert cvmfs_latencies(store, NOW + timedelta(days=30), 7, 100) == {}


def test_the_mark_of_the_data_changes_with_a_report(store: Store):
    with store.reading() as connection:
        before = data_version(connection)
    add(store, "healthy", 0)
    with store.reading() as connection:
        assert data_version(connection) != before
