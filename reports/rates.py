"""How fast one sender may send: a token bucket for each, of which only the latest are remembered."""

import time
from collections import OrderedDict
from collections.abc import Callable

_SENDERS = 20_000


class Rates:
    """`per_s` reports in the long run, `burst` at once, for each sender. With `per_s` 0 there is no limit.

    A request is let in while its sender has one left, and its reports are charged as they are counted: a batch may
    run into debt, which the sender then waits out. So no batch is too large for the bucket.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._clock = clock
        # What is left for each sender, and when that was.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, sender: str) -> float:
        """How long this sender has to wait; 0 if it may go on."""
        if not sender or not self._per_s:
            return 0.0
        left = self._now_left(sender)
        return max(0.0, 1.0 - left) / self._per_s

    def charge(self, sender: str, reports: int) -> None:
        """Count `reports` against a sender."""
        if not sender or not self._per_s:
            return
        self._left[sender] = (self._now_left(sender) - reports, self._clock())
        self._left.move_to_end(sender)
        while len(self._left) > _SENDERS:
            self._left.popitem(last=False)

    def _now_left(self, sender: str) -> float:
        left, then = self._left.get(sender, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - then) * self._per_s)
