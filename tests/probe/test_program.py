"""The command as people and glideins call it: a program, from the source tree and as the built single file."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from jsonschema import Draft202012Validator

from tests.probe.in_a_child import is_alive, wait_for
from tests.probe.samples import ROOT, SCHEMA
from tests.sample_reports import CASES, sample_report

VALIDATOR = Draft202012Validator(SCHEMA)
QUICK = ["--only", "host"]


@pytest.fixture(scope="session")
def single_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "singularity-probe"
    subprocess.run([ROOT / "scripts/build-probe", "--output", path], check=True, capture_output=True, timeout=120)
    return path


@pytest.fixture(params=["module", "single file"])
def program(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "module":
        return [sys.executable, "-m", "probe"]
    return [str(request.getfixturevalue("single_file"))]


@pytest.fixture
def module() -> list[str]:
    return [sys.executable, "-m", "probe"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A PATH without any Singularity, a home and a folder for temporary files of this test's own."""
    for name in ("home", "tmp", "bin"):
        (tmp_path / name).mkdir()
    return {
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def call(
    command: Sequence[str | Path], environment: dict[str, str], cwd: Path | str = "/", stdin: str = "", **changes: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**environment, **changes}, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60
    )


def report_of(answer: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON document on stdout, valid against the schema."""
    report = json.loads(answer.stdout)
    assert answer.stdout.count("\n") == 1
    assert errors_of(report) == []
    return report


def errors_of(report: object) -> list[str]:
    return [f"{error.json_path}: {error.message[:300]}" for error in VALIDATOR.iter_errors(report)]


def assert_wrong_use(answer: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 2, nothing on stdout, one clear line on stderr."""
    assert (answer.returncode, answer.stdout) == (2, ""), answer.stderr
    assert "Traceback" not in answer.stderr
    line = answer.stderr.splitlines()[-1]
    assert all(character.isprintable() for character in line)
    for word in words:
        assert word in line, answer.stderr


def fake_runtime(folder: Path, body: str) -> Path:
    """An `apptainer` that tells its version and does whatever the body says else."""
    path = folder / "apptainer"
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && {{ echo apptainer version 1.4.5; exit 0; }}\n{body}\n')
    path.chmod(0o755)
    return path


# --- run ---


def test_a_run_gives_one_json_report_and_says_nothing_else(
    program: list[str], environment: dict[str, str], tmp_path: Path
):
    answer = call([*program, "run"], environment)
    report = report_of(answer)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (report["complete"], report["probe"]["trigger"]) == (True, "manual")
    assert (report["singularity"]["usable"], report["singularity"]["reason"]) == (False, "runtime_not_found")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bin", "home", "tmp"]


def test_a_run_reads_nothing_from_stdin(program: list[str], environment: dict[str, str]):
    """A glidein's stdin is its list of scripts still to run."""
    script = f"{shlex.join(program)} run --only host >/dev/null; cat"
    assert call(["sh", "-c", script], environment, stdin="next script\n").stdout == "next script\n"


@pytest.mark.parametrize("form", ["text", "classad"])
def test_other_forms(program: list[str], environment: dict[str, str], form: str):
    answer = call([*program, "run", "--format", form, *QUICK], environment)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout
    if form == "classad":
        classad2 = pytest.importorskip("classad2")
        assert "PROBE_VERSION" in classad2.parseOne(answer.stdout)


def test_version_and_help(program: list[str], environment: dict[str, str]):
    from probe.version import VERSION

    assert call([*program, "--version"], environment).stdout == f"singularity-probe {VERSION}\n"
    for command in (["--help"], ["run", "--help"], ["explain", "--help"]):
        answer = call([*program, *command], environment)
        assert (answer.returncode, answer.stderr) == (0, "")
        assert "usage: singularity-probe" in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["run", "explain"]),
        (["nonsense"], ["nonsense"]),
        (["run", "--nonsense"], ["--nonsense"]),
        (["run", "--format", "xml"], ["xml", "json"]),
        (["run", "--deadline", "soon"], ["--deadline", "soon"]),
        (["run", "--deadline", "0"], ["--deadline", "1 to 3600"]),
        (["run", "--deadline", "nan"], ["--deadline", "1 to 3600"]),
        (["run", "--only", "hosts"], ["'hosts'", "host", "singularity"]),
        (["run", "--skip", "hosts"], ["'hosts'"]),
        (["run", *QUICK, "--require", "nonsense"], ["nonsense", "sif", "cvmfs:NAME"]),
        (["run", "--config", "/no/such/file"], ["/no/such/file", "No such file"]),
        (["run", "--config", "/"], ["/: ", "Is a directory"]),
        (["run", "--deadline"], ["--deadline"]),
    ],
)
def test_wrong_use_is_told_in_a_line(
    module: list[str], environment: dict[str, str], arguments: list[str], words: list[str]
):
    assert_wrong_use(call([*module, *arguments], environment), *words)


