"""The engine, with detectors that hang, crash and wait for each other. It kills all that descends from its process:
each run is made in a child of its own."""
# ruff: noqa: ANN001, ANN002, ANN202, ANN401 - detectors take and give what the engine's own types say

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probe import engine, look
from probe.checks import check
from probe.engine import Detector
from probe.host import Host
from tests.probe.in_a_child import Child, in_a_child, is_alive, wait_for
from tests.probe.samples import settings


def unknown(status: str, reason: str, message: str) -> dict[str, str]:
    return {"status": status, "reason": reason, "message": message}


def answer(data: Any) -> dict[str, Any]:
    return {"data": data, "checks": [check("own", "ok")]}


def detector(name: str, detect: Any, *needs: str) -> Detector:
    return Detector(name, detect, unknown, needs)


def quick(_host, _settings, earlier):
    yield answer({"earlier": earlier})


def hang(*_):
    while True:
        signal.pause()
    yield


def first_then_hang(*_):
    yield answer("first")
    yield answer("second")
    hang_in(None)


def hang_in(_):
    while True:
        signal.pause()


def crash(*_):
    yield answer("first")
    raise ValueError("wrong turn")


def say_nothing(*_):
    return iter(())


def run(detectors: list[Detector], deadline_s: float = 20.0, left_out: dict[str, Any] | None = None) -> dict[str, Any]:
    def work() -> dict[str, Any]:
        said: list[Any] = []
        started = time.monotonic()
        with engine.Interrupts() as interrupts:
            found = engine.run(
                Host({}), settings(deadline_s=deadline_s), detectors, interrupts, lambda *row: said.append(row), left_out
            )
        return {**found._asdict(), "progress": said, "took_s": time.monotonic() - started}

    return in_a_child(work)


def own_check(found: dict[str, Any], name: str) -> dict[str, Any]:
    """The engine's own check on a detector."""
    return next(row for row in found["findings"][name]["checks"] if row["id"] == "probe." + name)


def test_detectors_run_side_by_side_and_progress_is_told(tmp_path: Path):
    def meet(mine: str, others: list[str]):
        def detect(*_):
            (tmp_path / mine).touch()
            wait_for(lambda: all((tmp_path / other).exists() for other in others))
            yield answer(mine)

        return detect

    names = ["a", "b", "c"]
    found = run([detector(name, meet(name, names)) for name in names])
    assert {name: row["data"] for name, row in found["findings"].items()} == {name: name for name in names}
    assert (found["complete"], found["interrupted"], found["stuck"]) == (True, False, [])
    assert [row[1:] for row in found["progress"]] == [[1, 3], [2, 3], [3, 3]]


def test_a_detector_gets_the_data_of_those_that_it_needs_and_of_no_others():
    found = run([detector("a", quick), detector("b", quick), detector("c", quick, "a")])
    assert found["findings"]["c"]["data"] == {"earlier": {"a": {"earlier": {}}}}
    assert found["findings"]["b"]["data"] == {"earlier": {}}


def test_a_needed_detector_that_was_left_out_is_not_waited_for():
    found = run([detector("c", quick, "a")])
    assert found["findings"]["c"]["data"] == {"earlier": {}}


def test_a_crash_is_unknown_keeps_what_was_found_and_hides_nothing_else():
    found = run([detector("bad", crash), detector("after", quick, "bad"), detector("good", quick)])
    row = own_check(found, "bad")
    assert (row["status"], row["reason"]) == ("unknown", "probe_error")
    assert "ValueError: wrong turn" in row["message"]
    assert found["findings"]["bad"]["data"] == "first"
    assert found["findings"]["after"]["data"] == {"earlier": {"bad": "first"}}
    assert found["findings"]["good"]["state"] == "done"
    assert found["complete"] is True


