"""Keys that are read again while the collector runs: never in the event loop, at bounded intervals, stale for a while.

The event loop asks (`find`, `look`); a thread loads. Whoever asks for a key that is not there waits for one load, if
one is due, and no longer than `wait_s`; the others are answered from what is known.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from reports.tokens.keys import Key, KeySet
from site_db.errors import SiteDbError

LOG = logging.getLogger("site_db.tokens")


class Pace(NamedTuple):
    """How often keys are loaded, in seconds.

    `again_after_s`: age at which they are read again. `apart_s`: between two attempts, whoever asks. `stale_s`: age
    beyond which they are not used any more if they could not be read again. `wait_s`: how long a request waits.
    """

    again_after_s: float
    apart_s: float
    stale_s: float
    wait_s: float


# Secret keys lie on this machine: what was retired counts no more after five seconds.
OF_FOLDER = Pace(again_after_s=5, apart_s=1, stale_s=float("inf"), wait_s=2)
# The WLCG token profile recommends to keep an issuer's public keys for six hours, and at most four days.
OF_ISSUER = Pace(again_after_s=6 * 3600, apart_s=60, stale_s=4 * 86400, wait_s=12)


class KeySource:
    """The keys of one origin. `load` blocks and raises SiteDbError; `version` changes with the keys."""

    def __init__(
        self,
        name: str,
        load: Callable[[], KeySet],
        algorithms: frozenset[str],
        pace: Pace,
        first: KeySet | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.algorithms = algorithms
        self.version = 0
        self.failures = 0
        self._load = load
        self._pace = pace
        self._clock = clock
        self._keys = first or KeySet()
        self._loaded_at = clock() if first else float("-inf")
        self._tried_at = self._loaded_at
        self._task: asyncio.Task[None] | None = None

    @property
    def age_s(self) -> float:
        """Seconds since the keys were read; infinite before the first time."""
        return self._clock() - self._loaded_at

    @property
    def count(self) -> int:
        """How many keys there are that may be used now."""
        return len(self._usable().keys)

    def look(self) -> None:
        """Have the keys read again in the background if they are old; returns at once."""
        if self.age_s > self._pace.again_after_s:
            self._begin()
        if self.age_s > self._pace.stale_s and self._keys.keys:
            LOG.error("the keys of %s are too old to be used", self.name)
            self._take(KeySet())

    async def find(self, issuer: str, key_id: str | None, algorithm: str) -> list[Key]:
        """The keys that may have signed such a token; reads the keys again, if that is due, where there is none."""
        self.look()
        found = self._usable().find(issuer, key_id, algorithm)
        if not found and (task := self._begin()):
            await asyncio.wait({task}, timeout=self._pace.wait_s)
            found = self._usable().find(issuer, key_id, algorithm)
        return found

    @property
    def is_known(self) -> bool:
        """Whether there are keys at all."""
        return bool(self._usable().keys)

    def _usable(self) -> KeySet:
        return self._keys if self.age_s <= self._pace.stale_s else KeySet()

    def _begin(self) -> asyncio.Task[None] | None:
        """The load that is under way, or a new one if it is due; else None."""
        if self._task and not self._task.done():
            return self._task
        if self._clock() - self._tried_at < self._pace.apart_s:
            return None
        self._tried_at = self._clock()
        self._task = asyncio.get_running_loop().create_task(self._reload())
        return self._task

    async def _reload(self) -> None:
        try:
            keys = await run_sync(self._load, abandon_on_cancel=True, limiter=CapacityLimiter(1))
        except SiteDbError as error:
            self.failures += 1
            LOG.error("keys of %s: %s", self.name, error)
            return
        self._loaded_at = self._clock()
        self._take(keys)

    def _take(self, keys: KeySet) -> None:
        if keys.digests() != self._keys.digests():
            self.version += 1
            LOG.info("keys of %s: %d now", self.name, len(keys.keys))
        self._keys = keys
