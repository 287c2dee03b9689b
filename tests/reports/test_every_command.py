"""Every command in every form: one envelope, CSV without formulas, Markdown; the terminal; completion."""

import csv
import io
import json
import os
import pty
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from reports.cli import COMMANDS as LAZY
from reports.cli import cli
from reports.version import VERSION
from tests.sample_reports import check, image, sample_report
from tests.site_db.factory_files import ENTRY, SITE, write_factory

PROGRAM = [sys.executable, "-c", "from reports.cli import main; main()"]
IMAGE = "/cvmfs/singularity.opensciencegrid.org/htc/rocky:9"
NODE = f"{1:032x}"
FORMULA = '=cmd|"/c calc"!A0'


class Case(NamedTuple):
    """One command: its words, what follows them (`{folder}` is a folder with the files below), its exit code."""

    words: str
    arguments: str = ""
    exit_code: int = 0
    stdin: bytes = b""


def made(case: str = "pid_masked", **changes: object) -> dict[str, Any]:
    when = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return sample_report(case, created_at=when, **changes)


REFUSED = b'{"schema_version": "1.0", "=1+1": "\x1b[2J"}'
CASES = [
    Case("ingest", "{folder}/report.json - --rejects {folder}/rejects", 1, REFUSED),
    Case("harvest logs", "{folder}/logs --state {folder}/state.db"),
    Case("harvest ads", "{folder}/ads.txt"),
    Case("sites"),
    Case("site", SITE),
    Case("entry", ENTRY),
    Case("node", NODE),
    Case("why", f"{ENTRY} singularity"),
    Case("gpus"),
    Case("changes", "--since 7d"),
    Case("entries import", "{folder}/10.xml"),
    Case("entries list"),
    Case("entries list", "--unjoined"),
    Case("entries check", "--fail-on never"),
    Case("entries propose", ENTRY),
    Case("entries apply", "{folder}/10.xml --min-confidence low"),
    Case("entries forget", "{folder}/10.xml"),
    Case("images import", "{folder}/docker_images.txt"),
    Case("images add", f"{IMAGE} --declare arch=x86_64"),
    Case("images inspect", "{folder}/image"),
    Case("images list"),
    Case("images match", IMAGE),
    Case("images pick", f"* --site {SITE}"),
    Case("images matrix"),
    Case("images requirements", IMAGE),
    Case("token keys add", "factory.example.org --keys {folder}/keys"),
    Case("token keys list", "--keys {folder}/keys"),
    Case(
        "token issue", f"{ENTRY} --factory factory.example.org --keys {{folder}}/keys --audience https://c.example.org"
    ),
    Case("token keys retire", "factory.example.org first --keys {folder}/keys"),
    Case("export site", "{folder}/pages"),
    Case("export page", f"{{folder}}/page.html --site {SITE}"),
    Case("export parquet", "{folder}/history"),
    Case("export csv", "{folder}/history.csv"),
    Case("export json", "{folder}/history.ndjson"),
    Case("export ads", "{folder}/sites.ads"),
    Case("publish", "cm.example.org --dry-run"),
    Case("migrate"),
    Case("retention", "--keep-raw-days 1000"),
    Case("backup", "{folder}/copy.db"),
    Case("restore", "{folder}/kept.db"),
    Case("doctor"),
    Case("completion", "bash"),
]
# What has no answer to render, and why.
WITHOUT_ANSWER = {"serve": "runs until it is stopped", "worker": "runs until it is stopped"}

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SITE_DB_DATABASE", f"sqlite:///{tmp_path / 'site.db'}")
    monkeypatch.delenv("COLUMNS", raising=False)

    def invoke(*arguments: object, stdin: bytes = b"") -> Result:
        result = CliRunner().invoke(cli, [str(item) for item in arguments], input=stdin, prog_name="site-db")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """A folder with all files of CASES, and a database with reports, one of them hostile to spreadsheets."""
    hostile = made(host__machine_id="f" * 32, host__hostname=FORMULA, images=[image(FORMULA, "fail", "image_missing")])
    hostile["glidein"].update(entry=FORMULA, site=FORMULA, resource=FORMULA, factory=FORMULA)
    hostile["singularity"]["modes"]["unprivileged"] = check("x", "fail", "proc_masked", FORMULA)
    stored = [made(host__machine_id=NODE), hostile]
    assert run("ingest", "-", stdin=b"\n".join(map(orjson.dumps, stored))).exit_code == 0
    folder = tmp_path / "files"
    (folder / "logs").mkdir(parents=True)
    (folder / "image" / "bin").mkdir(parents=True)
    (folder / "report.json").write_bytes(orjson.dumps(made("healthy")))
    (folder / "ads.txt").write_bytes(b'Name = "slot1@wn1"\n')
    (folder / "docker_images.txt").write_text("htc/rocky:9\n", encoding="utf-8")
    write_factory(folder, {ENTRY: {"GLIDEIN_SINGULARITY_REQUIRE": "REQUIRED"}})
    assert run("backup", folder / "kept.db").exit_code == 0
    return folder


def leaves(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*words, name))
        else:
            yield " ".join((*words, name))


