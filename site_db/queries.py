"""The queries behind the views. None reads all reports: lists of sites and entries read the kept counts (rollups.py),
what is said of one entry or node its observations.

In a scope (an entry, a site) a node counts once, with its newest report there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import Column, ColumnElement, Connection, Select, func, null, select, true
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from site_db import tables
from site_db.dialects import portions
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


def node_groups(connection: Connection, since: int, scope: ColumnElement[bool]) -> list[NodeGroup]:
    """The nodes in `scope` (a condition on `observations`) that reported since then, by profile; the largest first.

    Exact down to the example report; for a scope that holds each node once: an entry. For a node: its newest report.
    """
    query = (
        select(
            null().label("key"),
            OBSERVED.profile_id,
            func.count().label("nodes"),
            func.min(OBSERVED.created_at).label("oldest"),
            func.max(OBSERVED.created_at).label("newest"),
            func.max(OBSERVED.report).label("report"),
        )
        .where(OBSERVED.created_at >= since, scope)
        .group_by(OBSERVED.profile_id)
    )
    return _groups(connection, query).get(None, [])


def newest_group(connection: Connection, node_id: int) -> NodeGroup:
    """The newest report of one node, wherever it was seen."""
    newest = select(func.max(OBSERVED.created_at)).where(OBSERVED.node_id == node_id).scalar_subquery()
    found = node_groups(connection, 0, (OBSERVED.node_id == node_id) & (OBSERVED.created_at == newest))
    return replace(found[0], nodes=1)


def groups_by_entry(connection: Connection, since: int, site_id: int | None = None) -> dict[int, list[NodeGroup]]:
    """The recent nodes of every entry (of one site) by profile, from the kept counts; `since` begins a UTC day."""
    within = true() if site_id is None else _ENTRY_COUNTS.entry_id.in_(_entries_of(site_id))
    return _groups(connection, _counted(_ENTRY_COUNTS, _ENTRY_COUNTS.entry_id, since).where(within))


def groups_by_site(connection: Connection, since: int, site_id: int | None = None) -> dict[int, list[NodeGroup]]:
    """The recent nodes of every site (or of one) by profile, from the kept counts; `since` begins a UTC day.

    The example of a group is the newest report that was counted in it; its node may have reported otherwise since.
    """
    within = true() if site_id is None else _SITE_COUNTS.site_id == site_id
    return _groups(connection, _counted(_SITE_COUNTS, _SITE_COUNTS.site_id, since).where(within))


def seen_by_entry(connection: Connection, entry_ids: Sequence[int] | None = None) -> dict[int, Seen]:
    """What was ever seen under every entry (or these)."""
    within = true() if entry_ids is None else _ENTRY_TOTALS.entry_id.in_(entry_ids)
    return {row[0]: Seen(*row[1:]) for row in connection.execute(select(tables.entry_totals).where(within))}


def seen_by_site(connection: Connection, site_id: int | None = None) -> dict[int, Seen]:
    """What was ever seen under every site (or this one)."""
    within = true() if site_id is None else _SITE_TOTALS.site_id == site_id
    return {row[0]: Seen(*row[1:]) for row in connection.execute(select(tables.site_totals).where(within))}


def images(connection: Connection, since: int, scope: ColumnElement[bool]) -> list[ImageCount]:
    """The outcomes of images on the nodes in `scope` that tried them since then."""
    nodes = select(OBSERVED.node_id).join_from(tables.observations, tables.entries).where(scope)
    query = (
        select(
            _IMAGES.ref,
            _IMAGE_OBSERVED.status,
            _IMAGE_OBSERVED.reason,
            func.count(),
            func.max(_IMAGE_OBSERVED.created_at),
        )
        .join_from(tables.image_observations, tables.images)
        .where(_IMAGE_OBSERVED.created_at >= since, _IMAGE_OBSERVED.node_id.in_(nodes))
        .group_by(_IMAGES.ref, _IMAGE_OBSERVED.status, _IMAGE_OBSERVED.reason)
    )
    return [ImageCount(*row) for row in connection.execute(query)]


def _entries_of(site_id: int) -> Select[tuple[int]]:
    return select(ENTRIES.id).where(ENTRIES.site_id == site_id)


def _counted(
    counts: ReadOnlyColumnCollection[str, Column[Any]], key: Column[Any], since: int
) -> Select[tuple[Any, ...]]:
    return (
        select(
            key.label("key"),
            counts.profile_id,
            func.sum(counts.nodes).label("nodes"),
            func.min(counts.oldest).label("oldest"),
            func.max(counts.newest).label("newest"),
            func.max(counts.report).label("report"),
        )
        .where(counts.day >= day_of(since))
        .group_by(key, counts.profile_id)
    )


def _groups(connection: Connection, counted: Select[tuple[Any, ...]]) -> dict[Any, list[NodeGroup]]:
    """Groups by key from a query for key, profile_id, nodes, oldest, newest, report."""
    found = counted.subquery()
    query = select(found, _REPORTS.report_id).outerjoin(tables.reports, found.c.report == _REPORTS.id)
    rows = connection.execute(query).all()
    profiles = _profiles(connection, {row.profile_id for row in rows})
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


def _profiles(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[str, dict[str, Any]]]:
    profiles = {}
    for portion in portions(sorted(ids)):
        for row in connection.execute(select(tables.profiles).where(_PROFILES.id.in_(portion))):
            profiles[row.id] = (row.fingerprint, orjson.loads(row.document))
    return profiles
