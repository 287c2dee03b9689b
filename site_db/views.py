"""The views: what is known about a site, an entry, a node, and why. Each reads one state of the database.

`now` (aware) decides what is recent. Names that are not there raise UnknownName, a name of several AmbiguousName.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Integer, Select, bindparam, func, or_, select

from site_db import tables
from site_db.errors import AmbiguousName, UnknownName
from site_db.kinds import kinds_of
from site_db.queries import (
    ENTRIES,
    NODES,
    NOTHING_SEEN,
    OBSERVED,
    SITES,
    ImageCount,
    Seen,
    groups_by_entry,
    groups_by_site,
    groups_of_entry,
    images,
    newest_group,
    seen_by_entry,
    seen_by_site,
    seen_of_entry,
)
from site_db.reasons import explain_reason
from site_db.rules import Rules, default_rules, find
from site_db.site_reports import (
    EntryReport,
    EntrySummary,
    Example,
    ExplainedReason,
    Explanation,
    Freshness,
    ImageVerdict,
    NodePage,
    NodeReport,
    NodeSeen,
    NodeSummary,
    SiteList,
    SiteReport,
    SiteSummary,
)
from site_db.storable import storable, storable_tree
from site_db.store import Store
from site_db.times import microseconds, moment
from site_db.verdicts import Answers, Evidence, NodeGroup, Tally, Verdict, capabilities_of, judge, judge_all

NODES_A_PAGE = 500
# What of a check explains it; the rest (single steps) is in the raw report.
_TELLING = ("id", "status", "usable", "reason", "message", "remedy", "errno", "limit", "command", "evidence")


@dataclass(frozen=True)
class EntryName:
    """An entry that is in the database, and the number of its row."""

    id: int
    name: str
    factory: str
    site: str
    resource: str


def list_sites(store: Store, now: datetime, rules: Rules | None = None) -> SiteList:
    """All sites, with the verdicts of the overview."""
    rules = rules or default_rules()
    with store.reading() as connection:
        groups = groups_by_site(connection, _since(now, rules))
        ever = seen_by_site(connection)
        query = (
            select(SITES.id, SITES.name, func.count(ENTRIES.id).label("entries"))
            .outerjoin_from(tables.sites, tables.entries)
            .group_by(SITES.id, SITES.name)
            .order_by(SITES.name)
        )
        sites = connection.execute(query).all()
    overview = _Overview(rules)
    summaries = [
        SiteSummary(
            name=site.name,
            entries=site.entries,
            freshness=_freshness(groups.get(site.id, []), ever.get(site.id, NOTHING_SEEN)),
            verdicts=overview.of(groups.get(site.id, [])),
        )
        for site in sites
    ]
    return SiteList(now, rules.window_days, tuple(summaries))


def list_entries(store: Store, now: datetime, rules: Rules | None = None) -> tuple[EntrySummary, ...]:
    """All entries, with the verdicts of the overview."""
    rules = rules or default_rules()
    with store.reading() as connection:
        return _entry_summaries(connection, now, rules)


def site_report(store: Store, name: str, now: datetime, rules: Rules | None = None) -> SiteReport:
    """One site with its entries."""
    rules = rules or default_rules()
    name = storable(name)
    with store.reading() as connection:
        number = connection.scalar(select(SITES.id).where(SITES.name == name))
        if number is None:
            raise UnknownName("site", name, connection.scalars(select(SITES.name)))
        groups = groups_by_site(connection, _since(now, rules), number).get(number, [])
        ever = seen_by_site(connection, number).get(number, NOTHING_SEEN)
        entries = _entry_summaries(connection, now, rules, number)
        tried = images(connection, _since(now, rules), "site", number)
    return SiteReport(
        name=name,
        generated_at=now,
        window_days=rules.window_days,
        freshness=_freshness(groups, ever),
        resources=tuple(sorted({entry.resource for entry in entries})),
        entries=entries,
        verdicts=judge_all(groups, rules),
        heterogeneity=kinds_of(groups, rules),
        images=_image_verdicts(tried, rules),
    )


def entry_report(store: Store, name: str, now: datetime, rules: Rules | None = None) -> EntryReport:
    """One entry: its NAME, or NAME@FACTORY where several factories have one of that name."""
    rules = rules or default_rules()
    with store.reading() as connection:
        entry = find_entry(connection, name)
        groups = groups_of_entry(connection, _since(now, rules), entry.id)
        ever = seen_of_entry(connection, entry.id)
        tried = images(connection, _since(now, rules), "entry", entry.id)
    return EntryReport(
        name=entry.name,
        factory=entry.factory,
        site=entry.site,
        resource=entry.resource,
        generated_at=now,
        window_days=rules.window_days,
        freshness=_freshness(groups, ever),
        verdicts=judge_all(groups, rules),
        heterogeneity=kinds_of(groups, rules),
        images=_image_verdicts(tried, rules),
    )


def node_report(store: Store, name: str, now: datetime, rules: Rules | None = None) -> NodeReport:
    """One node by its machine_id, or by its hostname: its newest report, however old that is."""
    rules = rules or default_rules()
    name = storable(name)
    with store.reading() as connection:
        nodes = connection.execute(
            select(tables.nodes).where(or_(NODES.machine_id == name, NODES.hostname == name))
        ).all()
        if not nodes:
            raise UnknownName("node", name, connection.scalars(select(NODES.hostname).limit(10_000)))
        if len(nodes) > 1:
            raise AmbiguousName("node", name, [node.machine_id for node in nodes])
        node = nodes[0]
        newest = newest_group(connection, node.id)
        places = _seen_at(connection, node.id)
        tried = images(connection, 0, "node", node.id)
    return NodeReport(
        machine_id=node.machine_id,
        derived=node.derived,
        hostname=node.hostname,
        generated_at=now,
        window_days=rules.window_days,
        recent=microseconds(newest.newest) >= _since(now, rules),
        report_id=newest.report_id,
        seen=places,
        verdicts=judge_all([newest], rules),
        profile=newest.profile,
        images=_image_verdicts(tried, rules),
    )


def _summaries_of(chosen: Select[Any]) -> Select[Any]:
    """What is listed of the nodes that `chosen` (id, machine_id, hostname) has."""
    node = chosen.subquery().c
    return (
        select(node.machine_id, node.hostname, func.count(), func.sum(OBSERVED["count"]), func.max(OBSERVED.created_at))
        .join_from(node.id.table, tables.observations, node.id == OBSERVED.node_id)
        .group_by(node.id, node.machine_id, node.hostname)
    )


_NODES = select(NODES.id, NODES.machine_id, NODES.hostname).limit(bindparam("most", type_=Integer))
_NODES_AFTER = _summaries_of(_NODES.where(NODES.machine_id > bindparam("after")).order_by(NODES.machine_id))
_NODES_CALLED = _summaries_of(
    _NODES.where(NODES.hostname.startswith(bindparam("begin"), autoescape=False, escape="/")).order_by(NODES.hostname)
)


def list_nodes(store: Store, after: str = "", most: int | None = None) -> NodePage:
    """Up to `most` (NODES_A_PAGE) nodes whose machine id comes after `after`: such a list stays put between pages."""
    most = most or NODES_A_PAGE
    nodes = _node_summaries(store, _NODES_AFTER, {"after": storable(after), "most": most + 1})
    nodes.sort(key=lambda node: node.machine_id)
    return NodePage(tuple(nodes[:most]), nodes[most - 1].machine_id if len(nodes) > most else None)


def nodes_called(store: Store, begin: str, most: int) -> NodePage:
    """At most so many nodes whose host name begins so, by host name; nothing tells of those that follow."""
    escaped = storable(begin).replace("/", "//").replace("%", "/%").replace("_", "/_")
    nodes = _node_summaries(store, _NODES_CALLED, {"begin": escaped, "most": most})
    return NodePage(tuple(sorted(nodes, key=lambda node: (node.hostname, node.machine_id))), None)


def _node_summaries(store: Store, query: Select[Any], values: Mapping[str, Any]) -> list[NodeSummary]:
    with store.reading() as connection:
        rows = connection.execute(query, values).all()
    return [NodeSummary(row[0], row[1], row[2], int(row[3]), moment(row[4])) for row in rows]


def why(store: Store, entry: str, capability: str, now: datetime, rules: Rules | None = None) -> Explanation:
    """Why the verdict on one capability of one entry is what it is: reasons in words, and what example reports say."""
    rules = rules or default_rules()
    with store.reading() as connection:
        found = find_entry(connection, entry)
        groups = groups_of_entry(connection, _since(now, rules), found.id)
    wanted = rules.capability(storable(capability))
    if wanted is None:
        raise UnknownName("capability", capability, [row.name for row in capabilities_of(groups, rules)])
    verdict = judge(wanted, groups, rules)
    reasons = [ExplainedReason(explain_reason(row.code), row.nodes) for row in verdict.reasons if row.code]
    return Explanation(
        entry=found.name,
        factory=found.factory,
        site=found.site,
        generated_at=now,
        window_days=rules.window_days,
        verdict=verdict,
        reasons=tuple(reasons),
        examples=tuple(example_of(store, evidence) for evidence in verdict.evidence),
    )


def entry_groups(
    store: Store, name: str, now: datetime, rules: Rules | None = None
) -> tuple[EntryName, list[NodeGroup]]:
    """One entry and its recent nodes by profile: what proposals are made from."""
    with store.reading() as connection:
        entry = find_entry(connection, name)
        since = _since(now, rules or default_rules())
        return entry, groups_of_entry(connection, since, entry.id)


def all_entry_groups(
    store: Store, now: datetime, rules: Rules | None = None
) -> list[tuple[EntryName, list[NodeGroup]]]:
    """Every entry that ever reported with its recent nodes by profile, in one go: what drift is found from."""
    with store.reading() as connection:
        groups = groups_by_entry(connection, _since(now, rules or default_rules()))
        return [(entry, groups.get(entry.id, [])) for entry in _entry_names(connection)]


_NAMES = (
    select(ENTRIES.id, ENTRIES.name, ENTRIES.factory, SITES.name, ENTRIES.resource)
    .join_from(tables.entries, tables.sites)
    .order_by(ENTRIES.name, ENTRIES.factory)
)
_NAMES_AT_SITE = _NAMES.where(ENTRIES.site_id == bindparam("site"))
_NAMED = _NAMES.where(
    or_(
        ENTRIES.name == bindparam("name"),
        (ENTRIES.name == bindparam("short")) & (ENTRIES.factory == bindparam("factory")),
    )
)


def find_entry(connection: Connection, name: str) -> EntryName:
    """The entry called NAME or NAME@FACTORY. Raises UnknownName, AmbiguousName."""
    name = storable(name)
    short, at, factory = name.rpartition("@")
    known = _entry_names(connection, _NAMED, {"name": name, "short": short if at else name, "factory": factory})
    found = [entry for entry in known if entry.name == name] or known
    if not found:
        raise UnknownName("entry", name, connection.scalars(select(ENTRIES.name)))
    if len(found) > 1:
        raise AmbiguousName("entry", name, [f"{entry.name}@{entry.factory}" for entry in found])
    return found[0]


def _entry_names(
    connection: Connection, query: Select[Any] = _NAMES, values: Mapping[str, Any] | None = None
) -> list[EntryName]:
    return [EntryName(*row) for row in connection.execute(query, values)]


def _entry_summaries(
    connection: Connection, now: datetime, rules: Rules, site_id: int | None = None
) -> tuple[EntrySummary, ...]:
    entries = _entry_names(connection, *(() if site_id is None else (_NAMES_AT_SITE, {"site": site_id})))
    groups = groups_by_entry(connection, _since(now, rules), site_id)
    ever = seen_by_entry(connection, site_id)
    overview = _Overview(rules)
    summaries = [
        EntrySummary(
            name=entry.name,
            factory=entry.factory,
            site=entry.site,
            resource=entry.resource,
            freshness=_freshness(groups.get(entry.id, []), ever.get(entry.id, NOTHING_SEEN)),
            verdicts=overview.of(groups.get(entry.id, [])),
        )
        for entry in entries
    ]
    return tuple(summaries)


def _seen_at(connection: Connection, node_id: int) -> tuple[NodeSeen, ...]:
    query = (
        select(
            ENTRIES.name,
            ENTRIES.factory,
            SITES.name,
            ENTRIES.resource,
            OBSERVED.first_seen,
            OBSERVED.created_at,
            OBSERVED["count"],
        )
        .select_from(tables.observations)
        .join(tables.entries)
        .join(tables.sites)
        .where(OBSERVED.node_id == node_id)
        .order_by(OBSERVED.created_at.desc())
    )
    return tuple(NodeSeen(*row[:4], moment(row[4]), moment(row[5]), row[6]) for row in connection.execute(query))


def _since(now: datetime, rules: Rules) -> int:
    """The begin of the window: of a UTC day, because counts are kept by day."""
    first = now.astimezone(UTC) - timedelta(days=rules.window_days)
    return microseconds(first.replace(hour=0, minute=0, second=0, microsecond=0))


def _freshness(groups: Sequence[NodeGroup], ever: Seen) -> Freshness:
    newest = None if ever.newest is None else moment(ever.newest)
    return Freshness(sum(group.nodes for group in groups), ever.nodes, ever.reports, newest)


class _Overview:
    """Judges the capabilities of the overview, for one site or entry after the other."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._wanted = [capability for name in rules.overview if (capability := rules.capability(name))]
        self._answers = Answers()

    def of(self, groups: Sequence[NodeGroup]) -> tuple[Verdict, ...]:
        return tuple(judge(capability, groups, self._rules, self._answers) for capability in self._wanted)