@pytest.mark.parametrize(
    ("required", "code"),
    [("user_namespaces", 1), ("singularity", 1), ("sandbox,sif", 1), ("cvmfs:a.example", 1), (" , ", 0)],
)
def test_a_capability_that_is_not_ok_gives_exit_code_1_and_the_report_all_the_same(
    module: list[str], environment: dict[str, str], required: str, code: int
):
    answer = call([*module, "run", *QUICK, "--require", required], environment)
    report_of(answer)
    assert answer.returncode == code
    assert ("required and not ok" in answer.stderr) == (code == 1)


def test_a_capability_that_is_ok_gives_exit_code_0(module: list[str], environment: dict[str, str]):
    shown = report_of(call([*module, "run", "--only", "namespaces"], environment))
    if shown["namespaces"]["user"]["status"] != "ok":
        pytest.skip("no user namespaces on this machine")
    assert call([*module, "run", "--only", "namespaces", "--require", "user_namespaces"], environment).returncode == 0


def test_detectors_that_were_left_out_say_so(module: list[str], environment: dict[str, str]):
    only = report_of(call([*module, "run", "--only", "host"], environment))
    assert only["host"]["hostname"]
    assert (only["singularity"]["usable"], only["singularity"]["reason"]) == (None, "not_requested")
    assert only["namespaces"]["user"]["status"] == "skipped"
    skipped = report_of(call([*module, "run", "--skip", "host,namespaces"], environment))
    assert (skipped["host"]["hostname"], skipped["namespaces"]["user"]["reason"]) == (None, "not_requested")


def test_a_config_file_with_carriage_returns_works(module: list[str], environment: dict[str, str], tmp_path: Path):
    config = tmp_path / "config"
    config.write_bytes(
        b"\xef\xbb\xbf# comment\r\nPROBE_ONLY host\r\nPROBE_DEADLINE 33\r\nGLIDEIN_Entry_Name E 1\r\n\r\n"
    )
    answer = call([*module, "run", "--config", str(config)], environment)
    report = report_of(answer)
    assert (report["deadline_s"], report["glidein"]["entry"], answer.stderr) == (33, "E 1", "")


def test_a_wrong_value_in_a_config_file_names_file_line_name_and_remedy(
    module: list[str], environment: dict[str, str], tmp_path: Path
):
    (tmp_path / "config").write_bytes(b"PROBE_ONLY host\r\nPROBE_DEADLINE soon\r\n")
    answer = call([*module, "run", "--config", str(tmp_path / "config")], environment)
    assert_wrong_use(answer, f"{tmp_path}/config:2", "PROBE_DEADLINE", "'soon'", "a number of seconds from 1 to 3600")


def test_a_misspelt_name_is_a_warning_and_the_report_is_made(
    module: list[str], environment: dict[str, str], tmp_path: Path
):
    (tmp_path / "config").write_text("PROBE_ONLY host\nPROBE_DEADLIME 5\n")
    answer = call([*module, "run", "--config", str(tmp_path / "config")], environment)
    report_of(answer)
    assert answer.returncode == 0
    assert "warning: " in answer.stderr
    assert "PROBE_DEADLIME" in answer.stderr


def test_a_config_file_that_is_no_text_is_no_crash(module: list[str], environment: dict[str, str], tmp_path: Path):
    (tmp_path / "config").write_bytes(bytes(range(256)) * 1000)
    answer = call([*module, "run", *QUICK, "--config", str(tmp_path / "config")], environment)
    assert "Traceback" not in answer.stderr
    report_of(answer)


def test_the_report_is_written_to_a_file_whole(module: list[str], environment: dict[str, str], tmp_path: Path):
    answer = call([*module, "run", *QUICK, "--output", str(tmp_path / "report")], environment)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")
    assert errors_of(json.loads((tmp_path / "report").read_text())) == []
    assert not list(tmp_path.glob("*.part"))


