"""Where reasons occur now: the recent nodes on which a reason made an answer less than yes, by site and by entry."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from site_db import tables
from site_db.images.fleet import read_fleet, reports_since
from site_db.queries import ENTRIES, SITES, groups_by_entry
from site_db.rules import Rules, default_rules
from site_db.store import Store
from site_db.verdicts import NodeGroup, answer_of

# For each reason of a profile the capabilities that it is given for, and whether it makes a no there.
_Given = dict[str, dict[str, bool]]


@dataclass(frozen=True)
class Occurrence:
    """One reason over all sites. `failing`: nodes on which it made a no, `nodes`: on which it stands at all, at `sites`."""

    code: str
    failing: int
    nodes: int
    sites: int


@dataclass(frozen=True)
class EntryOccurrence:
    """One reason at one entry: on `nodes` of `of_nodes` it made a no (`failing`) or left an answer open, for these
    capabilities; `report_id` an example."""

    entry: str
    factory: str
    site: str
    failing: int
    nodes: int
    of_nodes: int
    capabilities: tuple[str, ...]
    report_id: str | None


def list_occurrences(store: Store, now: datetime, rules: Rules | None = None) -> dict[str, Occurrence]:
    """Every reason that recent nodes give, by code. A node counts once a site."""
    rules = rules or default_rules()
    with store.reading() as connection:
        fleet = read_fleet(connection, reports_since(now, rules))
    given = {number: _reasons_of(profile, rules) for number, profile in fleet.profiles.items()}
    found: dict[str, tuple[int, int, set[int]]] = {}
    for (site, profile), nodes in fleet.nodes.items():
        for code, capabilities in given[profile].items():
            failing, total, sites = found.setdefault(code, (0, 0, set()))
            sites.add(site)
            found[code] = (failing + (nodes if any(capabilities.values()) else 0), total + nodes, sites)
    return {code: Occurrence(code, failing, nodes, len(sites)) for code, (failing, nodes, sites) in found.items()}


def entries_by_reason(
    store: Store, now: datetime, rules: Rules | None = None
) -> dict[str, tuple[EntryOccurrence, ...]]:
    """For every reason the entries at which it occurs now, those with the most failing nodes first."""
    rules = rules or default_rules()
    query = select(ENTRIES.id, ENTRIES.name, ENTRIES.factory, SITES.name.label("site"))
    with store.reading() as connection:
        groups = groups_by_entry(connection, reports_since(now, rules))
        entries = connection.execute(query.join_from(tables.entries, tables.sites)).all()
    given: dict[str, _Given] = {}
    found: dict[str, list[EntryOccurrence]] = {}
    for entry in entries:
        here = groups.get(entry.id, [])
        for code, showing in _by_reason(here, given, rules).items():
            occurrence = EntryOccurrence(
                entry=entry.name,
                factory=entry.factory,
                site=entry.site,
                failing=sum(group.nodes for group, capabilities in showing if any(capabilities.values())),
                nodes=sum(group.nodes for group, _ in showing),
                of_nodes=sum(group.nodes for group in here),
                capabilities=tuple(dict.fromkeys(name for _, capabilities in showing for name in capabilities)),
                report_id=showing[0][0].report_id,
            )
            found.setdefault(code, []).append(occurrence)
    return {code: tuple(sorted(occurrences, key=_most_failing)) for code, occurrences in found.items()}


def _most_failing(item: EntryOccurrence) -> tuple[int, int, str, str]:
    return -item.failing, -item.nodes, item.entry, item.factory


def _by_reason(
    groups: Iterable[NodeGroup], given: dict[str, _Given], rules: Rules
) -> dict[str, list[tuple[NodeGroup, dict[str, bool]]]]:
    """For each reason the groups that give it, with the capabilities; `given` remembers what profiles say."""
    found: dict[str, list[tuple[NodeGroup, dict[str, bool]]]] = {}
    for group in groups:
        if group.fingerprint not in given:
            given[group.fingerprint] = _reasons_of(group.profile, rules)
        for code, capabilities in given[group.fingerprint].items():
            found.setdefault(code, []).append((group, capabilities))
    return found


def _reasons_of(profile: Mapping[str, Any], rules: Rules) -> _Given:
    found: _Given = {}
    document = dict(profile)
    for row in rules.capabilities:
        for capability in row.members(document):
            answer, reason = answer_of(document, capability)
            if reason is not None and answer != "yes":
                found.setdefault(reason, {})[capability.name] = answer == "no"
    return found
