"""What fails at a site, an entry, or a node, by cause: each reason once, with all that it takes away, where, since when.

A verdict is about one capability; who mends a node asks the other way round: one cause takes many capabilities away.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, select

from site_db import tables
from site_db.changes_views import Change, Wanted, list_changes
from site_db.images.fleet import reports_since
from site_db.queries import ENTRIES, NODES, OBSERVED, SITES, groups_by_site, newest_group, node_groups
from site_db.reasons import Reason, explain_reason
from site_db.rules import Capability, Rules, default_rules
from site_db.site_reports import EntryReport, Example, NodeReport, SiteReport, SiteReportPart
from site_db.store import Store
from site_db.verdicts import Evidence, NodeGroup, answer_of
from site_db.views import example_of

_HOSTS_NAMED = 10
_GROUPS_ASKED = 200  # of one cause: what is bound in one statement has a limit on SQLite
_EXAMPLES = 2
_FAMILY_OF_CVMFS = "cvmfs:"


@dataclass(frozen=True)
class Loss:
    """One capability that a cause takes away, from so many nodes."""

    capability: str
    title: str
    nodes: int


@dataclass(frozen=True)
class Cause(SiteReportPart):
    """One reason on `nodes` of `of_nodes` recent nodes, with everything that it takes away from them.

    `main`: it takes away what the rules' overview shows, or a CVMFS repository; other capabilities may be missing on
    purpose. `since` and `first_node`: of the change that was seen at the entry; None: no change was seen. `hosts`: some of
    the nodes.
    """

    reason: Reason | None
    main: bool
    nodes: int
    of_nodes: int
    losses: tuple[Loss, ...]
    hosts: tuple[str, ...]
    since: datetime | None
    first_node: str | None
    newest: datetime
    examples: tuple[Example, ...]


def site_causes(store: Store, site: SiteReport, rules: Rules | None = None) -> tuple[Cause, ...]:
    """What fails at a site, the main causes first. Raises UnknownName where the site is gone since."""
    rules = rules or default_rules()
    since = reports_since(site.generated_at, rules)
    with store.reading() as connection:
        number = connection.scalar(select(SITES.id).where(SITES.name == site.name)) or 0
        groups = groups_by_site(connection, since, number).get(number, [])
        scope = OBSERVED.entry_id.in_(select(ENTRIES.id).where(ENTRIES.site_id == number))
        found = _found(connection, groups, scope & (OBSERVED.created_at >= since), rules)
    return _told(store, found, list_changes(store, site.generated_at, Wanted(site=site.name), rules).changes)


def entry_causes(store: Store, entry: EntryReport, rules: Rules | None = None) -> tuple[Cause, ...]:
    """What fails at an entry, the main causes first."""
    rules = rules or default_rules()
    since = reports_since(entry.generated_at, rules)
    with store.reading() as connection:
        named = (ENTRIES.name == entry.name) & (ENTRIES.factory == entry.factory)
        scope = OBSERVED.entry_id.in_(select(ENTRIES.id).where(named))
        groups = node_groups(connection, since, scope)
        found = _found(connection, groups, scope & (OBSERVED.created_at >= since), rules)
    changes = list_changes(store, entry.generated_at, Wanted(entry=entry.name), rules).changes
    return _told(store, found, [change for change in changes if change.factory == entry.factory])


def node_causes(store: Store, node: NodeReport, rules: Rules | None = None) -> tuple[Cause, ...]:
    """What fails on a node by its newest report. `since` is the change that its entries show, whichever node began it."""
    rules = rules or default_rules()
    with store.reading() as connection:
        number = connection.scalar(select(NODES.id).where(NODES.machine_id == node.machine_id)) or 0
        found = _found(connection, [newest_group(connection, number)], OBSERVED.node_id == number, rules)
    entries = {(seen.entry, seen.factory) for seen in node.seen}
    changes = [
        change
        for name in sorted({name for name, _ in entries})
        for change in list_changes(store, node.generated_at, Wanted(entry=name), rules).changes
        if (change.entry, change.factory) in entries
    ]
    return _told(store, found, changes)


@dataclass
class _Found:
    """A cause before it is told: the groups that have it, and its capabilities with the groups of each."""

    code: str | None
    main: bool
    of_nodes: int
    groups: list[NodeGroup]
    lost: dict[Capability, list[NodeGroup]]
    hosts: tuple[str, ...]


def _found(
    connection: Connection, groups: Sequence[NodeGroup], scope: ColumnElement[bool], rules: Rules
) -> list[_Found]:
    total = sum(group.nodes for group in groups)
    lost: dict[str | None, dict[Capability, list[NodeGroup]]] = {}
    for group in groups:
        for capability in _members(group, rules):
            answer, reason = answer_of(group.profile, capability)
            if answer == "no":
                lost.setdefault(reason, {}).setdefault(capability, []).append(group)
    found = []
    for code, capabilities in lost.items():
        having = list({group.fingerprint: group for some in capabilities.values() for group in some}.values())
        main = any(_is_main(capability, rules) for capability in capabilities)
        found.append(_Found(code, main, total, having, capabilities, _hosts(connection, having, scope)))
    return sorted(found, key=lambda item: (not item.main, -sum(group.nodes for group in item.groups), item.code or ""))


def _members(group: NodeGroup, rules: Rules) -> Iterable[Capability]:
    return (capability for row in rules.capabilities for capability in row.members(group.profile))


def _is_main(capability: Capability, rules: Rules) -> bool:
    return capability.name in rules.overview or capability.name.startswith(_FAMILY_OF_CVMFS)


def _hosts(connection: Connection, groups: Sequence[NodeGroup], scope: ColumnElement[bool]) -> tuple[str, ...]:
    fingerprints = [group.fingerprint for group in groups[:_GROUPS_ASKED]]
    query = (
        select(NODES.hostname)
        .select_from(tables.observations)
        .join(tables.nodes)
        .join(tables.profiles)
        .where(scope, tables.profiles.c.fingerprint.in_(fingerprints))
        .distinct()
        .order_by(NODES.hostname)
        .limit(_HOSTS_NAMED)
    )
    return tuple(connection.scalars(query))


def _told(store: Store, found: Iterable[_Found], changes: Sequence[Change]) -> tuple[Cause, ...]:
    return tuple(_cause(store, item, changes) for item in found)


def _cause(store: Store, item: _Found, changes: Sequence[Change]) -> Cause:
    change = _beginning(item, changes)
    pieces = [
        Evidence(groups[0].report_id, capability.found, "no", item.code, sum(group.nodes for group in groups))
        for capability, groups in list(item.lost.items())[:_EXAMPLES]
    ]
    losses = [
        Loss(capability.name, capability.title, sum(group.nodes for group in groups))
        for capability, groups in item.lost.items()
    ]
    return Cause(
        reason=explain_reason(item.code) if item.code else None,
        main=item.main,
        nodes=sum(group.nodes for group in item.groups),
        of_nodes=item.of_nodes,
        losses=tuple(losses),
        hosts=item.hosts,
        since=change.since if change else None,
        first_node=change.first_node if change else None,
        newest=max(group.newest for group in item.groups),
        examples=tuple(example_of(store, piece) for piece in pieces),
    )


def _beginning(item: _Found, changes: Sequence[Change]) -> Change | None:
    """The earliest change that took one of these capabilities away and still lasts; of the same reason if there is one."""
    names = {capability.name for capability in item.lost}
    lasting = [
        change
        for change in changes
        if change.direction == "lost" and change.state != "closed" and change.capability in names
    ]
    same = [change for change in lasting if change.reason == item.code]
    return min(same or lasting, key=lambda change: change.since, default=None)
