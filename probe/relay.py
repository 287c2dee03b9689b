"""Many calls in a few children: each child answers one after the other, and what it has not answered goes to others.

Thirty repositories that are fine cost four processes. A call that hangs costs the one process that made it: a child that
has been silent for a moment keeps the call that it is at, and two new children share the rest. So any number of hung
calls costs one limit, not their sum.
"""

import os
import time
from typing import Any, Dict, Iterator, List, Tuple

from probe import stuck, workers
from probe.workers import Result

# How long a child may be silent before others take over what it has not begun.
PATIENCE_S = 0.15
CHILDREN = 4
# Beyond any limit: a child that does not even begin.
LONGEST_S = 60.0

Call = List[Any]


def call_each(calls: Dict[str, Call], limits_s: Dict[str, float], children: int = CHILDREN) -> Dict[str, Result]:
    """Call functions, each ``name: [function, argument, ...]``, its limit counted from its own beginning.

    What hangs since an earlier run is not called again.
    """
    results = {name: _untouched("has not answered since an earlier run") for name in calls if workers.is_stuck(name)}
    relay = _Relay(calls, limits_s, dict(zip(calls, calls)))
    names = [name for name in calls if name not in results]
    for number in range(min(children, len(names))):
        relay.start(names[number::children])
    results.update(relay.run())
    return results


def call_by_place(calls: Dict[str, Call], limits_s: Dict[str, float], places: Dict[str, str]) -> Dict[str, Result]:
    """The same, where calls go to places (mounts) that hang as a whole: one child a place, and after a call that hangs
    no other of its place is made, nor in later runs."""
    groups: Dict[str, List[str]] = {}
    for name in calls:
        groups.setdefault(places[name], []).append(name)
    relay = _Relay(calls, limits_s, places, shares=False)
    results: Dict[str, Result] = {}
    for place, names in groups.items():
        if workers.is_stuck(place):
            results.update({name: _untouched("has not answered since an earlier run") for name in names})
        else:
            relay.start(names)
    results.update(relay.run())
    return results


def _untouched(detail: str) -> Result:
    return Result("timeout", None, detail, None, 0.0, left_running=True)


class _Relay:
    """Who answers what. A worker is called by the first of the names that it was given."""

    def __init__(
        self, calls: Dict[str, Call], limits_s: Dict[str, float], places: Dict[str, str], shares: bool = True
    ) -> None:
        self._calls, self._limits_s, self._places, self._shares = calls, limits_s, places, shares
        self._pool = workers.Pool()
        self._given: Dict[str, List[str]] = {}
        self._results: Dict[str, Result] = {}

    def start(self, names: List[str]) -> None:
        if names:
            self._given[names[0]] = names
            calls = [(self._places[name], name, self._calls[name]) for name in names]
            self._pool.start(names[0], LONGEST_S, _answer, calls)

    def run(self) -> Dict[str, Result]:
        """All results. Those that are late are killed together at the end: each on its own would cost a patience."""
        while not self._only_late_ones():
            for worker, result in self._pool.wait(time.monotonic() + PATIENCE_S / 2):
                self.start(self._settle(self._given.pop(worker), result))
            if self._shares:
                self._share_out()
        for worker, result in self._pool.abandon(workers.HAND_OVER_S).items():
            self._settle(self._given.pop(worker), result)
        return self._results

    def _left(self) -> Iterator[Tuple[str, List[str], float]]:
        """Each worker that has begun, what it has not answered yet, and since when it is silent."""
        for worker, (answers, heard) in self._pool.so_far().items():
            if answers is not None and heard is not None:
                yield worker, [name for name in self._given[worker] if name not in answers], heard

    def _only_late_ones(self) -> bool:
        now = time.monotonic()
        late = [worker for worker, left, heard in self._left() if left and now - heard > self._limits_s[left[0]]]
        return len(late) == len(self._given)

    def _share_out(self) -> None:
        """What a silent child has not begun goes to two others. The child measures the same, and from earlier on: after
        this time it ends by itself, so that nothing is called twice."""
        for worker, left, heard in list(self._left()):
            if time.monotonic() - heard > PATIENCE_S and len(left) > 1:
                self._given[worker] = [name for name in self._given[worker] if name not in left[1:]]
                self.start(left[1::2])
                self.start(left[2::2])

    def _settle(self, names: List[str], result: Result) -> List[str]:
        """Keep a worker's answers; the names that it was given and has not begun."""
        answers = result.value or {}
        self._results.update({name: _result_of(answers[name]) for name in names if name in answers})
        left = [name for name in names if name not in answers]
        if not left or result.state == "done":
            return left
        self._results[left[0]] = result._replace(value=None)
        if result.state == "timeout" and not self._shares:
            self._results.update({name: _untouched("not touched: " + left[0]) for name in left[1:]})
            return []
        return left[1:]


def _answer(calls: List[Tuple[str, str, Call]]) -> Iterator[Dict[str, Any]]:
    """In the child: all answers so far, after each call."""
    answers: Dict[str, Any] = {}
    for place, name, call in calls:
        before = time.monotonic()
        yield answers
        stuck.set_name(place)
        began = time.monotonic()
        answers[name] = dict(workers.call_in_turn([call])[0], duration_s=time.monotonic() - began)
        if time.monotonic() - before > PATIENCE_S:
            break
    yield answers


def _result_of(answer: Dict[str, Any]) -> Result:
    if "errno" in answer:
        return Result("died", None, os.strerror(answer["errno"]), answer["errno"], answer["duration_s"])
    return Result("done", answer["value"], "", None, answer["duration_s"])
