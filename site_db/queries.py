"""The queries behind the views. They read observations (one row for each entry and node), never all reports.

A scope is an SQL condition on `entries` or `observations`. Within one, a node counts once, with its newest report,
however many entries it was seen under.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ColumnElement, Connection, Subquery, func, null, select, true

from site_db import tables
from site_db.times import moment
from site_db.verdicts import NodeGroup

ENTRIES, SITES, NODES, OBSERVED = tables.entries.c, tables.sites.c, tables.nodes.c, tables.observations.c
_PROFILES, _REPORTS = tables.profiles.c, tables.reports.c
_IMAGES, _IMAGE_OBSERVED = tables.images.c, tables.image_observations.c

# Well below SQLite's 32,766 variables.
_IDS_AT_ONCE = 1000


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


def node_groups(
    connection: Connection, since: int, scope: ColumnElement[bool] | None = None, by: ColumnElement[Any] | None = None
) -> dict[Any, list[NodeGroup]]:
    """The nodes that reported since then (microseconds), by profile; the largest group first.

    `scope` limits them; `by` (a column of `entries`) splits them: the result maps each of its values to its groups, and
    a node counts once for each value. Without `by` the only key is None.
    """
    newest = _newest_of_each_node(since, scope, by)
    columns = newest.c
    grouped = (
        select(
            columns.key,
            columns.profile_id,
            func.count().label("nodes"),
            func.min(columns.created_at).label("oldest"),
            func.max(columns.created_at).label("newest"),
            func.max(columns.report).label("report"),
        )
        .where(columns.rank == 1)
        .group_by(columns.key, columns.profile_id)
        .subquery()
    )
    query = select(grouped, _REPORTS.report_id).outerjoin(tables.reports, grouped.c.report == _REPORTS.id)
    rows = connection.execute(query).all()
    profiles = _profiles(connection, {row.profile_id for row in rows})
    groups: dict[Any, list[NodeGroup]] = {}
    for row in rows:
        fingerprint, profile = profiles[row.profile_id]
        report_id = None if row.report_id is None else str(UUID(bytes=bytes(row.report_id)))
        group = NodeGroup(fingerprint, profile, row.nodes, moment(row.oldest), moment(row.newest), report_id)
        groups.setdefault(row.key, []).append(group)
    for found in groups.values():
        found.sort(key=lambda group: (-group.nodes, group.fingerprint))
    return groups


def seen(
    connection: Connection, by: ColumnElement[Any], scope: ColumnElement[bool] | None = None
) -> dict[Any, Seen]:
    """What was ever seen, for each value of `by` (a column of `entries`)."""
    query = (
        select(
            by,
            func.count(OBSERVED.node_id.distinct()),
            func.sum(OBSERVED["count"]),
            func.max(OBSERVED.created_at),
        )
        .join_from(tables.observations, tables.entries)
        .where(true() if scope is None else scope)
        .group_by(by)
    )
    return {row[0]: Seen(row[1], int(row[2]), row[3]) for row in connection.execute(query)}


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


def _newest_of_each_node(since: int, scope: ColumnElement[bool] | None, by: ColumnElement[Any] | None) -> Subquery:
    key = (null() if by is None else by).label("key")
    rank = func.row_number().over(
        partition_by=[*([] if by is None else [by]), OBSERVED.node_id],
        order_by=[OBSERVED.created_at.desc(), OBSERVED.entry_id],
    )
    return (
        select(key, OBSERVED.profile_id, OBSERVED.created_at, OBSERVED.report, rank.label("rank"))
        .join_from(tables.observations, tables.entries)
        .where(OBSERVED.created_at >= since, true() if scope is None else scope)
        .subquery()
    )


def _profiles(connection: Connection, ids: Iterable[int]) -> dict[int, tuple[str, dict[str, Any]]]:
    wanted = sorted(ids)
    profiles = {}
    for start in range(0, len(wanted), _IDS_AT_ONCE):
        query = select(tables.profiles).where(_PROFILES.id.in_(wanted[start : start + _IDS_AT_ONCE]))
        for row in connection.execute(query):
            profiles[row.id] = (row.fingerprint, orjson.loads(row.document))
    return profiles
