"""One report by HTTP, as a block in a glidein's log, and in a machine ad: the same document, stored once."""

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from probe import packing
from probe.report import to_json
from reports.cli import cli
from reports.collector import create_app
from reports.harvest_ads import ads_in_text, reports_of
from reports.harvest_logs import LogHarvest
from reports.harvest_state import HarvestState
from reports.reading import Found
from site_db.store import Store
from tests.reports.conftest import RunServer
from tests.reports.test_log_text import section
from tests.sample_reports import sample_report

SEND = """
import json, sys
from probe import delivery
from probe.settings import combine
report = json.load(sys.stdin)
settings = combine("manual", {"collector": sys.argv[1]}, {}, None, "", {})
delivery.deliver(settings, report, {"no_proxy": "*", "HOME": "/nonexistent"})
print(report["delivery"][-1]["message"])
"""
WAYS = ("http", "log", "ad")


@pytest.mark.parametrize("first", WAYS)
def test_the_same_report_over_three_ways_is_stored_once(
    first: str, tmp_path: Path, run_server: RunServer, monkeypatch: pytest.MonkeyPatch
):
    report = sample_report("healthy", created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    url = f"sqlite:///{tmp_path / 'site.db'}"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "job.1.0.err").write_bytes(section(gzip.compress(packing.block(report).encode())))
    (tmp_path / "ads").write_text(f'Name = "slot1@wn"\nPROBE_REPORT = "{packing.attribute(report)}"\n')

    def by_http() -> str:
        """As a node sends it: by the probe's own client, in a process of its own."""
        store = Store.open(url)
        with run_server(create_app(store)) as address:
            ended = subprocess.run(
                [sys.executable, "-c", SEND, address], input=to_json(report), check=True, capture_output=True, text=True
            )
        store.close()
        return {"stored": "new", "known already": "known"}[ended.stdout.strip()]

    def by_command(*arguments: str) -> str:
        result = CliRunner().invoke(cli, ["--database", url, "--format", "json", "harvest", *arguments])
        data = json.loads(result.stdout)["data"]
        assert data["new"] + data["known"] == 1, data
        return "new" if data["new"] else "known"

    ways = {
        "http": by_http,
        "log": lambda: by_command("logs", str(logs)),
        "ad": lambda: by_command("ads", str(tmp_path / "ads")),
    }
    order = [first, *(way for way in WAYS if way != first)]
    assert [ways[way]() for way in order] == ["new", "known", "known"]

    store = Store.open(url)
    raw = store.raw_report(bytes.fromhex(report["report_id"].replace("-", "")))
    store.close()
    assert raw is not None
    assert orjson.loads(raw) == report


def test_what_comes_out_of_a_log_and_an_ad_is_what_http_sends_byte_by_byte(tmp_path: Path):
    report = sample_report("healthy")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/job.out").write_text(packing.block(report))
    (tmp_path / "ads").write_text(f'GLIDEIN_PS_PROBE_REPORT = "{packing.attribute(report)}"\n')
    state = HarvestState(tmp_path / "state")
    found = list(LogHarvest(tmp_path / "logs", state).items())
    state.close()
    with (tmp_path / "ads").open("rb") as source:
        found += reports_of(ads_in_text("ads", source))
    assert [item.raw for item in found if isinstance(item, Found)] == [to_json(report).encode()] * 2