def answers(run: Run, folder: Path, output_format: str) -> Iterator[tuple[Case, Result]]:
    run("entries", "import", folder / "10.xml")
    for case in CASES:
        arguments = case.arguments.format(folder=folder).split()
        if case.words == "token keys add":
            arguments += ["--kid", "first"]
        result = run(*case.words.split(), *arguments, "--format", output_format, stdin=case.stdin)
        assert result.exit_code == case.exit_code, (case, result.output)
        yield case, result


def test_every_command_is_walked():
    cli.load_all()
    assert set(leaves(cli)) == {case.words for case in CASES} | set(WITHOUT_ANSWER)


@pytest.mark.parametrize("name", LAZY)
def test_the_list_of_commands_says_what_each_says_itself(name: str):
    cli.load_all()
    assert cli.commands[name].get_short_help_str(200) == LAZY[name].short_help


def test_every_json_answer_has_one_envelope_in_ascii(run: Run, folder: Path):
    for case, result in answers(run, folder, "json"):
        envelope = json.loads(result.stdout)
        assert list(envelope) == ["command", "version", "generated_at", "data"], case
        assert (envelope["command"], envelope["version"]) == (case.words, VERSION)
        assert datetime.fromisoformat(envelope["generated_at"]).tzinfo is not None
        assert isinstance(envelope["data"], (dict, list)), case
        assert result.stdout.isascii()
        assert all(line.isprintable() for line in result.stdout.split("\n"))


def test_every_csv_answer_is_one_table_without_formulas(run: Run, folder: Path):
    met = 0
    for case, result in answers(run, folder, "csv"):
        header, *rows = csv.reader(io.StringIO(result.stdout))
        assert header, case
        assert all(len(row) == len(header) for row in rows), case
        assert not [cell for row in [header, *rows] for cell in row if cell.lstrip()[:1] in tuple("=+-@")], case
        met += "'=cmd" in result.stdout
    assert met >= 3


@pytest.mark.parametrize("output_format", ["text", "markdown"])
def test_every_answer_for_people_prints(run: Run, folder: Path, output_format: str):
    for case, result in answers(run, folder, output_format):
        assert (result.stdout + result.stderr).strip(), case
        assert all(line.isprintable() for line in (result.stdout + result.stderr).split("\n")), case


# --- the terminal ---


def on_a_terminal(arguments: list[str], **variables: str) -> str:
    """What a program writes on a terminal of 80 columns, stderr as well."""
    master, slave = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "TERM")}
    environment.update({"TERM": "xterm-256color", "COLUMNS": "80", **variables})
    with subprocess.Popen([*PROGRAM, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
        os.close(slave)
        told = b""
        while piece := _read(master):
            told += piece
        assert process.wait(30) == 0, told
    os.close(master)
    return told.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # EIO: the other end is closed, Linux's way to say that it is over
        return b""


COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def test_colours_are_for_terminals_and_no_color_is_respected(run: Run, folder: Path):
    assert folder.exists()
    coloured = on_a_terminal(["site", SITE])
    assert "\x1b[1;31mno" in coloured
    plain = on_a_terminal(["site", SITE], NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)
    assert "\x1b" not in on_a_terminal(["site", SITE], TERM="dumb")
    assert "\x1b" not in run("site", SITE).stdout
    assert max(len(COLOUR.sub("", line)) for line in coloured.splitlines()) <= 80


def test_long_work_shows_its_progress_on_a_terminal_only(folder: Path, run: Run):
    watched = on_a_terminal(["ingest", str(folder / "report.json")])
    assert "0:00:0" in watched
    assert "new, " in watched
    piped = run("ingest", folder / "report.json")
    assert (piped.stderr, piped.stdout.count("new")) == ("", 1)


# --- start-up ---


def test_help_imports_no_database_and_no_tables():
    """Measured: 0.15 s of processor time, against 1.9 s with every command imported."""
    heavy = ("sqlalchemy", "alembic", "rich", "requests", "starlette", "jsonschema", "prometheus_client")
    program = f"import sys; import reports.cli; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Commands:" in told.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4


# --- completion ---

COMPLETE = r"""
eval "$(site-db completion bash)"
complete -p site-db >&2
while read -r line; do
    COMP_WORDS=($line) COMPREPLY=()
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _site_db_completion site-db
    printf '%s:' "${COMPREPLY[@]}"
    echo
done
"""
COMPLETED = {
    "site-db en": ["entries", "entry"],
    "site-db --format m": ["markdown"],
    "site-db why --da": ["--database"],
    "site-db token keys re": ["retire"],
}


def test_bash_completes_commands_options_and_their_values(tmp_path: Path):
    program = tmp_path / "site-db"
    program.write_text(f'#!/bin/sh\nexec {PROGRAM[0]} -c "{PROGRAM[2]}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    told = subprocess.run(
        ["bash", "-c", COMPLETE],
        input="\n".join(COMPLETED) + "\n",
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert [line.split(":")[:-1] for line in told.stdout.splitlines()] == list(COMPLETED.values())
    assert "-F _site_db_completion site-db" in told.stderr


@pytest.mark.parametrize(("shell", "sign"), [("zsh", "#compdef site-db"), ("fish", "complete --no-files")])
def test_other_shells_have_a_script(run: Run, shell: str, sign: str):
    assert sign in run("completion", shell).stdout
