"""`site-db export parquet|csv|json` and `retention`, as programs: files, answers, wrong use."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from reports.cli import cli
from site_db.history_rows import FIELDS, REPORT_FIELDS
from site_db.store import Store, Submission
from tests.sample_reports import sample_report

NOW = datetime.now(UTC).replace(hour=0, minute=0, second=1)
FORMULA = '=cmd|"/c calc"!A0'
Run = Callable[..., Result]


def days_ago(days: int) -> date:
    return (NOW - timedelta(days=days)).date()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The program over a database with reports of three days, the newest of each node among them."""
    url = f"sqlite:///{tmp_path / 'site.db'}"
    store = Store.open(url)
    for days in (200, 100, 0):
        for node in (1, 2):
            made = NOW - timedelta(days=days)
            report = sample_report(created_at=made.strftime("%Y-%m-%dT%H:%M:%SZ"), host__machine_id=f"{node:032x}")
            report["glidein"]["resource"] = FORMULA
            report["gpus"]["driver_version"] = None
            store.add([Submission(report, json.dumps(report).encode(), made)])
    store.close()

    def invoke(*arguments: object, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(cli, ["--database", url, *map(str, arguments)])
        assert result.exit_code == exit_code, result.output
        return result

    return invoke


def data_of(result: Result) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(result.stdout)["data"]
    return data


def test_history_leaves_the_database_after_it_is_exported(run: Run, tmp_path: Path):
    history = tmp_path / "history"
    told = data_of(run("--format", "json", "export", "parquet", history))
    assert [Path(file["file"]).parent.name for file in told["written"]] == [f"day={days_ago(n)}" for n in (200, 100, 0)]
    assert [file["reports"] for file in told["written"]] == [2, 2, 2]
    assert data_of(run("--format", "json", "export", "parquet", history))["written"] == []
    wanted = ("retention", "--keep-history-days", 95, "--keep-raw-days", 95, "--exported", history)
    planned = data_of(run("--format", "json", *wanted, "--dry-run"))
    done = data_of(run("--format", "json", *wanted))
    assert planned | {"dry_run": False, "before": done["before"]} == done
    assert (done["dropped"], done["history_dropped"], done["history_unexported"]) == (4, 4, 0)
    assert "2 exported days before" in run("retention", "--keep-parquet-days", 99, "--exported", history).output
    assert data_of(run("--format", "json", "export", "parquet", history))["written"] == []
    assert sorted(path.name for path in history.glob("day=*")) == [f"day={days_ago(0)}"]


def test_csv_has_no_formulas_and_nothing_for_what_is_not_known(run: Run, tmp_path: Path):
    file = tmp_path / "history.csv"
    run("export", "csv", file, "--since", days_ago(150), "--until", days_ago(50))
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["resource"] for row in rows] == ["'" + FORMULA] * 2
    assert {row["created_at"] for row in rows} == {f"{days_ago(100)}T00:00:01Z"}
    assert {(row["gpu_driver_version"], row["singularity_usable"], row["gpu_devices"]) for row in rows} == {("", "true", "0")}
    assert list(rows[0])[: len(REPORT_FIELDS)] == [field.name for field in REPORT_FIELDS]


def test_json_has_a_line_for_each_report(run: Run, tmp_path: Path):
    lines = [json.loads(line) for line in run("export", "json", "-").stdout.splitlines()]
    assert len(lines) == 6
    assert list(lines[0]) == [field.name for field in FIELDS]
    assert (lines[0]["gpu_driver_version"], lines[0]["gpu_models"]) == (None, [])
    assert {"capability": "singularity", "works": True, "reason": None} in lines[0]["answers"]
    taken = tmp_path / "taken"
    taken.mkdir()
    assert "Error" in run("export", "json", taken, exit_code=2).output


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "Give --keep-raw-days"),
        (("--keep-history-days", 90, "--unexported"), "more than 90"),
        (("--keep-history-days", 91), "--exported FOLDER and --unexported"),
        (("--keep-history-days", 91, "--unexported", "--exported", "x"), "--exported FOLDER and --unexported"),
        (("--keep-parquet-days", 10), "needs --exported"),
        (("--keep-history-days", 100, "--keep-parquet-days", 99, "--exported", "x"), "would go first"),
    ],
)
def test_what_would_lose_history_is_wrong_use(run: Run, options: tuple[object, ...], told: str):
    assert told in " ".join(run("retention", *options, exit_code=2).output.split())


def test_history_goes_unexported_when_told(run: Run):
    told = run("retention", "--keep-history-days", 31, "--report-age-limit-days", 30, "--unexported").output
    assert "4 reports made before" in told


def test_a_folder_that_is_no_history_is_refused(run: Run, tmp_path: Path):
    told = run("retention", "--keep-parquet-days", 10, "--exported", tmp_path, exit_code=1).output
    assert "no folder that site-db export parquet made" in told
    assert "since is after" in run("export", "csv", "-", "--since", "2026-02-01", "--until", "2026-01-01", exit_code=2).output


def test_every_column_is_documented_with_its_type():
    text = (Path(__file__).parents[2] / "docs/history.md").read_text(encoding="utf-8")
    kinds = {"text": "VARCHAR", "texts": "VARCHAR[]", "time": "TIMESTAMP", "bool": "BOOLEAN", "integer": "BIGINT"}
    missing = [f.name for f in FIELDS if f"| `{f.name}` | {kinds.get(f.kind, 'list of structs')}" not in text]
    assert missing == []
