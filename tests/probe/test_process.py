"""The bounded runner, on real programs that behave badly."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from probe import process, stuck
from tests.probe.in_a_child import in_a_child, is_alive, wait_for
from tests.probe.samples import ROOT

ENVIRONMENT = {"PATH": os.environ["PATH"]}


@pytest.fixture(autouse=True)
def no_child_left():
    """Whatever a program did, nothing of it stays."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    wait_for(lambda: {child.pid for child in psutil.Process().children(recursive=True)} <= before)


def run(*command: str, limit_s: float = 10, folder: str | None = None, **changes: str) -> process.Outcome:
    return process.run(list(command), limit_s, {**ENVIRONMENT, **changes}, folder)


def shell(script: str, limit_s: float = 10, **changes: str) -> process.Outcome:
    return run("sh", "-c", script, limit_s=limit_s, **changes)


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_an_exit_code_is_told(code: int):
    outcome = shell(f"echo out; echo err >&2; exit {code}")
    assert outcome[:6] == ("exited", code, None, None, "out\n", "err\n")
    assert outcome.succeeded == (code == 0)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE])
def test_a_signal_is_told(number: int):
    outcome = shell(f"kill -{int(number)} $$")
    assert (outcome.state, outcome.exit_code, outcome.signal, outcome.succeeded) == ("exited", None, number, False)


def test_a_hanging_program_is_killed_at_its_limit_and_what_it_said_before_is_kept():
    outcome = shell("echo before; sleep 100", limit_s=1.5)
    assert (outcome.state, outcome.stdout, outcome.left_running) == ("timeout", "before\n", False)
    assert 1.5 <= outcome.duration_s < 8


def test_a_program_is_killed_even_before_it_has_a_session_of_its_own():
    """A limit of nothing strikes between fork and setsid: there is no group yet to be killed."""
    outcomes = [run("sleep", "100", limit_s=0) for _ in range(5)]
    assert {(outcome.state, outcome.left_running) for outcome in outcomes} == {("timeout", False)}


def test_a_flood_of_output_is_cut_and_does_not_stop_the_program():
    outcome = shell("yes | head -c 20000000; yes err | head -c 1000000 >&2; exit 3")
    assert (outcome.exit_code, len(outcome.stdout), len(outcome.stderr)) == (3, 65536, 65536)


def test_an_endless_flood_ends_at_the_limit():
    outcome = run("yes", limit_s=1.5)
    assert (outcome.state, len(outcome.stdout)) == ("timeout", 65536)
    assert outcome.duration_s < 8


def test_output_that_is_no_utf_8_is_replaced():
    assert shell(r"printf '\377\376ok'").stdout == "\ufffd\ufffdok"


def test_output_is_whole_when_it_just_fits():
    assert shell("head -c 65536 /dev/zero | tr '\\0' x").stdout == "x" * 65536


def test_a_grandchild_that_holds_the_pipes_does_not_hold_us(tmp_path: Path):
    outcome = shell(f"sleep 100 & echo $! >{tmp_path}/pid; echo done", limit_s=20)
    assert (outcome.state, outcome.exit_code, outcome.stdout) == ("exited", 0, "done\n")
    assert outcome.duration_s < 15
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(pid))


def test_processes_that_a_program_left_without_waiting_for_them_are_counted():
    def scenario() -> list[int]:
        from probe import kernel

        kernel.adopt_orphans()
        left = "sh -c 'sh -c exit & sh -c exit & exec true'; sleep 0.2"  # true has children, and knows nothing of them
        return [outcome.defunct for outcome in process.run_each(programs("exit 0", left, "sleep 0.1 & wait"), 10, 3)]

    assert in_a_child(scenario) == [0, 2, 0]


def test_a_program_that_closes_its_streams_is_waited_for():
    outcome = shell("exec >&- 2>&-; sleep 0.3; exit 5")
    assert (outcome.exit_code, outcome.duration_s >= 0.3) == (5, True)


