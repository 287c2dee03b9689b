"""What is done to the system: kills at random moments, and outages after which everything has to be delivered."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from campaign.load import Load
from campaign.programs import until
from campaign.proof import wait_for_all, what_is_wrong
from campaign.systems import System, postgresql_system, queue_system, sqlite_system

from tests import rabbitmq

CATCH_UP_S = 120.0
Progress = Callable[[str], None]


class Options(NamedTuple):
    """How much of it."""

    kills: int
    seed: int
    rate: float
    outage_s: float
    progress: Progress


def kill_with_queue(options: Options) -> dict[str, Any]:
    """Two collectors, three queue nodes, two workers, PostgreSQL: each is killed in its turn of chance."""
    with queue_system() as system:
        targets = {"collector": 0, "worker": 0, "database": 0, "queue node": 0}
        return _measured(system, options, lambda load: _kills(system, options, targets, load))


def kill_single(options: Options) -> dict[str, Any]:
    """One collector over SQLite: killed, and the process that stores for it."""
    with sqlite_system() as system:
        targets = {"collector": 0, "storing process": 0}
        return _measured(system, options, lambda load: _kills(system, options, targets, load))


def database_gone(options: Options) -> dict[str, Any]:
    """Two collectors over PostgreSQL, which is away for a while."""
    with postgresql_system() as system:
        server = system.server
        assert server

        def away() -> None:
            server.kill()
            time.sleep(options.outage_s)
            server.start()

        return _measured(system, options, lambda load: _outage(options, load, away))


def disk_full(options: Options) -> dict[str, Any]:
    """One collector over SQLite on a file system that becomes full."""
    return _folder_outage(options, "full")


def read_only(options: Options) -> dict[str, Any]:
    """One collector over SQLite on a file system that becomes read-only."""
    return _folder_outage(options, "readonly")


STAGES: dict[str, Callable[[Options], dict[str, Any]]] = {
    "kills": kill_with_queue,
    "kills-single": kill_single,
    "database-gone": database_gone,
    "disk-full": disk_full,
    "read-only": read_only,
}


def _folder_outage(options: Options, state: str) -> dict[str, Any]:
    with sqlite_system(failing=True) as system:
        folder = system.folder
        assert folder

        def away() -> None:
            folder.set(state)
            time.sleep(options.outage_s)
            folder.set("ok")

        return _measured(system, options, lambda load: _outage(options, load, away))


def _measured(system: System, options: Options, trouble: Callable[[Load], dict[str, Any]]) -> dict[str, Any]:
    """Load, trouble, an end to the load, and the proof."""
    began = time.monotonic()
    load = Load([collector.address for collector in system.collectors], options.seed, rate=options.rate)
    load.start()
    found = trouble(load)
    load.stop(CATCH_UP_S)
    missing = wait_for_all(system.database, load.acknowledged, CATCH_UP_S)
    exit_codes = {program.name: program.stop() for program in system.programs()}
    wrong = [*load.wrong, *what_is_wrong(system.database)]
    wrong += [f"acknowledged and lost: {each}" for each in missing[:5]]
    wrong += [f"{name} ended with exit code {code}" for name, code in exit_codes.items() if code]
    if load.undelivered:
        wrong.append(f"{load.undelivered} reports were never taken")
    return {
        **found,
        "acknowledged": len(load.acknowledged),
        "lost": len(missing),
        "answers": dict(load.answers.most_common()),
        "longest_without_answer_s": round(load.longest_gap_s, 1),
        "seconds": round(time.monotonic() - began, 1),
        "wrong": wrong,
    }


def _kills(system: System, options: Options, targets: dict[str, int], load: Load) -> dict[str, Any]:
    chance = random.Random(options.seed)
    down = _Restarts(system)
    counts: Counter[str] = Counter()
    with down.running():
        while sum(counts.values()) < options.kills:
            # Most kills meet a system at work, the others one that is just coming back.
            if chance.random() < 0.8:
                before = len(load.acknowledged)
                until(partial(_is_more, load, before), "reports that are taken again", CATCH_UP_S)
            time.sleep(chance.uniform(0.1, 1.5))
            # Equal shares: a node takes long to come back, and only one may be away.
            name = min(targets, key=lambda each: (counts[each], chance.random()))
            if chance.random() < 0.5:
                name = chance.choice(list(targets))
            if down.kill(name, chance):
                counts[name] += 1
                options.progress(
                    f"{sum(counts.values())} of {options.kills} kills, {len(load.acknowledged)} acknowledged"
                )
        until(down.all_up, "the system's return")
    return {"kills": dict(counts)}


def _is_more(load: Load, before: int) -> bool:
    return len(load.acknowledged) > before


class _Restarts:
    """Kills programs, and starts them again as a service manager does: at once, in a thread of its own."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._ends = threading.Event()
        self._returning: threading.Thread | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._ends.set()
            thread.join()
            if self._returning:
                self._returning.join()

    def kill(self, name: str, chance: random.Random) -> bool:
        """Kill one of a kind; False where none can be killed now."""
        system = self._system
        if name == "queue node":
            return self._kill_node(chance.choice(system.nodes))
        if name == "database" and system.server:
            system.server.kill()
        elif name == "worker":
            chance.choice(system.workers).kill()
        elif name == "storing process":
            return chance.choice(system.collectors).kill_child()
        else:
            collector = chance.choice(system.collectors)
            if not collector.is_ready():
                return False
            collector.kill()
        return True

    def all_up(self) -> bool:
        is_node_away = self._returning is not None and self._returning.is_alive()
        return not is_node_away and all(collector.is_ready() for collector in self._system.collectors)

    def _kill_node(self, node: rabbitmq.Node) -> bool:
        if self._returning and self._returning.is_alive():
            return False

        def come_back() -> None:
            node.start()
            node.wait()

        node.kill()
        self._returning = threading.Thread(target=come_back)
        self._returning.start()
        return True

    def _watch(self) -> None:
        while not self._ends.wait(0.1):
            for program in [*self._system.programs(), *filter(None, [self._system.server])]:
                program.keep_running()


def _outage(options: Options, load: Load, away: Callable[[], None]) -> dict[str, Any]:
    """Trouble under load: meanwhile the answer is 503, afterwards everything is taken."""
    until(lambda: len(load.acknowledged) > 50, "a load before the outage")
    before = load.answers["503"]
    options.progress("the outage begins")
    away()
    refused = load.answers["503"] - before
    options.progress(f"the outage ends, {refused} answers were 503")
    count = len(load.acknowledged)
    ended = time.monotonic()
    until(lambda: len(load.acknowledged) > count + 50, "deliveries after the outage")
    if not refused:
        load.wrong.append("nobody was told 503 during the outage")
    return {"outage_s": options.outage_s, "refused_503": refused, "back_after_s": round(time.monotonic() - ended, 1)}
