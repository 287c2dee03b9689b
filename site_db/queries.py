"""The queries behind the views. None reads all reports: lists of sites and entries read the kept counts (rollups.py),
what is said of one entry or node its observations.

In a scope (an entry, a site) a node counts once, with its newest report there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import BindParameter, Column, ColumnElement, Connection, Select, bindparam, func, null, select
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from site_db import tables
from site_db.dialects import portions
from site_db.profiles import parsed
from site_db.rollups import day_of
from site_db.times import moment
from site_db.verdicts import NodeGroup

ENTRIES, SITES, NODES, OBSERVED = tables.entries.c, tables.sites.c, tables.nodes.c, tables.observations.c
_PROFILES, _REPORTS = tables.profiles.c, tables.reports.c
_ENTRY_COUNTS, _SITE_COUNTS = tables.entry_counts.c, tables.site_counts.c
_ENTRY_TOTALS, _SITE_TOTALS = tables.entry_totals.c, tables.site_totals.c
_IMAGES, _IMAGE_OBSERVED = tables.images.c, tables.image_observations.c


@dataclass(frozen=True)
class ImageCount:
    """On how many nodes an image had this outcome; `newest` in microseconds."""

    ref: str
    status: str
    reason: str | None
    nodes: int
    newest: int


@dataclass(frozen=True)
class Seen:
    """What was ever seen under one site or entry: nodes, their reports, the newest report's time (microseconds)."""

    nodes: int
    reports: int
    newest: int | None


NOTHING_SEEN = Seen(0, 0, None)


# Statements are made once, and given their values: to make one takes longer than the database takes to carry it out.
_SINCE: BindParameter[int] = bindparam("since")
_SCOPE: BindParameter[int] = bindparam("scope")


def _with_reports(counted: Select[tuple[Any, ...]]) -> Select[tuple[Any, ...]]:
    """Groups (key, profile_id, nodes, oldest, newest, report) with the id of each one's example report."""
    found = counted.subquery()
    return select(found, _REPORTS.report_id).outerjoin(tables.reports, found.c.report == _REPORTS.id)


def _observed(*scope: ColumnElement[bool]) -> Select[tuple[Any, ...]]:
    """Groups of what was observed in a scope."""
    counted = (
        select(
            null().label("key"),
            OBSERVED.profile_id,
            func.count().label("nodes"),
            func.min(OBSERVED.created_at).label("oldest"),
            func.max(OBSERVED.created_at).label("newest"),
            func.max(OBSERVED.report).label("report"),
        )
        .where(OBSERVED.created_at >= _SINCE, *scope)
        .group_by(OBSERVED.profile_id)
    )
    return _with_reports(counted)


def _counted(
    counts: ReadOnlyColumnCollection[str, Column[Any]], key: Column[Any], *scope: ColumnElement[bool]
) -> Select[tuple[Any, ...]]:
    """Groups of the kept counts, by `key`."""
    counted = (
        select(
            key.label("key"),
            counts.profile_id,
            func.sum(counts.nodes).label("nodes"),
            func.min(counts.oldest).label("oldest"),
            func.max(counts.newest).label("newest"),
            func.max(counts.report).label("report"),
        )
        .where(counts.day >= _SINCE, *scope)
        .group_by(key, counts.profile_id)
    )
    return _with_reports(counted)


_OF_SITE_ENTRIES = _ENTRY_COUNTS.entry_id.in_(select(ENTRIES.id).where(ENTRIES.site_id == _SCOPE))
_GROUPS_OF_ENTRY = _observed(OBSERVED.entry_id == _SCOPE)
_GROUPS_BY_ENTRY = _counted(_ENTRY_COUNTS, _ENTRY_COUNTS.entry_id)
_GROUPS_BY_ENTRY_AT_SITE = _counted(_ENTRY_COUNTS, _ENTRY_COUNTS.entry_id, _OF_SITE_ENTRIES)
_GROUPS_BY_SITE = _counted(_SITE_COUNTS, _SITE_COUNTS.site_id)
_GROUPS_AT_SITE = _counted(_SITE_COUNTS, _SITE_COUNTS.site_id, _SITE_COUNTS.site_id == _SCOPE)


def node_groups(connection: Connection, since: int, scope: ColumnElement[bool]) -> list[NodeGroup]:
    """The nodes in `scope` (a condition on `observations`) that reported since then, by profile; the largest first.

    Exact down to the example report; for a scope that holds each node once: an entry. For a node: its newest report.
    """
    return _groups(connection, _observed(scope), since).get(None, [])


def groups_of_entry(connection: Connection, since: int, entry_id: int) -> list[NodeGroup]:
    """The same for one entry."""
    return _groups(connection, _GROUPS_OF_ENTRY, since, entry_id).get(None, [])


def newest_group(connection: Connection, node_id: int) -> NodeGroup:
    """The newest report of one node, wherever it was seen."""
    newest = select(func.max(OBSERVED.created_at)).where(OBSERVED.node_id == node_id).scalar_subquery()
    found = node_groups(connection, 0, (OBSERVED.node_id == node_id) & (OBSERVED.created_at == newest))
    return replace(found[0], nodes=1)


