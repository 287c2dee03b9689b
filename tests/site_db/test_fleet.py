"""A simulated fleet with known truth: what is concluded from its reports, on both databases."""

import json
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from site_db import views
from site_db.changes_views import Change, list_changes
from site_db.store import Store, Submission

ROOT = Path(__file__).parents[2]
END = "2026-11-20T18:00:00+00:00"
BATCH = 250
WITHIN_REPORTS = 10


def simulate(folder: Path, **options: object) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The reports in the order of their times, and the truth."""
    command = [sys.executable, str(ROOT / "scripts/simulate-fleet"), "--end", END, "--truth", str(folder / "truth")]
    command += [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    reports = [orjson.loads(line) for line in printed.splitlines()]
    return reports, json.loads((folder / "truth").read_text())


def feed(store: Store, reports: list[dict[str, Any]]) -> None:
    for start in range(0, len(reports), BATCH):
        batch = reports[start : start + BATCH]
        store.add([Submission(item, orjson.dumps(item), datetime.fromisoformat(item["created_at"])) for item in batch])


def confirmed(store: Store) -> list[Change]:
    return [change for change in list_changes(store, datetime.fromisoformat(END)).changes if change.confirmed_at]


def reports_until(change: Change, event: dict[str, Any], reports: list[dict[str, Any]]) -> int:
    """How many reports the affected nodes sent after they were affected, until the change was confirmed."""
    begin, affected = datetime.fromisoformat(event["at"]), set(event["nodes"])
    assert change.confirmed_at
    times = (
        datetime.fromisoformat(item["created_at"])
        for item in reports
        if item["glidein"]["entry"] == event["entry"] and shows(item, event) and item["host"]["machine_id"] in affected
    )
    return sum(begin <= at <= change.confirmed_at for at in times)


def shows(report: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether a report of an affected node shows what happened: nodes are affected one after the other."""
    found = {
        "singularity": not report["singularity"]["usable"],
        "privileged": report["singularity"]["modes"]["privileged"]["status"] != "ok",
        "gpu": report["gpus"]["status"] != "ok",
        "cvmfs:oasis.opensciencegrid.org": report["cvmfs"]["repositories"][1]["status"] != "ok",
    }[event["capability"]]
    return found == (event["direction"] == "lost")


def belongs(change: Change, event: dict[str, Any]) -> bool:
    """Whether a found change is the event or goes with it; its repair is not a change of its own."""
    return (
        (change.entry, change.direction) == (event["entry"], event["direction"])
        and change.capability in {event["capability"], *event["also"]}
        and change.since >= datetime.fromisoformat(event["at"]) - timedelta(days=1)
    )


@pytest.mark.parametrize("seed", [2])
def test_regressions_are_found_within_ten_reports_and_no_others(
    store: Store, tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    reports, truth = simulate(tmp_path, seed=seed, entries=40, days=16, most_nodes=25, regressions=16, noise=0.01)
    feed(store, reports)
    found, events = confirmed(store), truth["changes"]
    right = [change for change in found if any(belongs(change, event) for event in events)]
    delays = {}
    for event in events:
        first = [change for change in found if belongs(change, event) and change.capability == event["capability"]]
        if first:
            delays[event["entry"]] = reports_until(first[0], event, reports)
    with capsys.disabled():
        sys.stdout.write(
            f"\nfleet {seed}: {len(reports)} reports, {len(events)} changes; found {len(delays)}; "
            f"precision {len(right) / max(1, len(found)):.3f}, recall {len(delays) / len(events):.3f}, "
            f"reports of affected nodes until then: {sorted(delays.values())}\n"
        )
    assert [change for change in found if change not in right] == []
    assert len(delays) == len(events)
    assert max(delays.values()) <= WITHIN_REPORTS


def test_a_fleet_in_which_nothing_happens_has_no_changes_at_one_percent_noise(store: Store, tmp_path: Path) -> None:
    reports, truth = simulate(tmp_path, seed=5, entries=40, days=14, most_nodes=30, regressions=0, noise=0.01)
    feed(store, reports)
    assert truth["changes"] == []
    assert confirmed(store) == []


def test_verdicts_agree_with_the_truth(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports, truth = simulate(tmp_path, seed=3, entries=40, days=10, most_nodes=25, regressions=12, noise=0)
    feed(store, reports)
    outcomes: Counter[str] = Counter()
    for summary in views.list_entries(store, datetime.fromisoformat(END)):
        verdicts = {verdict.capability: verdict for verdict in summary.verdicts}
        for capability, share in truth["entries"][summary.name]["shares"].items():
            if capability in verdicts and share is not None:
                answer = "yes" if share == 1 else "no" if share == 0 else "mixed"
                outcomes["right" if verdicts[capability].answer == answer else "wrong"] += 1
    with capsys.disabled():
        sys.stdout.write(f"\nverdicts: {outcomes['right']} right, {outcomes['wrong']} wrong\n")
    assert outcomes["right"] > 40
    assert outcomes["wrong"] <= 0.05 * outcomes["right"]  # a node that turned after its last report