def test_a_program_that_ignores_sigterm_and_forks_is_killed_with_its_children(tmp_path: Path):
    script = f"trap '' TERM INT HUP; sleep 100 & echo $! >{tmp_path}/pid; while :; do sleep 100; done"
    outcome = shell(script, limit_s=1.5)
    assert outcome.state == "timeout"
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(pid))


def test_a_grandchild_in_a_session_of_its_own_is_found_among_our_descendants(tmp_path: Path):
    """setsid is how Singularity's instances and FUSE helpers leave their group; the probe's end has to find them."""

    def scenario() -> bool:
        from probe import kernel

        kernel.adopt_orphans()
        shell(f"setsid sleep 100 </dev/null >/dev/null 2>&1 & echo $! >{tmp_path}/pid")
        left = process.kill_descendants()
        return left == [] and process.descendants() == []

    assert in_a_child(scenario)
    assert not is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (Path.exists, errno.ENOENT),
        (lambda path: path.write_text("text"), errno.EACCES),
        (lambda path: path.mkdir(), errno.EACCES),
        (lambda path: (path.write_bytes(b"\x7fELF nonsense"), path.chmod(0o755)), errno.ENOEXEC),
        (lambda path: (path.write_text("#!/no/such/interpreter\n"), path.chmod(0o755)), errno.ENOENT),
    ],
    ids=["missing", "not executable", "folder", "wrong format", "no interpreter"],
)
def test_what_cannot_be_executed_is_told_by_errno(tmp_path: Path, make, error: int):
    make(tmp_path / "program")
    outcome = run(str(tmp_path / "program"))
    assert outcome[:4] == ("not_started", None, None, error)


def test_a_program_is_looked_up_on_the_path_of_its_environment(tmp_path: Path):
    (tmp_path / "hello").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "hello").chmod(0o755)
    assert run("hello", PATH=f"{tmp_path}:/bin").stdout == "hello\n"
    assert run("hello").state == "not_started"


@pytest.mark.parametrize("command", [["echo", "a\0b"], ["ec\0ho"]])
def test_a_nul_in_an_argument_is_an_error_of_the_start(command: list[str]):
    outcome = run(*command)
    assert (outcome.state, outcome.error) == ("not_started", errno.EINVAL)


def test_a_nul_or_a_lone_surrogate_in_the_environment_is_no_crash():
    assert run("env", X="a\0b").state == "not_started"
    assert shell('printf %s "$X" | od -An -tx1', X="\udcff").stdout.split() == ["ff"]
    assert run("env", X="\ud800").state == "not_started"


def test_the_environment_is_the_given_one():
    assert shell("echo ${A-none} ${HOME-none}", A="1").stdout == "1 none\n"


def test_the_folder_is_the_given_one_and_a_missing_one_is_an_error(tmp_path: Path):
    assert run("pwd", folder=str(tmp_path)).stdout == f"{tmp_path}\n"
    assert run("pwd", folder=str(tmp_path / "no"))[:4] == ("not_started", None, None, errno.ENOENT)


def test_standard_input_is_empty_and_the_session_is_its_own():
    assert shell("cat; wc -c </proc/self/fd/0").stdout == "0\n"
    outcome = (
        shell("ps -o sid= -p $$; echo $$") if shutil.which("ps") else shell("cut -d' ' -f6 /proc/$$/stat; echo $$")
    )
    assert len(set(outcome.stdout.split())) == 1


def test_signals_that_the_caller_ignores_work_in_the_program():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        outcome = shell("kill -TERM $$; echo survived")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (outcome.signal, outcome.stdout) == (signal.SIGTERM, "")


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-", "2>&-"])
def test_a_caller_whose_standard_streams_are_closed_gets_the_same(tmp_path: Path, closed: str):
    program = (
        "import json, sys; from probe import process\n"
        "outcome = process.run(['sh', '-c', 'cat; echo out; echo err >&2; exit 4'], 10, {'PATH': '/usr/bin:/bin'})\n"
        "open(sys.argv[1], 'w').write(json.dumps(list(outcome)))\n"
    )
    (tmp_path / "program.py").write_text(program)
    script = f'exec "$0" "$1" "$2" {closed}'
    command = ["sh", "-c", script, sys.executable, str(tmp_path / "program.py"), str(tmp_path / "answer")]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=30, check=True)
    assert json.loads((tmp_path / "answer").read_text())[:6] == ["exited", 4, None, None, "out\n", "err\n"]


