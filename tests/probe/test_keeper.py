"""The child beside a run: what it sends, whom it lets in, and that it never outlives the run."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from probe import command_line, memory
from probe.keeper import FOLDER, NONCE, Keeper, own_folder
from tests.probe.samples import settings
from tests.sample_reports import sample_report

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "glidein_config"
    path.write_bytes(b"A caf\xe9\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "remembered"
    path.mkdir(mode=0o700)
    return path


def remember(folder: Path, *words: str) -> None:
    (folder / "launch").write_text("\0".join(words))


def gone(pid: int, within_s: float = 5.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_it_sends_the_files_and_one_run_has_the_lock(config: Path, folder: Path):
    first = Keeper(str(folder), str(config), False)
    assert first.receive("lock", 5) == b"held"
    second = Keeper(str(folder), str(config), True)
    assert (second.receive("lock", 5), second.receive("config", 5)) == (b"busy", b"A caf\xe9\n")
    assert first.receive("config", 5) == b"A caf\xe9\n"
    assert first.receive("memory", 5) == "No such file or directory"
    first.release()
    second.release()


def test_the_remembered_start_runs_with_this_runs_folder_and_a_new_nonce(config: Path, folder: Path):
    remember(folder, "/bin/echo", FOLDER, NONCE)
    keeper = Keeper(str(folder), str(config), True)
    message = keeper.receive("start", 5)
    assert isinstance(message, bytes)
    status, _seconds, nonce = message.split(b"\n")[0].decode().split()
    assert status == "0"
    assert message.split(b"\n")[1].decode() == f"{Path.cwd()}:/srv {nonce}"
    keeper.release()
    assert not (folder / "started").exists()


def test_the_remembered_start_has_the_environment_that_trial_starts_have(
    config: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in command_line.CLEARED:
        monkeypatch.setenv(name, "/no/such/folder" if name != "LD_PRELOAD" else "")
    command = "/bin/apptainer exec --home /w:/srv --pwd /srv IMAGE cat /proc/self/uid_map"
    report = sample_report("healthy", singularity__command=command)
    words = memory.launch_words(report, "/state/image", command_line.changes(settings()))
    assert words is not None
    binary = next(number for number, word in enumerate(words) if word.startswith("/"))
    remember(folder, *words[:binary], "/usr/bin/env")
    keeper = Keeper(str(folder), str(config), True)
    message = keeper.receive("start", 5)
    assert isinstance(message, bytes)
    told = dict(line.split("=", 1) for line in message.decode().splitlines() if "=" in line)
    assert {name: told.get(name) for name in command_line.CLEARED} == command_line.CLEARED
    keeper.release()


@pytest.mark.parametrize("words", [(), ("/no/such/program",), ("", ""), ("/bin/sh", "-c", "exit 3")])
def test_a_start_that_does_not_work_is_told(config: Path, folder: Path, words: tuple[str, ...]):
    if words:
        remember(folder, *words)
    keeper = Keeper(str(folder), str(config), True)
    message = keeper.receive("start", 5)
    assert isinstance(message, bytes)
    assert message.split()[0] != b"0"
    keeper.release()


def test_what_it_started_ends_with_the_run_however_that_ends(config: Path, folder: Path):
    remember(folder, "/bin/sleep", "1000")
    run = os.fork()
    if run == 0:
        Keeper(str(folder), str(config), True).receive("memory", 5)
        signal.pause()
    until = time.monotonic() + 10
    while not (folder / "started").exists() or not (folder / "started").read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    pid = int((folder / "started").read_text().split()[0])
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    assert gone(pid)


def test_no_start_joins_one_that_still_hangs(config: Path, folder: Path):
    remember(folder, "/bin/echo", NONCE)
    birth = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    (folder / "started").write_text(f"{os.getpid()} {birth}")
    keeper = Keeper(str(folder), str(config), True)
    message = keeper.receive("start", 5)
    assert isinstance(message, bytes)
    assert message.startswith(b"none ")
    keeper.release()


@pytest.mark.parametrize("left", [1, 2])
def test_without_a_process_to_be_had_a_run_ends_well_and_once(tmp_path: Path, left: int):
    # The first fork fails, or that of the child in the middle.
    program = f"""
import os, sys
from probe import cli
real, left = os.fork, {left}
def fork():
    global left
    left -= 1
    if left == 0:
        raise BlockingIOError(11, "no process left")
    return real()
os.fork = fork
code = cli.main(["{tmp_path}/glidein_config", "main"])
print("ended", code, flush=True)
"""
    (tmp_path / "glidein_config").write_text("X y\n")
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "ended 0\n")
    assert "Traceback" not in ended.stderr
    assert ("no process left" if left == 1 else "does not answer") in ended.stderr


def test_what_the_start_leaves_in_the_home_is_removed_unless_it_is_in_use(
    config: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    home = tmp_path / "home"
    (home / ".singularity").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    script = 'mkdir -p "$HOME/.apptainer" "$HOME/.singularity"; echo "started $0"'
    remember(folder, "/bin/sh", "-c", script, NONCE)
    for in_use in (False, True):
        if in_use:
            remember(folder, "/bin/sh", "-c", script + '; : >"$HOME/.apptainer/file"', NONCE)
        keeper = Keeper(str(folder), str(config), True)
        message = keeper.receive("start", 5)
        assert isinstance(message, bytes)
        assert message.split(b"\n")[1].startswith(b"started ")
        assert (home / ".apptainer").exists() is in_use
        keeper.release()
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # when the child has ended
    assert (home / ".singularity").exists()


def test_what_the_run_leaves_there_after_the_start_is_removed_at_its_end(
    config: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    remember(folder, "/bin/echo", NONCE)
    keeper = Keeper(str(folder), str(config), True)
    assert keeper.receive("start", 5)
    (tmp_path / ".apptainer").mkdir()
    keeper.release()
    with (folder / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
    assert not (tmp_path / ".apptainer").exists()


def test_a_folder_that_others_can_reach_is_not_ours(tmp_path: Path):
    assert own_folder(str(tmp_path / "new"))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o750)
    assert not own_folder(str(tmp_path / "open"))
    (tmp_path / "link").symlink_to(tmp_path / "new")
    assert not own_folder(str(tmp_path / "link"))
    os.chown(tmp_path / "new", 1, -1)
    assert not own_folder(str(tmp_path / "new"))
