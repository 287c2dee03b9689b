"""Answers that are kept while they hold: pages stay quick however much a question costs.

An answer holds while nothing new was stored, for a minute at most, because ages and windows move on. When something was
stored it holds for a while yet, in proportion to its cost: a stream of reports never costs more than a twentieth of the
time. When it holds no longer, a cheap answer is made anew by who asks, and so is always fresh. Of one that costs more he
gets the old one at once, and a thread makes it anew for those who ask next. Nobody gets one that is older than three
minutes, an answer is no fresher than what it was made from, and nothing is made that nobody asked for.
"""

import gc
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, TypeVar

from site_db.data_version import data_version
from site_db.store import Store

Answer = TypeVar("Answer")
_HOLDS_S = 60.0
_OLDEST_S = 180.0
_COST_FACTOR = 20
_CHEAP_S = 0.02
_MOST_ANSWERS = 256
# What takes so long to make holds tens of thousands of objects.
_LARGE_FROM_S = 0.1
# SQLite gives Python's lock away for every row, and who computes beside gives it back after this time. With Python's own
# 5 ms a site's page took 92 ms while lists of entries were made beside it (p95 200), with this 43 (p95 69).
_SWITCH_S = 0.0005


@dataclass(frozen=True)
class _Answer:
    value: Any
    made_at: float
    cost_s: float
    version: tuple[int, ...]


class _Here(threading.local):
    """What is true of one thread. `parts`: the answers that the one which it makes is made from."""

    is_renewing = False
    version: tuple[int, ...] | None = None
    parts: list[_Answer] | None = None


class Kept:
    """The answers of one store; safe to share between threads. `close` it before the store."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._renewing: set[Hashable] = set()
        self._renewer: ThreadPoolExecutor | None = ThreadPoolExecutor(
            1, "renew-answers", sys.setswitchinterval, (_SWITCH_S,)
        )
        self._lock = threading.Lock()
        self._here = _Here()

    def ask(self, key: Hashable, question: Callable[[], Answer]) -> Answer:
        """The answer to `question`, which `key` names: kept, or made now. Another thread may ask it again later."""
        version = self._version()
        with self._lock:
            known = self._answers.get(key)
            if known:
                self._answers.move_to_end(key)
        if known is None or self._is_too_old(known, version):
            known = self._make(key, question)
        elif not self._holds(known, version):
            self._renew_soon(key, question)
        if self._here.parts is not None:
            self._here.parts.append(known)
        value: Answer = known.value
        return value

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Within it, this thread looks only once whether something new was stored: one page asks for many answers."""
        self._here.version = self._version()
        try:
            yield
        finally:
            self._here.version = None

    def close(self) -> None:
        """Wait for the answer that is being made anew; those that wait for their turn are not made."""
        with self._lock:
            renewer, self._renewer = self._renewer, None
        if renewer:
            renewer.shutdown(cancel_futures=True)

    def _version(self) -> tuple[int, ...]:
        if self._here.version:
            return self._here.version
        with self._store.reading() as connection:
            return data_version(connection)

    def _holds(self, known: _Answer, version: tuple[int, ...]) -> bool:
        age_s = self._clock() - known.made_at
        return age_s < (_HOLDS_S if known.version == version else min(_HOLDS_S, known.cost_s * _COST_FACTOR))

    def _is_too_old(self, known: _Answer, version: tuple[int, ...]) -> bool:
        """Whether nobody should get it any more; what is made anew is made from nothing old."""
        if self._holds(known, version):
            return False
        return known.cost_s < _CHEAP_S or self._clock() - known.made_at > _OLDEST_S or self._here.is_renewing

    def _renew_soon(self, key: Hashable, question: Callable[[], Any]) -> None:
        with self._lock:
            if self._renewer and key not in self._renewing:
                self._renewing.add(key)
                self._renewer.submit(self._renew, key, question)

    def _renew(self, key: Hashable, question: Callable[[], Any]) -> None:
        """In the thread for it. A question that fails now is asked by who comes next, and tells him why."""
        self._here.is_renewing = True
        try:
            self._make(key, question)
        finally:
            with self._lock:
                self._renewing.discard(key)

    def _make(self, key: Hashable, question: Callable[[], Any]) -> _Answer:
        """Ask, and remember, unless somebody else just did."""
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            version = self._version()
            with self._lock:
                known = self._answers.get(key)
            if known is not None and self._holds(known, version):
                return known
            made = None
            outer, self._here.parts = self._here.parts, []
            try:
                began = self._clock()
                value = question()
                made = _Answer(value, self._clock(), self._clock() - began, version)
                # It is no fresher than what it was made from.
                oldest = min([made, *self._here.parts], key=attrgetter("made_at"))
                made = replace(made, made_at=oldest.made_at, version=oldest.version)
            finally:
                self._here.parts = outer
                self._remember(key, made)
        if made.cost_s > _LARGE_FROM_S:
            _spare_collections()
        return made

    def _remember(self, key: Hashable, made: _Answer | None) -> None:
        """Keep an answer. A question that failed (None) leaves nothing behind: its keys are whatever strangers ask for."""
        with self._lock:
            if made is None:
                self._answers.pop(key, None)
                self._making.pop(key, None)
                return
            self._answers[key] = made
            self._answers.move_to_end(key)
            while len(self._answers) > _MOST_ANSWERS:
                forgotten, _ = self._answers.popitem(last=False)
                self._making.pop(forgotten, None)


def _spare_collections() -> None:
    """Let collections of garbage, which stop all requests, pass over what is kept; it goes when nobody refers to it."""
    gc.collect()
    gc.freeze()