def groups_by_entry(connection: Connection, since: int, site_id: int | None = None) -> dict[int, list[NodeGroup]]:
    """The recent nodes of every entry (of one site) by profile, from the kept counts; `since` begins a UTC day."""
    query = _GROUPS_BY_ENTRY if site_id is None else _GROUPS_BY_ENTRY_AT_SITE
    return _groups(connection, query, day_of(since), site_id)


def groups_by_site(connection: Connection, since: int, site_id: int | None = None) -> dict[int, list[NodeGroup]]:
    """The recent nodes of every site (or of one) by profile, from the kept counts; `since` begins a UTC day.

    The example of a group is the newest report that was counted in it; its node may have reported otherwise since.
    """
    query = _GROUPS_BY_SITE if site_id is None else _GROUPS_AT_SITE
    return _groups(connection, query, day_of(since), site_id)


_ENTRIES_SEEN, _SITES_SEEN = select(tables.entry_totals), select(tables.site_totals)
_ENTRY_SEEN = _ENTRIES_SEEN.where(_ENTRY_TOTALS.entry_id == _SCOPE)
_ENTRIES_SEEN_AT_SITE = _ENTRIES_SEEN.where(
    _ENTRY_TOTALS.entry_id.in_(select(ENTRIES.id).where(ENTRIES.site_id == _SCOPE))
)
_SITE_SEEN = _SITES_SEEN.where(_SITE_TOTALS.site_id == _SCOPE)


def seen_of_entry(connection: Connection, entry_id: int) -> Seen:
    """What was ever seen under one entry."""
    return _seen(connection, _ENTRY_SEEN, entry_id).get(entry_id, NOTHING_SEEN)


def seen_by_entry(connection: Connection, site_id: int | None = None) -> dict[int, Seen]:
    """What was ever seen under every entry (of one site)."""
    return _seen(connection, _ENTRIES_SEEN if site_id is None else _ENTRIES_SEEN_AT_SITE, site_id)


def seen_by_site(connection: Connection, site_id: int | None = None) -> dict[int, Seen]:
    """What was ever seen under every site (or this one)."""
    return _seen(connection, _SITES_SEEN if site_id is None else _SITE_SEEN, site_id)


def _seen(connection: Connection, query: Select[tuple[Any, ...]], scope: int | None) -> dict[int, Seen]:
    return {row[0]: Seen(*row[1:]) for row in connection.execute(query, _values(scope=scope))}


def _tried(nodes: Select[tuple[int]]) -> Select[tuple[Any, ...]]:
    """The outcomes of images on these nodes."""
    return (
        select(
            _IMAGES.ref,
            _IMAGE_OBSERVED.status,
            _IMAGE_OBSERVED.reason,
            func.count(),
            func.max(_IMAGE_OBSERVED.created_at),
        )
        .join_from(tables.image_observations, tables.images)
        .where(_IMAGE_OBSERVED.created_at >= _SINCE, _IMAGE_OBSERVED.node_id.in_(nodes))
        .group_by(_IMAGES.ref, _IMAGE_OBSERVED.status, _IMAGE_OBSERVED.reason)
    )


_SEEN_NODES = select(OBSERVED.node_id)
_IMAGES_OF: Mapping[Literal["site", "entry", "node"], Select[tuple[Any, ...]]] = {
    "site": _tried(_SEEN_NODES.join_from(tables.observations, tables.entries).where(ENTRIES.site_id == _SCOPE)),
    "entry": _tried(_SEEN_NODES.where(OBSERVED.entry_id == _SCOPE)),
    "node": _tried(select(NODES.id).where(NODES.id == _SCOPE)),
}


def images(
    connection: Connection, since: int, scope: Literal["site", "entry", "node"], number: int
) -> list[ImageCount]:
    """The outcomes of images since then on the nodes of one site or entry, or on one node."""
    rows = connection.execute(_IMAGES_OF[scope], {"since": since, "scope": number})
    return [ImageCount(*row) for row in rows]


def _values(**given: int | None) -> dict[str, int]:
    return {name: value for name, value in given.items() if value is not None}


def _groups(
    connection: Connection, query: Select[tuple[Any, ...]], since: int, scope: int | None = None
) -> dict[Any, list[NodeGroup]]:
    """Groups by key, the largest first."""
    rows = connection.execute(query, _values(since=since, scope=scope)).all()
    profiles = _profiles(connection, {row[1] for row in rows})
    groups: dict[Any, list[NodeGroup]] = {}
    for key, profile_id, nodes, oldest, newest, _, identity in rows:
        fingerprint, profile = profiles[profile_id]
        report_id = None if identity is None else _uuid_text(bytes(identity))
        group = NodeGroup(fingerprint, profile, int(nodes), moment(oldest), moment(newest), report_id)
        groups.setdefault(key, []).append(group)
    for each in groups.values():
        each.sort(key=lambda group: (-group.nodes, group.fingerprint))
    return groups


def _uuid_text(identity: bytes) -> str:
    digits = identity.hex()  # uuid.UUID takes ten times as long, and a list of sites shows thousands
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_PROFILES_OF = select(_PROFILES.id, _PROFILES.fingerprint, _PROFILES.document).where(
    _PROFILES.id.in_(bindparam("ids", expanding=True))
)


def _profiles(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[str, dict[str, Any]]]:
    profiles = {}
    for portion in portions(sorted(ids)):
        for number, fingerprint, document in connection.execute(_PROFILES_OF, {"ids": portion}):
            profiles[number] = (fingerprint, parsed(document))
    return profiles