@pytest.mark.parametrize("error", [OSError(errno.EAGAIN, "fork"), MemoryError(), OSError(errno.EMFILE, "open")])
def test_a_detector_that_a_limit_of_the_node_ends_fails_for_that(error: BaseException):
    def exhausted(*_: object) -> Iterator[object]:
        raise error
        yield

    found = run([detector("bad", exhausted)])
    row = own_check(found, "bad")
    assert (row["status"], row["reason"]) == ("fail", "resources_exhausted")
    assert found["findings"]["bad"]["data"]["reason"] == "resources_exhausted"


@pytest.mark.parametrize(
    "detect",
    [say_nothing, lambda *_: os.kill(os.getpid(), signal.SIGKILL), lambda *_: os._exit(0), lambda *_: iter([1 / 0])],
)
def test_a_detector_that_never_answered_gives_its_unknown(detect):
    found = run([detector("bad", detect)])
    assert found["findings"]["bad"]["data"]["status"] == "unknown"
    assert found["findings"]["bad"]["data"]["reason"] == "probe_error"
    assert own_check(found, "bad")["status"] == "unknown"


def test_a_hang_ends_at_the_deadline_and_what_was_yielded_last_is_kept():
    found = run([detector("slow", first_then_hang), detector("dead", hang), detector("good", quick)], deadline_s=1.5)
    assert found["took_s"] < 1.5
    assert found["complete"] is False
    assert found["findings"]["slow"]["data"] == "second"
    assert found["findings"]["dead"]["data"]["status"] == "timeout"
    for name in ("slow", "dead"):
        row = own_check(found, name)
        assert (row["status"], row["reason"]) == ("timeout", "deadline_reached")
    assert found["findings"]["good"]["state"] == "done"


def test_what_waits_for_a_hung_one_never_starts_and_says_so():
    found = run([detector("dead", hang), detector("waiting", quick, "dead")], deadline_s=1.0)
    assert found["findings"]["waiting"]["data"]["reason"] == "deadline_reached"
    assert own_check(found, "waiting")["status"] == "timeout"


def test_processes_of_a_hung_detector_are_gone(tmp_path: Path):
    def detect(*_):
        subprocess.Popen(
            ["setsid", "sh", "-c", f"echo $$ >{tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; sleep 100"]
        )
        hang_in(None)
        yield

    run([detector("dead", detect)], deadline_s=1.5)
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not is_alive(pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_run_at_once_with_what_was_found(tmp_path: Path, number: int):
    def detect(*_):
        yield answer("so far")
        (tmp_path / "running").touch()
        hang_in(None)

    def work() -> dict[str, Any]:
        with engine.Interrupts() as interrupts:
            detectors = [detector("slow", detect), detector("waiting", quick, "slow")]
            found = engine.run(Host({}), settings(), detectors, interrupts, lambda *_: None)
        return found._asdict()

    child = Child(work)
    wait_for((tmp_path / "running").exists)
    started = time.monotonic()
    child.signal(number)
    found = child.answer()
    assert time.monotonic() - started < 8
    assert (found["complete"], found["interrupted"]) == (False, True)
    assert found["findings"]["slow"]["data"] == "so far"
    assert {own_check(found, name)["reason"] for name in ("slow", "waiting")} == {"probe_interrupted"}


def test_a_signal_that_came_before_the_run_ends_it_at_once():
    def work() -> list[Any]:
        with engine.Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGTERM)
            started = time.monotonic()
            found = engine.run(Host({}), settings(), [detector("dead", hang)], interrupts, lambda *_: None)
        return [found.interrupted, time.monotonic() - started]

    interrupted, took_s = in_a_child(work)
    assert interrupted
    assert took_s < 2


def test_handlers_and_descriptors_are_as_before_after_a_run():
    def work() -> bool:
        handler = signal.getsignal(signal.SIGTERM)
        descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - Path.iterdir keeps one open meanwhile
        with engine.Interrupts() as interrupts:
            engine.run(
                Host({}),
                settings(deadline_s=1),
                [detector("a", quick), detector("b", hang)],
                interrupts,
                lambda *_: None,
            )
        now = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - as above
        return signal.getsignal(signal.SIGTERM) == handler and now == descriptors

    assert in_a_child(work)


