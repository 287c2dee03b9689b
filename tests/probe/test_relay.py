"""Many calls in a few children: who hangs costs one process, and nobody waits for whom."""

import os
import time
from pathlib import Path

import pytest

from probe import relay, workers

LIMIT_S = 1.0


def note(path: str, text: str) -> str:
    """Leaves a line of the process that was here; appended at once, whoever else does."""
    with Path(path).open("a", encoding="utf-8") as stream:
        stream.write(f"{os.getpid()} {text}\n")
    return text


def hang(path: str, text: str) -> None:
    note(path, text)
    time.sleep(60)


def slow(path: str, text: str) -> str:
    time.sleep(0.4)
    return note(path, text)


def fail(_path: str, _text: str) -> None:
    raise PermissionError(13, "Permission denied")


def crash(_path: str, _text: str) -> None:
    os._exit(3)


def broken(_path: str, _text: str) -> None:
    raise KeyError("no OSError")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    (tmp_path / "record").touch()
    return tmp_path / "record"


def called(record: Path, **functions: object) -> dict[str, workers.Result]:
    calls = {name: [function, str(record), name] for name, function in functions.items()}
    return relay.call_each(calls, dict.fromkeys(calls, LIMIT_S))


def test_quick_calls_share_four_processes(record: Path):
    results = called(record, **{f"n{number}": note for number in range(31)})
    assert {name: (result.state, result.value) for name, result in results.items()} == {
        f"n{number}": ("done", f"n{number}") for number in range(31)
    }
    assert len({line.split()[0] for line in record.read_text().splitlines()}) == relay.CHILDREN


def test_any_number_of_hung_calls_costs_one_limit(record: Path):
    began = time.monotonic()
    names = {f"n{number}": hang if number % 2 else note for number in range(16)}
    results = called(record, **names)
    assert time.monotonic() - began < LIMIT_S + 1.5  # not 8 limits
    assert {name: result.state for name, result in results.items()} == {
        name: "timeout" if function is hang else "done" for name, function in names.items()
    }


def test_a_call_is_made_once_however_slow_others_are(record: Path):
    results = called(record, a=slow, b=note, c=slow, d=note, e=note, f=hang, g=slow, h=note, i=note)
    assert [name for name, result in results.items() if result.state != "done"] == ["f"]
    lines = [line.split()[1] for line in record.read_text().splitlines()]
    assert sorted(lines) == ["a", "b", "c", "d", "e", "f", "g", "h", "i"]


@pytest.mark.parametrize(
    ("function", "errno", "detail"),
    [(fail, 13, "Permission denied"), (crash, None, "ended without an answer"), (broken, None, "no OSError")],
)
def test_what_fails_takes_nobody_along(record: Path, function: object, errno: int | None, detail: str):
    results = called(record, **{f"n{number}": function if number == 0 else note for number in range(9)})
    assert (results["n0"].state, results["n0"].errno) == ("died", errno)
    assert detail in results["n0"].detail
    assert {results[f"n{number}"].state for number in range(1, 9)} == {"done"}


def test_each_call_has_its_own_limit(record: Path):
    began = time.monotonic()
    calls = {"short": [hang, str(record), "short"], "long": [hang, str(record), "long"]}
    results = relay.call_each(calls, {"short": 0.3, "long": 0.9}, children=1)
    assert {result.state for result in results.values()} == {"timeout"}
    assert 0.9 < time.monotonic() - began < 8


def test_what_hangs_since_an_earlier_run_is_not_called(record: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "is_stuck", lambda name: name == "a")
    results = called(record, a=note, b=note)
    assert (results["a"].state, results["a"].left_running, results["b"].state) == ("timeout", True, "done")
    assert record.read_text().split()[1::2] == ["b"]


def test_no_calls_are_no_processes():
    assert relay.call_each({}, {}) == {}


def test_a_place_that_hangs_is_touched_once(record: Path):
    calls = {name: [hang if name == "b" else note, str(record), name] for name in "abcd"}
    places = {"a": "/one", "b": "/one", "c": "/one", "d": "/other"}
    results = relay.call_by_place(calls, dict.fromkeys(calls, 1.5), places)
    assert {name: result.state for name, result in results.items()} == {
        "a": "done", "b": "timeout", "c": "timeout", "d": "done",
    }  # fmt: skip
    assert sorted(line.split()[1] for line in record.read_text().splitlines()) == ["a", "b", "d"]


def test_after_a_slow_one_its_place_is_gone_on_with(record: Path):
    calls = {name: [slow if name == "a" else note, str(record), name] for name in "abc"}
    results = relay.call_by_place(calls, dict.fromkeys(calls, 5.0), dict.fromkeys(calls, "/one"))
    assert {result.state for result in results.values()} == {"done"}


def test_a_place_that_hangs_since_an_earlier_run_is_left_alone(record: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "is_stuck", lambda name: name == "/one")
    calls = {name: [note, str(record), name] for name in "ab"}
    results = relay.call_by_place(calls, dict.fromkeys(calls, 1.0), {"a": "/one", "b": "/other"})
    assert (results["a"].state, results["b"].state) == ("timeout", "done")
