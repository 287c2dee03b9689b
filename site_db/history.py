"""What nodes were like day by day: the kept daily counts by profile, and shares of anything that a profile tells.

A node counts under each entry that it was seen under, on each day on which it reported.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import bindparam, func, select

from site_db import tables
from site_db.images.fleet import many_rows, read_profiles, site_ids
from site_db.rollups import day_of
from site_db.rules import Capability
from site_db.store import Store
from site_db.times import microseconds
from site_db.verdicts import answer_of

_DAILY, _ENTRIES = tables.daily_nodes.c, tables.entries.c
_EPOCH = date(1970, 1, 1)

Profile = Mapping[str, Any]


@dataclass(frozen=True)
class History:
    """The nodes of each profile on each UTC day; days without a report are there, without nodes."""

    days: tuple[date, ...]
    nodes: Mapping[date, Mapping[int, int]]
    profiles: Mapping[int, Profile]

    def counts(self, label_of: Callable[[Profile], str | None]) -> dict[str, list[int]]:
        """For each label the nodes on every day, the most frequent label first; profiles with the label None are left out."""
        labels = {number: label_of(profile) for number, profile in self.profiles.items()}
        total: Counter[str] = Counter()
        found: dict[str, list[int]] = {}
        for position, day in enumerate(self.days):
            for number, nodes in self.nodes.get(day, {}).items():
                label = labels[number]
                if label is not None:
                    found.setdefault(label, [0] * len(self.days))[position] += nodes
                    total[label] += nodes
        return {label: found[label] for label, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))}

    def share(self, capability: Capability) -> list[float | None]:
        """The share of yes among yes and no on every day; None where no node answered either."""
        answers = self.counts(lambda profile: answer_of(dict(profile), capability)[0])
        none = [0] * len(self.days)
        pairs = zip(answers.get("yes", none), answers.get("no", none), strict=True)
        return [yes / (yes + no) if yes + no else None for yes, no in pairs]


_ALL_NODES = (
    select(_DAILY.day, _DAILY.profile_id, func.sum(_DAILY.nodes))
    .where(_DAILY.day >= bindparam("first"), _DAILY.day <= bindparam("last"))
    .group_by(_DAILY.day, _DAILY.profile_id)
    .order_by(_DAILY.day)
)
_NODES_OF_SITE = _ALL_NODES.where(_DAILY.entry_id.in_(select(_ENTRIES.id).where(_ENTRIES.site_id == bindparam("site"))))


def read_history(store: Store, now: datetime, days: int, site: str | None = None) -> History:
    """The last `days` days, today's (UTC) the last of them, of all sites or one. Raises UnknownName."""
    last = day_of(microseconds(now.astimezone(UTC)))
    values: dict[str, Any] = {"first": last - days + 1, "last": last}
    with store.reading() as connection:
        if site is not None:
            values["site"] = site_ids(connection, [site])[0]
        query = _ALL_NODES if site is None else _NODES_OF_SITE
        nodes: dict[date, dict[int, int]] = {}
        for day, counted in itertools.groupby(many_rows(connection, query, values), key=itemgetter(0)):
            nodes[_EPOCH + timedelta(days=day)] = {profile: int(count) for _, profile, count in counted}
        profiles = read_profiles(connection, {profile for counts in nodes.values() for profile in counts})
    dates = tuple(_EPOCH + timedelta(days=day) for day in range(last - days + 1, last + 1))
    return History(dates, nodes, profiles)
