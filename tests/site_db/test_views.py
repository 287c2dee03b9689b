"""The views, on both databases: what they say, and the shape in which they say it."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from site_db import views
from site_db.errors import AmbiguousName, UnknownName
from site_db.proposals import propose
from site_db.store import Store
from tests.sample_reports import image
from tests.site_db.submissions import NOW, sample

SHAPES = Path(__file__).with_name("site_report_shapes.json")
ENTRY = "Example_T2_CE1"


@pytest.fixture
def filled(store: Store) -> Store:
    store.add(
        [
            sample("healthy", node=1),
            sample("no_runtime", node=1, hours_ago=30),
            sample("pid_masked", node=2, images=[image("/cvmfs/i", "fail", "image_missing"), image("/cvmfs/j")]),
            sample("healthy", node=3, hours_ago=24 * 8),
            sample("healthy", node=1, hours_ago=2, glidein__entry="Example_T2_CE2", glidein__resource="CE2"),
            sample("no_runtime", node=4, glidein__entry="Other", glidein__site="Other-T3"),
        ]
    )
    return store


def test_a_node_counts_once_with_its_newest_report_in_the_window(filled: Store) -> None:
    report = views.entry_report(filled, ENTRY, NOW)
    singularity = report.verdicts[0]
    assert (singularity.answer, singularity.nodes_yes, singularity.nodes_no) == ("mixed", 1, 1)
    assert (report.freshness.nodes_recent, report.freshness.nodes_ever, report.freshness.reports) == (2, 3, 4)
    assert report.freshness.newest == NOW - timedelta(hours=1)
    later = views.entry_report(filled, ENTRY, NOW + timedelta(days=30))
    assert later.verdicts[0].answer == "unknown"
    assert "no node reported" in later.verdicts[0].sentence


def test_a_site_counts_a_node_of_two_entries_once(filled: Store) -> None:
    report = views.site_report(filled, "Example-T2", NOW)
    counts = {entry.name: entry.freshness.nodes_recent for entry in report.entries}
    assert counts == {ENTRY: 2, "Example_T2_CE2": 1}
    assert report.freshness.nodes_recent == 2
    assert report.verdicts[0].nodes == 2
    assert report.resources == ("CE2", "Example-T2-CE1")


def test_all_sites_are_listed_with_what_is_known_of_them(filled: Store) -> None:
    listed = views.list_sites(filled, NOW).sites
    assert [(site.name, site.entries, site.verdicts[0].answer) for site in listed] == [
        ("Example-T2", 2, "mixed"),
        ("Other-T3", 1, "no"),
    ]
    stale = views.list_sites(filled, NOW + timedelta(days=30)).sites
    assert [(site.name, site.verdicts[0].answer, site.freshness.nodes_ever) for site in stale] == [
        ("Example-T2", "unknown", 3),
        ("Other-T3", "unknown", 1),
    ]
    assert [entry.name for entry in views.list_entries(filled, NOW)] == [ENTRY, "Example_T2_CE2", "Other"]


def test_images_are_judged_by_the_nodes_that_tried_them(filled: Store) -> None:
    found = {item.ref: item for item in views.entry_report(filled, ENTRY, NOW).images}
    assert (found["/cvmfs/i"].answer, found["/cvmfs/i"].reasons[0].code) == ("no", "image_missing")
    assert (found["/cvmfs/j"].answer, found["/cvmfs/j"].nodes_yes) == ("yes", 1)


@pytest.mark.parametrize("name", ["wn003.example.org", f"{3:032x}"])
def test_a_node_is_shown_by_its_newest_report_however_old(filled: Store, name: str) -> None:
    report = views.node_report(filled, name, NOW)
    assert (report.hostname, report.recent, report.verdicts[0].answer) == ("wn003.example.org", False, "yes")
    assert [(seen.entry, seen.site, seen.reports) for seen in report.seen] == [(ENTRY, "Example-T2", 1)]


def test_why_quotes_the_report_that_decided(filled: Store) -> None:
    found = views.why(filled, ENTRY, "pid_namespace", NOW)
    assert [item.reason.code for item in found.reasons] == ["proc_masked"]
    assert found.reasons[0].reason.site_remedy
    decisive = found.examples[0]
    assert decisive.check is not None
    assert decisive.check["id"] == "singularity.features.pid_namespace"
    assert decisive.evidence.report_id
    usable = views.why(filled, ENTRY, "singularity", NOW).examples[0].check
    assert usable is not None
    assert usable["usable"] is False
    assert usable["message"] == "can't mount proc filesystem to /proc"
    repository = views.why(filled, ENTRY, "cvmfs:oasis.opensciencegrid.org", NOW).examples[0].check
    assert repository == {"status": "ok", "reason": None, "message": None, "errno": None}


@pytest.mark.parametrize(
    ("ask", "near"),
    [
        (lambda store: views.site_report(store, "Example-T1", NOW), ["Example-T2"]),
        (lambda store: views.entry_report(store, "Example_T2_CE", NOW), ["Example_T2_CE1", "Example_T2_CE2"]),
        (lambda store: views.node_report(store, "wn003.example.com", NOW), None),
        (lambda store: views.why(store, ENTRY, "pid_namespaces", NOW), None),
        (lambda store: propose(store, "nothing alike", NOW), []),
        (lambda store: views.site_report(store, "\0\ud800", NOW), []),
        (lambda store: views.node_report(store, "\0", NOW), []),
        (lambda store: views.why(store, ENTRY, "\0", NOW), []),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(
    filled: Store, ask: Callable[[Store], object], near: list[str] | None
) -> None:
    with pytest.raises(UnknownName) as caught:
        ask(filled)
    assert caught.value.near if near is None else sorted(caught.value.near) == near


def test_an_entry_of_two_factories_is_asked_for_with_its_factory(filled: Store) -> None:
    filled.add([sample("no_runtime", node=9, glidein__factory="second.example.org")])
    with pytest.raises(AmbiguousName) as caught:
        views.entry_report(filled, ENTRY, NOW)
    assert caught.value.choices == [f"{ENTRY}@factory.example.org", f"{ENTRY}@second.example.org"]
    assert views.entry_report(filled, caught.value.choices[1], NOW).verdicts[0].answer == "no"


def test_a_host_name_of_two_nodes_is_asked_for_by_machine_id(filled: Store) -> None:
    filled.add([sample(node=50, host__hostname="wn001.example.org")])
    with pytest.raises(AmbiguousName, match=r"wn001\.example\.org"):
        views.node_report(filled, "wn001.example.org", NOW)


def _shape(value: object) -> object:
    """The keys and types of a JSON value, a list by its first item."""
    if isinstance(value, dict):
        return {name: _shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_shape(value[0])] if value else []
    return type(value).__name__


def test_the_shapes_are_those_of_the_version(filled: Store) -> None:
    shown = {
        "sites": views.list_sites(filled, NOW),
        "site": views.site_report(filled, "Example-T2", NOW),
        "entry": views.entry_report(filled, ENTRY, NOW),
        "node": views.node_report(filled, "wn002.example.org", NOW),
        "why": views.why(filled, ENTRY, "pid_namespace", NOW),
        "proposals": propose(filled, ENTRY, NOW),
    }
    shapes = {name: _shape(json.loads(json.dumps(view.to_dict()))) for name, view in shown.items()}
    assert shapes == json.loads(SHAPES.read_text(encoding="utf-8")), "the shape changed: is it still version 1.0?"
