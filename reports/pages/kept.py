"""Answers that are kept while they hold: pages stay quick however much a question costs.

An answer holds while nothing new was stored, for a minute at most, because ages and windows move on. When something was
stored it holds for a while yet, in proportion to its cost: a stream of reports never costs more than a twentieth of the
time, and what is cheap is always fresh. While one request makes an answer anew, others get the old one.
"""

import gc
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from site_db.data_version import data_version
from site_db.store import Store

Answer = TypeVar("Answer")
_HOLDS_S = 60.0
_COST_FACTOR = 20
_MOST_ANSWERS = 256
# What takes so long to make holds tens of thousands of objects.
_LARGE_FROM_S = 0.2


@dataclass(frozen=True)
class _Answer:
    value: Any
    made_at: float
    cost_s: float
    version: tuple[int, ...]


class Kept:
    """The answers of one store; safe to share between threads."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._answers: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def ask(self, key: Hashable, question: Callable[[], Answer]) -> Answer:
        """The answer to `question`, which `key` names: kept, or made now."""
        with self._store.reading() as connection:
            version = data_version(connection)
        with self._lock:
            known = self._answers.get(key)
            making = self._making.setdefault(key, threading.Lock())
        holds = known is not None and self._holds(known, version)
        if not holds and making.acquire(blocking=known is None):
            known = self._make(key, question, version, making)
        assert known is not None  # noqa: S101 - made, or there before
        value: Answer = known.value
        return value

    def _holds(self, known: _Answer, version: tuple[int, ...]) -> bool:
        age_s = self._clock() - known.made_at
        return age_s < (_HOLDS_S if known.version == version else min(_HOLDS_S, known.cost_s * _COST_FACTOR))

    def _make(
        self, key: Hashable, question: Callable[[], Any], version: tuple[int, ...], making: threading.Lock
    ) -> _Answer:
        """Ask, and remember; `making` is held, and is let go."""
        try:
            with self._lock:
                known = self._answers.get(key)
            if known is not None and self._holds(known, version):
                return known  # made while this request waited
            began = self._clock()
            value = question()
            made = _Answer(value, self._clock(), self._clock() - began, version)
            if made.cost_s > _LARGE_FROM_S:
                _spare_collections()
            with self._lock:
                self._answers[key] = made
                self._answers.move_to_end(key)
                while len(self._answers) > _MOST_ANSWERS:
                    forgotten, _ = self._answers.popitem(last=False)
                    self._making.pop(forgotten, None)
            return made
        finally:
            with self._lock:
                # A question that failed leaves nothing behind: its keys are whatever strangers ask for.
                if key not in self._answers and self._making.get(key) is making:
                    del self._making[key]
            making.release()


def _spare_collections() -> None:
    """Let collections of garbage, which stop all requests, pass over what is kept; it goes when nobody refers to it."""
    gc.collect()
    gc.freeze()