def _image_verdicts(counts: Iterable[ImageCount], rules: Rules) -> tuple[ImageVerdict, ...]:
    by_ref: dict[str, list[ImageCount]] = {}
    for count in counts:
        by_ref.setdefault(count.ref, []).append(count)
    return tuple(_image_verdict(ref, by_ref[ref], rules) for ref in sorted(by_ref))


def _image_verdict(ref: str, counts: Sequence[ImageCount], rules: Rules) -> ImageVerdict:
    tally = Tally()
    for count in counts:
        tally.add(rules.image_answers.get(count.status, "unknown"), count.reason, count.nodes)
    return ImageVerdict(
        ref=ref,
        answer=tally.answer(rules),
        nodes_yes=tally.nodes["yes"],
        nodes_no=tally.nodes["no"],
        nodes_unknown=tally.nodes["unknown"],
        newest=moment(max(count.newest for count in counts)),
        reasons=tally.reasons(),
    )


def example_of(store: Store, evidence: Evidence) -> Example:
    """A piece of evidence with what its report says at that place."""
    raw = store.raw_report(UUID(evidence.report_id).bytes) if evidence.report_id else None
    if raw is None:
        return Example(evidence, None)
    place = find(json.loads(raw), evidence.found[:-1])
    check = {name: place[name] for name in _TELLING if name in place} if isinstance(place, Mapping) else None
    return Example(evidence, storable_tree(check))