TABLE = [detector("a", quick), detector("b", quick), detector("c", quick, "a"), detector("d", quick, "c", "b")]


@pytest.mark.parametrize(
    ("only", "skip", "names"),
    [
        ([], [], "abcd"),
        (["a"], [], "a"),
        (["c"], [], "ac"),
        (["d"], [], "abcd"),
        ([], ["d"], "abc"),
        (["d"], ["b"], "acd"),
        (["d"], ["c"], "bd"),
        (["a", "a"], ["a"], ""),
    ],
)
def test_selected_detectors_bring_those_that_they_need(only, skip, names):
    found, wrong = engine.selected(TABLE, only, skip)
    assert ([row.name for row in found], wrong) == (list(names), None)


@pytest.mark.parametrize(
    ("skip", "lost"),
    [
        ("places", {"runtimes", "first_start", "singularity", "cvmfs_inside", "images", "gpu_container"}),
        ("scratch", {"runtimes", "work_folder", "first_start", "singularity", "cvmfs_inside", "images", "gpu_container"}),
        ("runtimes", {"singularity", "cvmfs_inside", "images", "gpu_container"}),
        ("singularity", {"cvmfs_inside", "images", "gpu_container"}),
        ("namespaces", set()),
        ("first_start", set()),
        ("cvmfs", set()),
    ],
)
def test_what_is_vital_takes_with_it_what_says_nothing_without_it(skip, lost):
    from probe.registry import DETECTORS

    found, _ = engine.selected(DETECTORS, [], [skip])
    assert {row.name for row in DETECTORS} - {row.name for row in found} == {skip, *lost}


def test_what_does_not_run_is_unknown_to_those_that_need_it():
    found = run([detector("b", quick, "a", "z")], left_out={"a": "nothing", "c": 1})
    assert found["findings"]["b"]["data"] == {"earlier": {"a": "nothing"}}


@pytest.mark.parametrize("skip", ["namespaces", "cvmfs", "gpus", "images", "singularity", "scratch", "places", "runtimes"])
def test_nothing_fails_for_what_was_left_out(tmp_path, monkeypatch, skip):
    monkeypatch.setenv("PATH", str(tmp_path))
    given = settings(skip=[skip], singularity=None, images=[str(tmp_path)])
    report = in_a_child(lambda: look.report_of_node(given))
    assert [row["id"] for row in report["checks"] if row["reason"] == "probe_error"] == []
    decided = skip not in ("singularity", "scratch", "places", "runtimes")
    assert report["singularity"]["usable"] is (False if decided else None)


@pytest.mark.parametrize(("only", "skip", "wrong"), [(["x"], [], "x"), ([], ["y"], "y"), (["a", "z"], ["y"], "z")])
def test_a_name_that_no_detector_has_is_told(only, skip, wrong):
    assert engine.selected(TABLE, only, skip) == ([], wrong)


def test_the_registry_lists_needs_first_and_each_name_once():
    from probe.registry import DETECTORS

    names = [row.name for row in DETECTORS]
    assert len(set(names)) == len(names)
    for number, row in enumerate(DETECTORS):
        assert set(row.needs) <= set(names[:number])


@pytest.mark.parametrize(
    ("collector", "deadline_s", "kept_s"), [(None, 60.0, 0.5), ("https://c", 60.0, 4.5), ("https://c", 5.0, 1.5)]
)
def test_time_is_kept_for_composing_and_for_sending_where_a_collector_waits(
    collector: str | None, deadline_s: float, kept_s: float
):
    given = settings(deadline_s=deadline_s, collector=collector)
    assert engine.reserve(given) == pytest.approx(kept_s)
