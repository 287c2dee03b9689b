"""What left an inbox lately, for those who look for it in the database meanwhile.

Who asks the database whether it has a report, and the inbox only then, may miss one that went from the inbox into the
database between its two questions. So the inbox remembers what left since the first who is still looking began.
"""

from collections import Counter, deque
from collections.abc import Collection


class Leaving:
    """Ids by turn. Not for several threads at once: its owner has a lock."""

    def __init__(self) -> None:
        self._turn = 0
        self._left: deque[tuple[int, Collection[bytes]]] = deque()
        self._looking: Counter[int] = Counter()

    def begin(self) -> int:
        """Somebody begins to look; to be ended with what this returns."""
        self._looking[self._turn] += 1
        return self._turn

    def end(self, turn: int) -> None:
        """Somebody is done."""
        self._looking[turn] -= 1
        if not self._looking[turn]:
            del self._looking[turn]
        first = min(self._looking, default=self._turn)
        while self._left and self._left[0][0] <= first:
            self._left.popleft()

    def leave(self, ids: Collection[bytes]) -> None:
        """These are in the database now."""
        if self._looking:
            self._turn += 1
            self._left.append((self._turn, ids))

    def since(self, turn: int, wanted: Collection[bytes]) -> set[bytes]:
        """Those of `wanted` that left after somebody began to look at `turn`."""
        wanted = set(wanted)
        return {report_id for left_at, ids in self._left if left_at > turn for report_id in wanted.intersection(ids)}
