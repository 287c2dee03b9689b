import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import httpx
import orjson
import pytest
from click.testing import CliRunner, Result

from reports.cli import cli
from tests.sample_reports import CASES, sample_report

Run = Callable[..., Result]
HOSTILE = "\x1b[2J<b>&\u202e=cmd|' /C calc'!A0,\"x\"\r\n" + "n" * 100
ENTRY, SITE, NODE = "Example_T2_CE1", "Example-T2", "00000000000000000000000000000001"


def fresh(case: str = "healthy", **changes: object) -> dict[str, Any]:
    made = datetime.now(UTC) - timedelta(minutes=5)
    return sample_report(case, created_at=made.strftime("%Y-%m-%dT%H:%M:%SZ"), **changes)


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'site.db'}"


@pytest.fixture
def run(database: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SITE_DB_DATABASE", database)
    monkeypatch.delenv("COLUMNS", raising=False)

    def invoke(*arguments: object, stdin: bytes = b"") -> Result:
        result = CliRunner().invoke(cli, [str(item) for item in arguments], input=stdin, prog_name="site-db")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def filled(run: Run) -> Run:
    """A program whose database holds every sample, each on a node of its own, and a hostile one."""
    reports = [fresh(case, host__machine_id=f"{n:032x}", host__hostname=f"wn{n}") for n, case in enumerate(CASES, 1)]
    hostile = fresh("pid_masked", host__machine_id="f" * 32, host__hostname=HOSTILE, host__arch=HOSTILE)
    hostile["glidein"].update(entry=HOSTILE, site=HOSTILE, resource=HOSTILE, factory=HOSTILE)
    hostile["singularity"]["message"] = HOSTILE
    hostile["images"][0]["ref"] = HOSTILE
    batch = b"\n".join(orjson.dumps(report) for report in [*reports, hostile])
    assert run("ingest", "-", stdin=batch).exit_code == 0
    return run


READING = [
    ["sites"],
    ["site", SITE],
    ["entry", ENTRY],
    ["node", NODE],
    ["why", ENTRY, "singularity"],
    ["entries", "list"],
    ["entries", "propose", ENTRY],
    ["changes"],
    ["migrate"],
    ["doctor"],
]


def test_the_common_options_may_stand_before_and_after_the_command(filled: Run):
    before, after = (
        json.loads(filled(*words).stdout) for words in (["--format", "json", "sites"], ["sites", "--format", "json"])
    )
    assert before["data"]["sites"][0]["name"] == after["data"]["sites"][0]["name"]
    assert filled("--format", "json", "sites", "--format", "csv").stdout.startswith("site,")


@pytest.mark.parametrize("output_format", ["text", "csv", "json", "markdown"])
def test_no_character_of_a_report_steers_the_terminal(filled: Run, output_format: str):
    stored = json.loads(filled("--format", "json", "entries", "list").stdout)["data"]
    [name] = {item["name"] for item in stored} - {ENTRY}
    hostile = {SITE: name, ENTRY: name, NODE: "f" * 32}
    for command in READING:
        result = filled("--format", output_format, *(hostile.get(word, word) for word in command))
        assert result.exit_code == 0, result.output
        assert all(line.isprintable() for line in (result.stdout + result.stderr).split("\n")), command


def test_tables_fit_the_width(filled: Run, monkeypatch: pytest.MonkeyPatch):
    for columns in (40, 80, 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        for command in READING:
            assert max(map(len, filled(*command).stdout.split("\n"))) <= columns, command


def test_why_explains_with_evidence_and_remedy(filled: Run):
    told = " ".join(filled("why", ENTRY, "singularity").stdout.split())
    assert "proc_masked on 1 node" in told
    assert "The site can:" in told
    assert "The factory can:" in told
    assert "proc_masked: message: can't mount proc filesystem to /proc" in told


@pytest.mark.parametrize(("shape", "beginning"), [("xml", '      <entry name="'), ("yaml", '"Example_T2_CE1":')])
def test_a_fragment_stands_alone_on_stdout(filled: Run, shape: str, beginning: str):
    result = filled("entries", "propose", ENTRY, "--as", shape)
    assert result.stdout.startswith(beginning)
    assert result.stderr.count("note: No configuration of this entry was imported") == 1
    quiet = filled("entries", "propose", ENTRY, "--as", shape, "--no-notes")
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")
    data = json.loads(filled("--format", "json", "entries", "propose", ENTRY, "--as", shape).stdout)["data"]
    assert data["fragment"].strip() == result.stdout.strip()


@pytest.mark.parametrize(
    ("command", "remedy"),
    [
        (["site", "Example-T3"], "Did you mean: Example-T2?"),
        (["entry", "Example_T2_CE2"], "Did you mean: Example_T2_CE1?"),
        (["node", "nobody"], "hint:"),
        (["why", ENTRY, "singularty"], "Did you mean: singularity"),
        (["entries", "propose", "\x1b[2J\u202e"], "hint:"),
        (["--database", "sqlite:////dev/null/x.db", "sites"], "hint: Make the folder for this user"),
        (["--database", "no url", "sites"], "hint: Give a URL"),
        (["sites", "--database", "mysql://u:secret@h/d"], "only SQLite and PostgreSQL"),
    ],
)
def test_errors_say_where_and_what_to_do(filled: Run, command: list[str], remedy: str):
    result = filled(*command)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("site-db: ")
    assert remedy in result.stderr
    assert "secret" not in result.stderr
    assert all(line.isprintable() for line in result.stderr.split("\n"))


@pytest.mark.parametrize(
    "command",
    [["bogus"], ["sites", "extra"], ["--format", "yaml", "sites"], ["ingest"], ["serve", "--port", "70000"]],
    ids=" ".join,
)
def test_wrong_use_is_exit_code_2(run: Run, command: list[str]):
    assert run(*command).exit_code == 2


def test_a_database_of_a_newer_release_is_left_alone(filled: Run, tmp_path: Path):
    with sqlite3.connect(tmp_path / "site.db") as connection:
        connection.execute("UPDATE site_db_version SET version_num = '9999'")
    connection.close()
    for command in (["sites"], ["ingest", "-"], ["migrate"], ["serve", "--port", "0"]):
        result = filled(*command, stdin=orjson.dumps(fresh()))
        assert result.exit_code == 1
        assert "was written by a newer release" in result.stderr
        assert "Upgrade this program" in result.stderr
    examined = filled("doctor", "--format", "json")
    assert examined.exit_code == 1
    assert json.loads(examined.stdout)["data"][0]["status"] == "fail"


def test_ingest_counts_names_and_keeps(run: Run, tmp_path: Path):
    folder, rejects = tmp_path / "spool", tmp_path / "rejects"
    folder.mkdir()
    good = orjson.dumps(fresh())
    (folder / "good.json").write_bytes(good)
    (folder / "cut.json").write_bytes(good[:500])
    (folder / "empty.json").write_bytes(b"")
    (folder / "many.ndjson").write_bytes(b"\n".join([good, orjson.dumps(fresh()), b'{"schema_version": "2.0"}']))
    (folder / "big.json").write_bytes(b"x" * 5_000_000)
    first = run("ingest", folder, "--rejects", rejects)
    assert first.exit_code == 1
    assert "2 new, 1 known already, 4 refused" in first.stdout
    told = first.stdout.replace("\n", "")
    for place in ("cut.json", "empty.json", "many.ndjson:3", "big.json"):
        assert place in told.replace(" ", "")
    kept = {path.read_bytes()[:500] for path in rejects.glob("*.json")}
    assert kept == {good[:500], b'{"schema_version": "2.0"}', b"x" * 500}
    reasons = "".join(path.read_text() for path in rejects.glob("*.reason.txt"))
    assert f"{folder}/many.ndjson:3: /schema_version: this report is version" in reasons
    assert f"{folder}/empty.json: report: is empty" in reasons
    assert "only the first 4194304 bytes are kept here" in reasons
    again = run("ingest", folder, "--rejects", rejects, "--format", "json")
    data = json.loads(again.stdout)["data"]
    assert (data["new"], data["known"], len(data["rejected"])) == (0, 3, 4)
    assert len(list(rejects.iterdir())) == 7


def test_ingest_of_nothing_but_good_reports_is_exit_code_0(run: Run, tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_bytes(orjson.dumps(fresh(), option=orjson.OPT_INDENT_2))
    assert run("ingest", path).exit_code == 0
    assert list(csv.reader(io.StringIO(run("ingest", path, "--format", "csv").stdout))) == [
        ["place", "kind", "pointer", "problem"]
    ]


def test_a_rejects_folder_that_cannot_be_made_is_an_error_in_words(run: Run, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    result = run("ingest", "-", "--rejects", tmp_path / "file", stdin=b"{}")
    assert result.exit_code == 1
    assert "cannot keep a refused report" in result.stderr


def test_without_reports_a_hint_says_how_to_get_one(run: Run):
    assert "site-db ingest -" in run("sites").stdout
    assert "site-db ingest -" in run("entries", "list").stdout


def test_the_default_database_is_in_the_data_folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SITE_DB_DATABASE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert run("migrate").exit_code == 0
    assert (tmp_path / "data" / "site-db" / "site.db").exists()
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run("migrate").exit_code == 0
    assert (tmp_path / "home" / ".local" / "share" / "site-db" / "site.db").exists()
    monkeypatch.setenv("XDG_DATA_HOME", "/proc/nowhere")
    assert "Give --database URL" in run("sites").stderr


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


cli.load_all()
COMMANDS = list(commands(cli))


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_every_command_teaches_and_is_documented(run: Run, words: tuple[str, ...], command: click.Command):
    told = run(*words, "--help").stdout
    assert "Example" in told
    assert " ".join(words) in told.partition("Example")[2]
    documented = (Path(__file__).parents[2] / "docs" / "site-db.md").read_text(encoding="utf-8")
    section = documented.partition(f"## `site-db {' '.join(words)}")[2].partition("\n## ")[0]
    assert section, "no section in docs/site-db.md"
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else []:
            assert f"`{option}" in section or option in ("--format", "--database"), option


def test_common_options_and_exit_codes_are_documented():
    documented = (Path(__file__).parents[2] / "docs" / "site-db.md").read_text(encoding="utf-8")
    for word in ("`--database", "`--format", "SITE_DB_DATABASE", "Exit code"):
        assert word in documented


@contextmanager
def program_of(*arguments: str, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:  # noqa: ANN401 - Popen's
    command = [sys.executable, "-c", "from reports.cli import main; main()", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as program:
        try:
            yield program
        finally:
            program.kill()  # one that did not end as it should: nobody is to wait for it


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_when_it_is_ready_and_stops_on_a_signal(database: str, number: signal.Signals):
    with program_of("--database", database, "serve", "--port", "0") as server:
        assert server.stderr is not None
        line = server.stderr.readline().decode()
        assert line.startswith("listening on http://127.0.0.1:")
        url = line.split()[-1]
        headers = {"content-type": "application/json"}
        assert httpx.post(f"{url}/api/v1/reports", content=orjson.dumps(fresh()), headers=headers).status_code == 201
        page = httpx.get(url)
        assert "Example-T2" in page.text
        server.send_signal(number)
        assert server.wait(20) == 0
        assert server.stderr.read() == b""


def test_serve_beyond_this_machine_needs_open(run: Run):
    result = run("serve", "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "nothing says who may send" in result.stderr


def test_serve_on_a_port_in_use_is_an_error_in_words(run: Run, client: httpx.Client):
    port = str(client.base_url.port)
    result = run("serve", "--port", port)
    assert result.exit_code == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in result.stderr


def test_a_reader_that_goes_away_is_no_error(database: str):
    with program_of("--database", database, "doctor") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.wait(20)
        assert process.stderr.read() == b""


def test_a_poor_terminal_encoding_is_no_error(filled: Run, database: str):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    with program_of("--database", database, "sites", env=environment) as process:
        told, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b"")
    assert b"Example-T2" in told
    assert filled("sites").exit_code == 0