def test_no_descriptor_is_lost():
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path.iterdir keeps one open meanwhile
    for command in (["true"], ["/no/such"], ["sleep", "100"]):
        process.run(command, 0.1, ENVIRONMENT)
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above


def test_no_descriptor_of_ours_reaches_the_program():
    """Those that our own caller let us inherit may: they are 10 and 251 where a job system runs the tests."""
    inherited = {name for name in os.listdir("/proc/self/fd") if is_inheritable(int(name))}  # noqa: PTH208 - as above
    with subprocess.Popen(["sleep", "100"], stdout=subprocess.PIPE) as other:
        names = set(shell("ls /proc/self/fd").stdout.split())
        other.kill()
    assert names - inherited - {"0", "1", "2"} == {"3"}  # the folder that ls lists


def is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:  # the listing's own, closed meanwhile
        return False


def test_state_and_parent_of_a_process():
    assert process.state_and_parent(os.getpid()) == ("R", os.getppid())
    assert process.state_and_parent(2**22 + 1) == ("", 0)


def test_reaping_what_is_not_ours_and_what_does_not_end():
    assert process.reap(1, 0) == 0
    child = os.fork()
    if child == 0:
        signal.pause()
    started = time.monotonic()
    assert process.reap(child, 0.05) is None
    assert time.monotonic() - started < 8
    process.kill(child)
    assert os.WTERMSIG(process.reap(child, 5) or 0) == signal.SIGKILL


def programs(*scripts: str) -> list[process.Program]:
    return [process.Program(["sh", "-c", script], ENVIRONMENT) for script in scripts]


def test_programs_side_by_side_each_have_their_own_outcome():
    outcomes = process.run_each(programs("echo one; exit 1", "sleep 100", "echo three >&2"), 0.5, 3)
    assert [(outcome.state, outcome.exit_code, outcome.stdout) for outcome in outcomes] == [
        ("exited", 1, "one\n"),
        ("timeout", None, ""),
        ("exited", 0, ""),
    ]
    assert outcomes[2].stderr == "three\n"


def test_no_more_programs_run_at_once_than_allowed_and_each_has_the_limit_from_its_own_start(tmp_path: Path):
    script = f"mkdir {tmp_path}/busy || exit 9; sleep 0.2; rmdir {tmp_path}/busy"
    outcomes = process.run_each(programs(*[script] * 3), 0.5, 1)
    assert [outcome.exit_code for outcome in outcomes] == [0, 0, 0]


def test_where_no_process_can_be_made_every_program_is_told_as_not_started(monkeypatch: pytest.MonkeyPatch):
    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, "fork", refuse)
    outcomes = process.run_each(programs("exit 0", "exit 0"), 5, 1)
    assert {(outcome.state, outcome.error) for outcome in outcomes} == {("not_started", errno.EAGAIN)}
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_program_carries_its_name_until_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What hangs on its way to the program is known by that name to a later run (see stuck)."""
    fifo = tmp_path / "fifo"  # the process waits in the kernel, as a hung mount would hold it
    os.mkfifo(fifo)
    seen: list[str] = []

    def look() -> None:
        with fifo.open("wb"):
            children = psutil.Process().children(recursive=True)
            seen.extend(Path(f"/proc/{child.pid}/comm").read_text().strip() for child in children)

    monkeypatch.setattr(os, "chdir", lambda _path: fifo.read_bytes())
    watcher = threading.Thread(target=look)
    watcher.start()
    outcome = process.run_each([process.Program(["true"], ENVIRONMENT, "a binary", "/")], 10, 1)[0]
    watcher.join()
    assert outcome.exit_code == 0
    assert seen == [stuck.name_of("a binary")]
