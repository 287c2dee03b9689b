"""A fleet over some weeks: nodes, what befalls them and when, the reports that they send, and the truth about it all."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

from fleet.kinds import CONDITIONS, KINDS, NOISE, Kind, Report, report_of
from fleet.names import EntryName, entry_names

FACTORY = "factory.example.org"


class Plan(NamedTuple):
    """What to simulate. `noise`: share of reports that are wrong by chance."""

    seed: int
    entries: int
    days: int
    reports_a_day: float
    noise: float
    regressions: int
    end: datetime
    most_nodes: int = 60

    @property
    def start(self) -> datetime:
        return self.end - timedelta(days=self.days)


@dataclass
class Spell:
    """One condition on one node: from when, until when (None: to the end)."""

    condition: str
    since: datetime
    until: datetime | None

    def holds(self, at: datetime) -> bool:
        return self.since <= at and (self.until is None or at < self.until)


@dataclass
class Node:
    """One worker node under one entry."""

    machine_id: str
    hostname: str
    entry: EntryName
    kind: Kind
    spells: list[Spell] = field(default_factory=list)
    upgraded: tuple[datetime, Kind] | None = None

    def conditions(self, at: datetime) -> tuple[str, ...]:
        """What is wrong with it at a time, without noise."""
        kind = self.kind_at(at)
        return (*kind.conditions, *(spell.condition for spell in self.spells if spell.holds(at)))

    def kind_at(self, at: datetime) -> Kind:
        return self.upgraded[1] if self.upgraded and at >= self.upgraded[0] else self.kind


class Event(NamedTuple):
    """The truth about one change. `also`: capabilities that go with it."""

    entry: str
    capability: str
    also: tuple[str, ...]
    direction: str
    condition: str
    at: datetime
    until: datetime | None
    nodes: tuple[str, ...]


class Fleet:
    """Made from a Plan: equal plans, equal fleets."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._chance = Random(plan.seed)
        self.nodes = [node for name in entry_names(plan.entries) for node in self._nodes(name)]
        self.events = self._events()

    def reports(self) -> Iterator[tuple[datetime, Report]]:
        """All reports in the order of their times."""
        for at, number in self._schedule():
            node = self.nodes[number]
            yield at, self._report(node, at)

    def truth(self) -> dict[str, Any]:
        """What a perfect observer would know at the end."""
        return {
            "seed": self.plan.seed,
            "start": self.plan.start.isoformat(),
            "end": self.plan.end.isoformat(),
            "noise": self.plan.noise,
            "entries": {name: self._entry_truth(nodes) for name, nodes in sorted(self._by_entry().items())},
            "changes": [
                {**event._asdict(), "at": event.at.isoformat(), "until": event.until and event.until.isoformat()}
                for event in self.events
            ],
        }

    def _nodes(self, name: EntryName) -> Iterator[Node]:
        """One or two kinds behind an entry; most entries are small."""
        chance = self._chance
        kinds = chance.sample(sorted(KINDS), 2 if chance.random() < 0.3 else 1)
        count = max(1, int(self.plan.most_nodes * chance.random() ** 2))
        for number in range(count):
            machine_id = f"{chance.getrandbits(128):032x}"
            kind = KINDS[kinds[0] if number < 0.6 * count else kinds[-1]]
            yield Node(machine_id, f"wn{number:03}.{name.name.lower().replace('_', '-')}.example.org", name, kind)

    def _by_entry(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            found.setdefault(node.entry.name, []).append(node)
        return found

    def _events(self) -> list[Event]:
        chance, entries = self._chance, self._by_entry()
        events = []
        for name in chance.sample(sorted(entries), len(entries)):
            nodes = entries[name]
            if len(events) < self.plan.regressions:
                events += self._befall(name, nodes)
            elif chance.random() < 0.3:
                self._upgrade(nodes)
        return sorted(events, key=lambda event: event.at)

    def _befall(self, name: str, nodes: list[Node]) -> list[Event]:
        """A condition comes over a share of the nodes that it suits, within hours or days; some are repaired later."""
        chance = self._chance
        broken = [node for node in nodes if node.kind.conditions == ("no_userns",)]
        if broken and len(broken) == len(nodes):
            return [self._repair(name, nodes)]
        condition = chance.choice(sorted(CONDITIONS))
        suited = [node for node in nodes if CONDITIONS[condition].suits(node.kind)]
        if not suited:
            return []
        affected = chance.sample(suited, max(1, int(chance.choice((1.0, 1.0, 0.6, 0.4)) * len(suited))))
        # Less than that is a broken node or two, not a change of the entry.
        if len(affected) < min(2, len(nodes)) or len(affected) * 3 < len(nodes):
            return []
        at = self._some_time(0.3, 0.6)
        spread = timedelta(hours=chance.choice((0, 12, 36)))
        until = at + spread + timedelta(days=chance.uniform(3, 5)) if chance.random() < 0.4 else None
        for node in affected:
            node.spells.append(Spell(condition, at + spread * chance.random(), until))
        ordered = sorted(affected, key=lambda node: node.spells[-1].since)
        rule = CONDITIONS[condition]
        machines = tuple(node.machine_id for node in ordered)
        first = ordered[0].spells[-1].since
        return [Event(name, rule.loses, tuple(sorted(rule.also)), "lost", condition, first, until, machines)]

    def _repair(self, name: str, nodes: list[Node]) -> Event:
        at = self._some_time(0.3, 0.6)
        for node in nodes:
            node.upgraded = at, KINDS["el10"]
        rule = CONDITIONS["no_userns"]
        machines = tuple(node.machine_id for node in nodes)
        return Event(name, rule.loses, tuple(sorted(rule.also)), "gained", "no_userns", at, None, machines)

    def _upgrade(self, nodes: list[Node]) -> None:
        """A new system that can do what the old one could: no change."""
        at = self._some_time(0.2, 0.8)
        for node in nodes:
            if node.kind.name in ("el8", "el9", "sles15"):
                node.upgraded = at + timedelta(hours=self._chance.uniform(0, 48)), KINDS["el10"]

    def _some_time(self, least: float, most: float) -> datetime:
        return self.plan.start + timedelta(days=self.plan.days * self._chance.uniform(least, most))

    def _schedule(self) -> list[tuple[datetime, int]]:
        chance, plan = self._chance, self.plan
        times = []
        for number in range(len(self.nodes)):
            at = plan.start + timedelta(days=chance.expovariate(plan.reports_a_day))
            while at < plan.end:
                times.append((at, number))
                at += timedelta(days=chance.uniform(0.5, 1.5) / plan.reports_a_day)
        return sorted(times)

    def _report(self, node: Node, at: datetime) -> Report:
        chance = self._chance
        conditions = node.conditions(at)
        if chance.random() < self.plan.noise:
            conditions = (*conditions, chance.choice(sorted(NOISE)))
        base = _base(node.kind_at(at).name, conditions)
        entry = node.entry
        names = {"factory": FACTORY, "entry": entry.name, "site": entry.site, "resource": entry.resource}
        return {
            **base,
            "report_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
            "created_at": at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "host": {**base["host"], "hostname": node.hostname, "machine_id": node.machine_id},
            "glidein": {**base["glidein"], **names},
        }

    def _entry_truth(self, nodes: list[Node]) -> dict[str, Any]:
        """The share of nodes that can, of those that can be asked at all."""
        end = self.plan.end
        able = [not set(node.conditions(end)) & {"no_userns", "masked_proc", "no_runtime"} for node in nodes]
        gpus = [node for node in nodes if node.kind_at(end).gpus]
        working = [node for node in gpus if "gpu_broken" not in node.conditions(end)]
        dead = [node for node in nodes if "cvmfs_dead" in node.conditions(end)]
        return {
            "site": nodes[0].entry.site,
            "nodes": len(nodes),
            "shares": {
                "singularity": sum(able) / len(nodes),
                "gpu": len(working) / len(gpus) if gpus else None,
                "cvmfs:oasis.opensciencegrid.org": 1 - len(dead) / len(nodes),
            },
        }


@lru_cache(maxsize=4096)
def _base(kind: str, conditions: tuple[str, ...]) -> Report:
    return report_of(KINDS[kind], conditions)
