"""Functions in children that can be abandoned, with functions that behave badly."""
# ruff: noqa: ANN001, ANN401 - the rows of a table give the types of its test's arguments

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from probe import workers
from tests.probe.in_a_child import is_alive, wait_for


@pytest.fixture(autouse=True)
def no_child_left():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    wait_for(lambda: {child.pid for child in psutil.Process().children(recursive=True)} <= before)


def results(limit_s: float, **functions: Any) -> dict[str, workers.Result]:
    pool = workers.Pool()
    for name, function in functions.items():
        pool.start(name, limit_s, function)
    return dict(pool.wait(float("inf")))


def one(function: Any, limit_s: float = 10) -> workers.Result:
    return results(limit_s, it=function)["it"]


def hang() -> None:
    while True:
        signal.pause()


def test_the_last_value_is_the_result():
    def work() -> Iterator[Any]:
        yield {"a": 1}
        yield {"a": [2, None, "ä"]}

    assert one(work)[:4] == ("done", {"a": [2, None, "ä"]}, "", None)


def test_a_value_larger_than_any_pipe_arrives_whole():
    assert one(lambda: iter(["x" * 5_000_000])).value == "x" * 5_000_000


def test_what_was_yielded_before_the_limit_is_kept():
    def work() -> Iterator[Any]:
        yield "first"
        yield "second"
        hang()

    result = one(work, 1.5)
    assert result[:4] == ("timeout", "second", "", None)
    assert 1.5 <= result.duration_s < 8


def test_a_worker_that_only_hangs_has_no_value():
    result = one(lambda: iter([hang()]), 0.2)
    assert (result.state, result.value, result.left_running) == ("timeout", None, False)


def test_an_exception_is_told_with_its_place():
    def work() -> Iterator[Any]:
        yield 1
        raise KeyError("lost")

    result = one(work)
    assert (result.state, result.value, result.errno) == ("died", 1, None)
    assert "KeyError: 'lost'" in result.detail
    assert Path(__file__).name in result.detail


def test_an_error_of_the_system_is_told_by_errno(tmp_path: Path):
    result = one(lambda: iter([os.listdir(tmp_path / "no")]))  # noqa: PTH208 - any call that fails will do
    assert (result.state, result.errno) == ("died", errno.ENOENT)
    assert os.strerror(errno.ENOENT) in result.detail


@pytest.mark.parametrize(
    ("end", "detail"),
    [
        (lambda: os._exit(0), "ended without an answer"),
        (lambda: os._exit(3), "ended without an answer"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "signal 9"),
        (lambda: os.kill(os.getpid(), signal.SIGUSR1), "signal 10"),
    ],
)
def test_a_worker_that_ends_without_a_word_died(end, detail: str):
    assert one(lambda: iter([end()]))[:3] == ("died", None, detail)


def test_a_worker_that_is_killed_after_a_value_died_and_the_value_is_kept():
    def work() -> Iterator[Any]:
        yield "so far"
        os.kill(os.getpid(), signal.SIGKILL)

    assert one(work)[:3] == ("died", "so far", "signal 9")


def test_a_worker_that_exits_half_way_is_not_taken_as_done():
    """A library that calls exit() in the middle must not make a first answer the last."""

    def work() -> Iterator[Any]:
        yield "so far"
        os._exit(1)

    assert one(work).state == "died"


@pytest.mark.parametrize("end", [SystemExit(0), KeyboardInterrupt(), MemoryError()])
def test_no_exception_gets_away(end: BaseException):
    def work() -> Iterator[Any]:
        yield 1
        raise end

    assert one(work).state == "died"


def test_a_value_that_is_no_json_is_an_error():
    result = one(lambda: iter([{1, 2}]))
    assert result.state == "died"
    assert "TypeError" in result.detail


