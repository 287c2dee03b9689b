"""What hung in an earlier run is remembered by the kernel's process table."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import process, stuck, workers
from tests.probe.in_a_child import Child, in_a_child, wait_for


@given(st.text(st.characters(exclude_categories=[])))
def test_any_name_fits_the_kernels_fifteen_bytes(what: str):
    name = stuck.name_of(what)
    assert len(name.encode()) <= 15
    assert name.startswith(stuck.PREFIX)


def test_different_things_have_different_names():
    assert len({stuck.name_of(f"cvmfs.repository{number}.example") for number in range(1000)}) == 1000


def test_a_process_is_named_after_what_it_touches():
    def work() -> str:
        stuck.set_name("cvmfs.a.example")
        return Path("/proc/self/comm").read_text().strip()

    assert in_a_child(work) == stuck.name_of("cvmfs.a.example")


def test_a_process_that_was_not_killed_is_not_taken_for_stuck(tmp_path: Path):
    def work() -> None:
        stuck.set_name("cvmfs.a.example")
        (tmp_path / "there").touch()
        signal.sigwait([signal.SIGUSR1])

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    child = Child(work)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    wait_for((tmp_path / "there").exists)
    assert stuck.name_of("cvmfs.a.example") not in stuck.find()
    child.signal(signal.SIGUSR1)
    child.answer()


@pytest.mark.parametrize(
    ("pending", "uid", "killed"),
    [
        ("0000000000000100", os.getuid(), True),
        ("0000000000000000", os.getuid(), False),
        ("0000000000000100", 4711, False),
    ],
)
def test_killed_and_ours_is_read_from_the_status(monkeypatch: pytest.MonkeyPatch, pending: str, uid: int, killed: bool):
    """A process in uninterruptible sleep cannot be made here without a broken file system; its status can."""
    text = f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nSigPnd:\t{pending}\nShdPnd:\t0000000000000000\n"
    monkeypatch.setattr(stuck, "_read", lambda _path: text)
    assert stuck._was_killed("1") == killed


@pytest.mark.parametrize(("later", "names"), [(["1", "2"], {"sp!a", "sp!b"}), (["2"], {"sp!b"}), (["3"], set())])
def test_what_is_just_dying_does_not_hang(monkeypatch: pytest.MonkeyPatch, later: list[str], names: set[str]):
    """A run of another glidein on this node may come to its end while ours begins."""
    looks = iter([["1", "2"], later])
    monkeypatch.setattr(stuck, "DYING_S", 0.0)
    monkeypatch.setattr(stuck, "_own_processes", lambda: next(looks))
    monkeypatch.setattr(stuck, "_was_killed", lambda _pid: True)
    monkeypatch.setattr(stuck, "_read", lambda path: {"1": "sp!a", "2": "sp!b", "3": "sp!a"}[path.split("/")[2]] + "\n")
    assert stuck.find() == names


def test_what_hung_before_is_not_touched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(workers, "_stuck_since_earlier", {stuck.name_of("cvmfs.hung")})
    calls = {name: [os.mkdir, str(tmp_path / name)] for name in ("cvmfs.hung", "cvmfs.good")}
    found = workers.call_all(10, calls, 4)
    assert (found["cvmfs.hung"].state, found["cvmfs.hung"].left_running) == ("timeout", True)
    assert found["cvmfs.good"].state == "done"
    assert [path.name for path in tmp_path.iterdir()] == ["cvmfs.good"]


def test_without_a_proc_nothing_is_known_and_nothing_fails(monkeypatch: pytest.MonkeyPatch):
    def bare(_path: str) -> None:  # as in a chroot where nobody has mounted it
        raise FileNotFoundError(2, "No such file or directory", "/proc")

    monkeypatch.setattr("os.scandir", bare)
    monkeypatch.setattr("os.listdir", bare)
    assert (stuck.find(), process.descendants()) == (set(), [])
