"""`site-db publish` and `export ads`. A stand-in takes the collector's place; the ads are HTCondor's own."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import classad2
import htcondor2
import pytest
from click.testing import CliRunner, Result

from reports import site_ad_commands
from reports.cli import cli
from site_db.store import Store
from tests.reports.test_pages import add
from tests.sample_reports import sample_report


class Pool:
    """Stands in for htcondor2.Collector, and keeps what it is told."""

    told: list[tuple[str, list[Any], str, bool]] = []

    def __init__(self, address: str) -> None:
        self.address = address

    def advertise(self, ads: list[Any], command: str, use_tcp: bool) -> None:
        self.told.append((self.address, ads, command, use_tcp))


@pytest.fixture
def database(tmp_path: Path, store: Store) -> str:
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    reports = []
    for number in range(3):
        report = sample_report("gpu", created_at=made, host__machine_id=f"{number:032x}")
        report["glidein"].update(site=f"Site-{number}", entry=f"Entry_{number}")
        reports.append(report)
    add(store, *reports)
    return f"sqlite:///{tmp_path / 'site.db'}"


def run(database: str, *arguments: object) -> Result:
    return CliRunner().invoke(cli, ["--database", database, *map(str, arguments)])


def test_ads_are_sent_acknowledged_in_portions(database: str, monkeypatch: pytest.MonkeyPatch):
    stand_in = SimpleNamespace(Collector=Pool, HTCondorException=htcondor2.HTCondorException)
    monkeypatch.setattr(site_ad_commands, "_bindings", lambda: stand_in)
    monkeypatch.setattr(site_ad_commands, "_SENT_AT_ONCE", 4)
    monkeypatch.setattr(Pool, "told", [])
    assert json.loads(run(database, "--format", "json", "publish", "cm", "--dry-run").stdout)["data"]["sent"] == 0
    assert Pool.told == []
    done = run(database, "--format", "json", "publish", "cm.example.org:9618")
    data = json.loads(done.stdout)["data"]
    assert (data["sent"], len(data["ads"])) == (6, 6)
    assert [(told[0], len(told[1]), *told[2:]) for told in Pool.told] == [
        ("cm.example.org:9618", 4, "UPDATE_AD_GENERIC", True),
        ("cm.example.org:9618", 2, "UPDATE_AD_GENERIC", True),
    ]
    ads = [ad for told in Pool.told for ad in told[1]]
    constraint = classad2.ExprTree('MyType == "ProbeSite" && CAN_GPU && CAN_GPU_NODES > 0')
    assert sorted(ad["Name"] for ad in ads if constraint.eval(ad) is True) == ["Site-0", "Site-1", "Site-2"]


def test_a_file_has_the_ads_for_condor_advertise(database: str, tmp_path: Path):
    assert run(database, "export", "ads", tmp_path / "sites.ads", "--of", "sites").exit_code == 0
    text = (tmp_path / "sites.ads").read_text(encoding="utf-8")
    assert [ad["Name"] for ad in classad2.parseAds(text)] == ["Site-0", "Site-1", "Site-2"]
    assert len(list(classad2.parseAds(run(database, "export", "ads", "-").stdout))) == 6


def test_a_pool_that_does_not_answer_is_told_in_words(database: str):
    """The real bindings, against a port where nothing listens."""
    done = run(database, "publish", "127.0.0.1:1")
    assert done.exit_code == 1
    assert "The collector of pool 127.0.0.1:1 did not take the ads" in done.output


def test_without_the_bindings_the_way_without_them_is_told(database: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "htcondor2", None)
    done = run(database, "publish", "cm.example.org")
    assert done.exit_code == 1
    assert "site-db export ads FILE" in " ".join(done.output.split())
