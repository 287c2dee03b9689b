"""The commands `site-db entries ...` and the drift over HTTP."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import orjson
import pytest
from click.testing import CliRunner, Result

from reports.cli import cli
from site_db.configuration.importing import import_files
from site_db.store import Store
from tests.sample_reports import sample_report
from tests.site_db.factory_files import ENTRY, write_factory

Run = Callable[..., Result]
NO_PID = "SINGULARITY_DISABLE_PID_NAMESPACES"
REQUIRE = "GLIDEIN_SINGULARITY_REQUIRE"


def _reports(case: str, nodes: int) -> bytes:
    made = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return b"\n".join(
        orjson.dumps(sample_report(case, created_at=made, host__machine_id=f"{n:032x}")) for n in range(nodes)
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SITE_DB_DATABASE", f"sqlite:///{tmp_path / 'site.db'}")

    def invoke(*arguments: object, stdin: bytes = b"") -> Result:
        result = CliRunner().invoke(cli, [str(item) for item in arguments], input=stdin, prog_name="site-db")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return invoke


@pytest.fixture
def factory(run: Run, tmp_path: Path) -> Path:
    """A factory's file, imported, of an entry on whose nodes --pid fails."""
    path = write_factory(tmp_path, {ENTRY: {REQUIRE: "REQUIRED"}})
    assert run("ingest", "-", stdin=_reports("pid_masked", 8)).exit_code == 0
    assert run("entries", "import", path).exit_code == 0
    return path


def test_an_import_counts_and_names_what_vanished(run: Run, factory: Path):
    write_factory(factory.parent, {"New": {}})
    result = run("entries", "import", factory)
    assert "1 entries: 1 new, 0 changed, 1 vanished" in result.stdout
    assert ENTRY in result.stdout
    data = json.loads(run("--format", "json", "entries", "import", factory).stdout)["data"]
    assert data["files"][0]["entries"] == 1


def test_a_file_that_is_gone_is_forgotten_and_named(run: Run, factory: Path):
    factory.unlink()
    result = run("entries", "forget", factory)
    assert "1 vanished" in result.stdout
    assert f"{factory}" in result.stdout
    assert run("entries", "check").stdout.count("0 entries compared") == 1
    assert "imported file" in run("entries", "forget", factory.with_name("other.xml")).stderr


def test_a_broken_file_is_named_with_its_line(run: Run, tmp_path: Path):
    path = tmp_path / "bad.xml"
    path.write_text("<glidein>\n<entries>", encoding="utf-8")
    result = run("entries", "import", path)
    assert result.exit_code == 1
    assert f"{path}:2" in result.stderr
    assert "nothing was imported" in result.stderr


@pytest.mark.parametrize(("fail_on", "code"), [("error", 1), ("never", 0)])
def test_drift_decides_the_exit_code(run: Run, factory: Path, fail_on: str, code: int):
    result = run("entries", "check", "--fail-on", fail_on)
    assert result.exit_code == code
    assert "pid_switch_missing" in result.stdout
    rows = list(csv.DictReader(io.StringIO(run("--format", "csv", "entries", "check").stdout)))
    assert {(row["severity"], row["place"]) for row in rows} == {("error", f"{factory}:3")}


@pytest.mark.usefixtures("factory")
def test_the_drift_of_an_entry_that_is_not_configured_is_an_error(run: Run):
    result = run("entries", "check", ENTRY + "x")
    assert result.exit_code == 1
    assert f"Did you mean: {ENTRY}" in result.stderr


def test_unjoined_names_are_listed(run: Run, factory: Path):
    write_factory(factory.parent, {"Silent": {"GLIDEIN_ResourceName": "Elsewhere"}})
    run("entries", "import", factory)
    rows = list(csv.DictReader(io.StringIO(run("--format", "csv", "entries", "list", "--unjoined").stdout)))
    assert {(row["what"], row["name"]) for row in rows} == {("entry", "Silent"), ("report", ENTRY)}


def test_a_dry_run_shows_the_diff_and_changes_nothing(run: Run, factory: Path):
    before = factory.read_bytes()
    result = run("entries", "apply", factory)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == [f"--- a/{factory.name}", f"+++ b/{factory.name}"]
    assert [line for line in lines if line[:1] == "+" and NO_PID in line]
    assert "--write does it" in result.stderr
    assert factory.read_bytes() == before


def test_written_once_there_is_nothing_more_to_change(run: Run, factory: Path):
    before = factory.read_bytes()
    data = json.loads(run("--format", "json", "entries", "apply", factory, "--write").stdout)["data"]
    assert data["written"] is True
    assert Path(data["backup"]).read_bytes() == before
    after = factory.read_bytes()
    assert len(after.splitlines()) == len(before.splitlines()) + 1
    again = run("entries", "apply", factory, "--write")
    assert (again.stdout, factory.read_bytes()) == ("", after)
    assert "nothing to change" in again.stderr
    run("entries", "import", factory)
    assert run("entries", "check", "--fail-on", "error").stdout.count("pid_switch_missing") == 0


def test_a_file_that_cannot_be_read_is_an_error_in_words(run: Run, tmp_path: Path):
    result = run("entries", "apply", tmp_path / "none.xml")
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr


@pytest.mark.usefixtures("factory")
def test_a_proposal_shows_what_is_there_now(run: Run):
    data = json.loads(run("--format", "json", "entries", "propose", ENTRY).stdout)["data"]
    assert [(item["attribute"], item["present"], item["value"]) for item in data["proposals"]] == [(NO_PID, None, "1")]
    none = json.loads(run("--format", "json", "entries", "propose", ENTRY, "--min-confidence", "high").stdout)["data"]
    assert none["proposals"] == []


def test_drift_is_answered_over_http(client: httpx.Client, store: Store, tmp_path: Path):
    import_files(store, [write_factory(tmp_path, {ENTRY: {}, "Other": {}})], "", datetime.now(UTC))
    sent = client.post("/api/v1/reports", content=_reports("pid_masked", 2), headers={"content-type": "application/x-ndjson"})
    assert sent.status_code == 200
    answer = client.get("/api/v1/drift").json()
    assert {(item["entry"], item["rule"]) for item in answer["findings"]} == {
        (ENTRY, "pid_switch_missing"),
        ("Other", "pid_switch_missing"),
    }
    one = client.get("/api/v1/drift", params={"entry": ENTRY}).json()
    assert [item["entry"] for item in one["findings"]] == [ENTRY]
    assert client.get("/api/v1/drift", params={"entry": "nobody"}).status_code == 404