def test_an_output_that_is_no_file_stays_what_it_is(module: list[str], environment: dict[str, str], tmp_path: Path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    subprocess.run([*module, "run", "--only", "network", "--output", str(pipe)], env=environment, check=True)
    assert json.loads(reader.communicate(timeout=30)[0])["schema_version"] == "1.0"
    assert pipe.is_fifo()



@pytest.mark.parametrize("place", ["no/such/folder/report", "home"])
def test_an_output_that_cannot_be_written_is_exit_code_3(
    module: list[str], environment: dict[str, str], tmp_path: Path, place: str
):
    answer = call([*module, "run", *QUICK, "--output", str(tmp_path / place)], environment)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert str(tmp_path / place) in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_stdout_that_takes_nothing_is_exit_code_3(module: list[str], environment: dict[str, str], redirection: str):
    script = f"exec {shlex.join(module)} run --only host {redirection}"
    answer = call(["sh", "-c", script], environment)
    assert "Traceback" not in answer.stderr
    assert answer.returncode == 3


@pytest.mark.parametrize("redirection", ["<&-", "2>&-", "<&- 2>&-"])
def test_closed_standard_streams_do_no_harm(module: list[str], environment: dict[str, str], redirection: str):
    report_of(call(["sh", "-c", f"exec {shlex.join(module)} run {redirection}"], environment))


def test_a_reader_that_goes_away_is_no_traceback(module: list[str], environment: dict[str, str]):
    answer = call(["sh", "-c", f"{shlex.join(module)} run --only host | true"], environment)
    assert answer.stderr == ""


def test_a_report_that_cannot_be_delivered_is_kept_and_the_exit_code_is_0(
    module: list[str], environment: dict[str, str], tmp_path: Path
):
    command = [*module, "run", *QUICK, "--collector", "http://127.0.0.1:1", "--spool", str(tmp_path / "spool")]
    answer = call(command, environment)
    report = report_of(answer)
    assert answer.returncode == 0
    assert {(row["way"], row["status"]) for row in report["delivery"][:-1]} == {("http", "fail")}
    assert (report["delivery"][-1]["way"], report["delivery"][-1]["status"]) == ("spool", "ok")
    kept = json.loads((tmp_path / "spool" / (report["report_id"] + ".json")).read_text())
    assert errors_of(kept) == []
    assert "not delivered" in answer.stderr
    assert str(tmp_path / "spool") in answer.stderr


LONG = "x" * 5000
HOSTILE = [
    (["--cvmfs-repo", "x" * 300], {}),
    (["--cvmfs-repo", "a\nb\x1b[31m\u202e"], {}),
    ([word for number in range(300) for word in ("--cvmfs-repo", f"r{number}.example")], {}),
    (["--image", "/" + LONG], {}),
    (["--image", "docker://" + "y" * 3000], {}),
    (["--cvmfs-mount-dir", "/" + LONG], {}),
    (["--singularity", "/" + LONG], {}),
    (["--singularity", "no\x1b[31m"], {}),
    (["--site", LONG, "--entry", "\udcff\x00"[:1]], {}),
    ([word for number in range(40) for word in ("--network-target", f"127.0.0.1:{number}")], {}),
    (["--network-target", "nonsense", "--network-target", "127.0.0.1:99999999", "--network-target", ":"], {}),
    ([], {"HOME": "/" + LONG}),
    ([], {"HOME": ""}),
    ([], {"TMPDIR": "/" + "z" * 600}),
    ([], {"http_proxy": "http://u:p@" + LONG}),
    ([], {"PATH": LONG}),
    ([], {"CUDA_VISIBLE_DEVICES": LONG}),
    ([], {"GLIDEIN_SINGULARITY_OPTS": "--x " * 5000}),
    ([], {"X509_USER_PROXY": "/no/such", "BEARER_TOKEN_FILE": "/no/such"}),
    ([], {"SINGULARITY_BIN": LONG, "GLIDEIN_SINGULARITY_BINARY_OVERRIDE": LONG}),
    ([], {"GLIDEIN_Site": LONG}),
]


@pytest.mark.parametrize(("arguments", "changes"), HOSTILE, ids=range(len(HOSTILE)))
def test_whatever_is_asked_for_the_report_fits_the_schema(
    module: list[str], environment: dict[str, str], tmp_path: Path, arguments: list[str], changes: dict[str, str]
):
    fake_runtime(tmp_path / "bin", "exit 1")
    answer = call([*module, "run", "--skip", "namespaces", *arguments], {"PYTHONUTF8": "1", **environment}, **changes)
    assert "Traceback" not in answer.stderr
    if answer.returncode == 2:
        assert_wrong_use(answer)
    else:
        report_of(answer)


def test_a_deep_folder_for_temporary_files_fits_the_schema(
    module: list[str], environment: dict[str, str], tmp_path: Path
):
    """Ids of checks hold paths, and the schema bounds them."""
    deep = tmp_path / "/".join(["d" * 200] * 4)
    deep.mkdir(parents=True)
    (deep / "bin").mkdir()
    fake_runtime(deep / "bin", "exit 1")
    report_of(call([*module, "run"], environment, cwd=deep, TMPDIR=str(deep), PATH=f"{deep}/bin:/usr/bin:/bin"))


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("echo 'FATAL:   while x: no space left on device' >&2; exit 255", "fail", "scratch_full"),
        ("exit 0", "fail", "runtime_wrong_output"),
        ("kill -SEGV $$", "fail", "runtime_crashed"),
        ("yes; exit 1", "fail", "runtime_failed"),
        (r"printf '\377\376\000\033[31m' >&2; exit 1", "fail", "runtime_failed"),
    ],
)
def test_a_runtime_that_behaves_badly_is_told_with_a_reason(
    module: list[str], environment: dict[str, str], tmp_path: Path, body: str, status: str, reason: str
):
    fake_runtime(tmp_path / "bin", body if not body.startswith("yes") else "yes | head -c 3000000; exit 1")
    report = report_of(call([*module, "run"], environment))
    found = next(row for row in report["checks"] if row["id"] == "singularity")
    assert (report["singularity"]["usable"], found["status"], found["reason"]) == (False, status, reason)
    assert list((tmp_path / "tmp").iterdir()) == []