@pytest.mark.parametrize("last", ["end", "hang", "raise"])
def test_grandchildren_are_gone_after_the_end(tmp_path: Path, last: str):
    def work() -> Iterator[Any]:
        script = "echo $$ >pid.part; mv pid.part pid; sleep 100"
        child = subprocess.Popen(["setsid", "sh", "-c", script], cwd=tmp_path)
        wait_for((tmp_path / "pid").exists)
        yield child.pid
        if last == "hang":
            hang()
        if last == "raise":
            raise OSError(errno.EIO, "x")

    result = one(work, 1 if last == "hang" else 10)
    assert result.state == {"end": "done", "hang": "timeout", "raise": "died"}[last]
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(pid))


def test_workers_run_side_by_side_and_each_has_its_own_limit():
    started = time.monotonic()
    found = results(1.5, **{f"w{number}": lambda: iter([hang()]) for number in range(8)}, quick=lambda: iter([1]))
    assert {result.state for name, result in found.items() if name != "quick"} == {"timeout"}
    assert found["quick"].state == "done"
    assert time.monotonic() - started < 8


def test_the_quick_are_told_while_the_slow_still_run():
    pool = workers.Pool()
    pool.start("slow", 10, lambda: iter([hang()]))
    pool.start("quick", 10, lambda: iter([1]))
    name, result = next(pool.wait(float("inf")))
    assert (name, result.state, len(pool)) == ("quick", "done", 1)
    assert pool.abandon()["slow"].state == "timeout"


def test_waiting_ends_at_its_time_and_abandoning_keeps_what_was_said():
    def work() -> Iterator[Any]:
        yield "so far"
        hang()

    pool = workers.Pool()
    pool.start("it", 100, work)
    started = time.monotonic()
    assert list(pool.wait(started + 0.3)) == []
    assert 0.25 < time.monotonic() - started < 8
    assert pool.abandon()["it"][:2] == ("timeout", "so far")
    assert len(pool) == 0


def test_the_wake_descriptor_ends_waiting_at_once():
    read_end, write_end = os.pipe()
    pool = workers.Pool(wake=read_end)
    pool.start("it", 100, lambda: iter([hang()]))
    os.write(write_end, b"x")
    started = time.monotonic()
    assert list(pool.wait(started + 20)) == []
    assert time.monotonic() - started < 8
    pool.abandon()
    os.close(read_end)
    os.close(write_end)


def test_a_worker_gets_signals_as_usual():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert one(lambda: iter([os.kill(os.getpid(), signal.SIGTERM)])).detail == "signal 15"
    finally:
        signal.signal(signal.SIGTERM, before)


def test_calls_run_no_more_than_so_many_at_once_and_all_are_answered():
    def count(number: int) -> int:
        return number * 2

    found = workers.call_all(10, {str(number): [count, number] for number in range(20)}, 3)
    assert {name: result.value for name, result in found.items()} == {str(number): number * 2 for number in range(20)}


def test_each_call_has_its_limit_from_its_own_start():
    def short(number: int) -> int:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.pause()
        return number

    found = workers.call_all(0.6, {str(number): [short, number] for number in range(8)}, 1)
    assert [result.state for result in found.values()] == ["done"] * 8


def test_one_hung_call_among_many_costs_one_limit():
    calls: dict[str, list[Any]] = {str(number): [abs, -number] for number in range(5)}
    found = workers.call_all(0.3, {"hung": [hang], **calls}, 2)
    assert {name: result.state for name, result in found.items()} == {"hung": "timeout", **dict.fromkeys(calls, "done")}


def test_no_call_is_no_result():
    assert workers.call_all(1, {}, 4) == {}


def test_no_descriptor_is_lost():
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path.iterdir keeps one open meanwhile
    results(0.1, good=lambda: iter([1]), bad=lambda: iter([hang()]), dead=lambda: iter([os._exit(1)]))
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - as above


def test_a_worker_holds_none_of_our_streams():
    """One that cannot be killed would keep the reader of our stdout waiting: a glidein's wrapper, a pipe."""
    streams = one(lambda: iter([[os.readlink(f"/proc/self/fd/{number}") for number in range(3)]])).value  # noqa: PTH115 - short
    assert streams == ["/dev/null"] * 3