# --- the end of a run ---


HANG = "trap '' TERM INT HUP; echo $$ >>{}/pids; setsid sleep 1000 & sleep 1000; sleep 1000"


def left_of(tmp_path: Path) -> list[int]:
    """Processes that have this test's folder in their environment: ours and no others."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(tmp_path / "tmp") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:  # gone meanwhile
            pass
    return found


@pytest.fixture
def hanging(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[list[str]], "subprocess.Popen[str]"]]:
    """Starts a run with an apptainer that hangs for good, and returns when it hangs."""
    fake_runtime(tmp_path / "bin", HANG.format(tmp_path))

    def start(program: list[str]) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*program, "run"], env=environment, cwd="/", text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        wait_for((tmp_path / "pids").exists)
        return process

    yield start
    for pid in left_of(tmp_path):  # what a failed test left
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_gives_a_partial_report_soon_and_leaves_nothing(
    program: list[str], hanging: Callable[[list[str]], "subprocess.Popen[str]"], tmp_path: Path, number: int
):
    process = hanging(program)
    family = psutil.Process(process.pid).children(recursive=True)
    started = time.monotonic()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert time.monotonic() - started < 8
    report = json.loads(stdout)
    assert errors_of(report) == []
    assert (process.returncode, report["complete"], "Traceback" in stderr) == (0, False, False)
    assert report["host"]["hostname"]
    assert "probe_interrupted" in {row["reason"] for row in report["checks"]}
    wait_for(lambda: not [child.pid for child in family if is_alive(child.pid)])
    wait_for(lambda: not left_of(tmp_path))
    assert list((tmp_path / "tmp").iterdir()) == []


def test_killing_the_program_leaves_none_of_its_children(
    program: list[str], hanging: Callable[[list[str]], "subprocess.Popen[str]"], tmp_path: Path
):
    """The startd sends SIGKILL to the main process only; what descends from it must not outlive it."""
    process = hanging(program)
    process.kill()
    process.communicate(timeout=20)
    wait_for(lambda: not left_of(tmp_path))


@pytest.mark.usefixtures("hanging")
def test_a_hang_ends_at_the_deadline_with_the_rest_of_the_report(
    module: list[str], environment: dict[str, str], tmp_path: Path
):
    started = time.monotonic()
    answer = call([*module, "run", "--deadline", "2"], environment)
    assert time.monotonic() - started < 8
    report = report_of(answer)
    assert (answer.returncode, report["complete"]) == (0, False)
    assert report["singularity"]["usable"] is not True
    assert report["host"]["hostname"]
    wait_for(lambda: not left_of(tmp_path))
    assert list((tmp_path / "tmp").iterdir()) == []


# --- explain ---


def explained(program: list[str], environment: dict[str, str], report: str, tmp_path: Path):
    (tmp_path / "report.json").write_text(report)
    return call([*program, "explain", str(tmp_path / "report.json")], environment)


@pytest.mark.parametrize("case", CASES)
def test_explain_tells_a_report(module: list[str], environment: dict[str, str], tmp_path: Path, case: str):
    answer = explained(module, environment, json.dumps(sample_report(case)), tmp_path)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert sample_report(case)["host"]["hostname"] in answer.stdout


def test_explain_takes_what_run_gives(program: list[str], environment: dict[str, str]):
    script = f"{shlex.join(program)} run | {shlex.join(program)} explain -"
    answer = call(["sh", "-c", script], environment)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "containers do not work" in answer.stdout


GOOD = json.dumps(sample_report("healthy"))
BROKEN = {
    "empty": "",
    "truncated": GOOD[: len(GOOD) // 2],
    "text": "hello\n",
    "list": "[]",
    "number": "5",
    "string": '"singularity host checks"',
    "null": "null",
    "empty object": "{}",
    "older": GOOD.replace('"schema_version": "1.0"', '"schema_version": "0.9"'),
    "newer": GOOD.replace('"schema_version": "1.0"', '"schema_version": "2.0"'),
    "no version": GOOD.replace('"schema_version": "1.0", ', ""),
    "deep": "[" * 100000,
    "two": GOOD + "\n" + GOOD,
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_report_is_told_in_a_line(module: list[str], environment: dict[str, str], tmp_path: Path, case: str):
    answer = explained(module, environment, BROKEN[case], tmp_path)
    assert_wrong_use(answer, f"{tmp_path}/report.json")
    assert len(answer.stderr.splitlines()) == 1


@pytest.mark.parametrize("case", ["empty", "truncated", "newer"])
def test_what_is_no_report_is_told_of_a_pipe_too(program: list[str], environment: dict[str, str], case: str):
    assert_wrong_use(call([*program, "explain"], environment, stdin=BROKEN[case]), "standard input")


WRONG_SHAPES = [
    ("host", None),
    ("host", "x"),
    ("singularity", {}),
    ("singularity", [{}]),
    ("checks", 5),
    ("checks", [{}]),
]


@pytest.mark.parametrize(("part", "value"), WRONG_SHAPES)
def test_a_report_with_a_part_of_a_wrong_shape_is_told_in_a_line(
    module: list[str], environment: dict[str, str], part: str, value: object
):
    report = json.dumps({**sample_report("healthy"), part: value})
    assert_wrong_use(call([*module, "explain"], environment, stdin=report), "standard input", "schema version 1.0")


def test_a_hostile_report_does_no_harm_to_the_terminal(module: list[str], environment: dict[str, str]):
    hostile = "\x1b]0;owned\x07\x1b[2J\r\u202e\u2066\x9b31m"
    report = sample_report("no_userns", host__hostname=hostile, singularity__reason=hostile, singularity__mode=hostile)
    for row in report["checks"]:
        row.update(id=hostile, message=hostile, reason=row["reason"] and hostile)
    answer = call([*module, "explain"], {"PYTHONUTF8": "1", **environment}, stdin=json.dumps(report))
    assert answer.returncode == 0
    assert all(character.isprintable() or character == "\n" for character in answer.stdout)


def test_text_that_the_terminal_cannot_show_is_no_crash(module: list[str], environment: dict[str, str]):
    report = sample_report("healthy", host__hostname="né-日本")
    answer = call([*module, "explain"], environment, stdin=json.dumps(report), PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.parametrize("path", ["/no/such/report.json", "/"])
def test_a_report_that_cannot_be_read_is_told_in_a_line(module: list[str], environment: dict[str, str], path: str):
    assert_wrong_use(call([*module, "explain", path], environment), path)
