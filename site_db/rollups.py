"""Kept counts of nodes: what makes lists of all sites and entries as fast with ten million reports as with ten.

Two scopes, entries and sites. In each a node stands in exactly one place: the UTC day and the profile of its newest
report there. `*_counts` says how many stand in each place, `*_totals` what was ever seen. A batch of reports moves its
nodes: the places before and after it are read from `observations`, and the difference is applied.

`daily_nodes` is history: how many nodes of an entry showed a profile in their last report of a day. Kept for ever.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, bindparam, case, delete, func, insert, select
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.sql.elements import ColumnElement

from site_db import tables
from site_db.dialects import insert_of, portions

DAY_MICROSECONDS = 86_400_000_000
_OBSERVED = tables.observations.c

Row = dict[str, Any]


class Observed(NamedTuple):
    """One row of `observations`, with the site of its entry."""

    entry_id: int
    node_id: int
    profile_id: int
    created_at: int
    reports: int
    report: int | None
    site_id: int

    @property
    def day(self) -> int:
        """The UTC day of the newest report, counted from 1970."""
        return self.created_at // DAY_MICROSECONDS


class Place(NamedTuple):
    """Where a node stands in a scope: its newest report there, and how many it sent."""

    day: int
    profile_id: int
    created_at: int
    report: int | None
    reports: int


class _Scope(NamedTuple):
    counts: Table
    totals: Table
    column: str
    of: Callable[[Observed], int]


_SCOPES = (
    _Scope(tables.entry_counts, tables.entry_totals, "entry_id", lambda row: row.entry_id),
    _Scope(tables.site_counts, tables.site_totals, "site_id", lambda row: row.site_id),
)


def day_of(microseconds_since_1970: int) -> int:
    """The UTC day of a time."""
    return microseconds_since_1970 // DAY_MICROSECONDS


def observed(connection: Connection, node_ids: Iterable[int]) -> list[Observed]:
    """Everything that is observed of these nodes."""
    columns = [_OBSERVED[name] for name in ("entry_id", "node_id", "profile_id", "created_at", "count", "report")]
    found = []
    for portion in portions(sorted(node_ids)):
        query = (
            select(*columns, tables.entries.c.site_id)
            .join_from(tables.observations, tables.entries)
            .where(_OBSERVED.node_id.in_(portion))
        )
        found += [Observed._make(row) for row in connection.execute(query)]
    return found


def move(connection: Connection, before: Sequence[Observed], after: Sequence[Observed]) -> None:
    """Bring the counts from what was observed of some nodes before a batch to what is observed after it."""
    for scope in _SCOPES:
        old, new = _places(before, scope.of), _places(after, scope.of)
        changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        _move_counts(connection, scope, [(key[0], old.get(key), new.get(key)) for key in changed])
        _move_totals(connection, scope, [(key[0], old.get(key), new.get(key)) for key in changed])


def add_daily(connection: Connection, before: Iterable[Observed], rows: Iterable[Row]) -> None:
    """Count the nodes of new `rows` of reports for their days.

    A report of a day before the node's newest report does not count: which profile it would replace is not known.
    """
    newest = {(row.entry_id, row.node_id): (row.created_at, row.profile_id) for row in before}
    deltas: Counter[tuple[int, int, int]] = Counter()
    for row in sorted(rows, key=lambda row: (row["created_at"], row["report_id"])):
        key, day = (row["entry_id"], row["node_id"]), day_of(row["created_at"])
        earlier_at, earlier_profile = newest.get(key, (-1, 0))
        if row["created_at"] < earlier_at:
            continue
        if day_of(earlier_at) == day:
            deltas[row["entry_id"], day, earlier_profile] -= 1
        deltas[row["entry_id"], day, row["profile_id"]] += 1
        newest[key] = row["created_at"], row["profile_id"]
    keys = sorted(key for key, delta in deltas.items() if delta)
    values = [{"entry_id": key[0], "day": key[1], "profile_id": key[2], "nodes": deltas[key]} for key in keys]
    _execute_all(connection, _add_daily_nodes(connection.dialect.name), values)
    _drop_empty(connection, tables.daily_nodes, [value for value in values if value["nodes"] < 0])


def rebuild(connection: Connection) -> None:
    """Make all kept counts of nodes anew from the observations."""
    for scope in _SCOPES:
        key = tables.entries.c.id if scope.column == "entry_id" else tables.entries.c.site_id
        within = [key, _OBSERVED.node_id]
        newest = (
            select(
                key.label("scope"),
                (_OBSERVED.created_at // DAY_MICROSECONDS).label("day"),
                _OBSERVED.profile_id,
                _OBSERVED.created_at,
                _OBSERVED.report,
                func.sum(_OBSERVED["count"]).over(partition_by=within).label("reports"),
                func.row_number()
                .over(partition_by=within, order_by=[_OBSERVED.created_at.desc(), _OBSERVED.entry_id])
                .label("place"),
            )
            .join_from(tables.observations, tables.entries)
            .subquery()
        )
        standing = newest.c
        where = (standing.day, standing.scope, standing.profile_id)
        times = (func.min(standing.created_at), func.max(standing.created_at))
        counts = select(*where, func.count(), *times, func.max(standing.report))
        totals = select(standing.scope, func.count(), func.sum(standing.reports), func.max(standing.created_at))
        for table, query in ((scope.counts, counts.group_by(*where)), (scope.totals, totals.group_by(standing.scope))):
            connection.execute(delete(table))
            names = [column.name for column in table.columns]
            connection.execute(insert(table).from_select(names, query.where(standing.place == 1)))


def _places(rows: Iterable[Observed], scope_of: Callable[[Observed], int]) -> dict[tuple[int, int], Place]:
    """Where each (scope, node) stands."""
    newest: dict[tuple[int, int], Observed] = {}
    reports: Counter[tuple[int, int]] = Counter()
    for row in rows:
        key = (scope_of(row), row.node_id)
        reports[key] += row.reports
        best = newest.get(key)
        if best is None or (row.created_at, -row.entry_id) > (best.created_at, -best.entry_id):
            newest[key] = row
    return {
        key: Place(row.day, row.profile_id, row.created_at, row.report, reports[key]) for key, row in newest.items()
    }


Moved = tuple[int, Place | None, Place | None]


def _move_counts(connection: Connection, scope: _Scope, moved: Iterable[Moved]) -> None:
    rows: dict[tuple[int, int, int], Row] = {}
    for scope_id, old, new in moved:
        for place, nodes in ((old, -1), (new, 1)):
            if place:
                _add_to_place(rows, (place.day, scope_id, place.profile_id), place, nodes)
    names = ("day", scope.column, "profile_id")
    values = [{**dict(zip(names, key, strict=True)), **rows[key]} for key in sorted(rows)]
    _execute_all(connection, _add_counts(connection.dialect.name, scope), values)
    _drop_empty(connection, scope.counts, [value for value in values if value["nodes"] < 0])


def _add_to_place(rows: dict[tuple[int, int, int], Row], key: tuple[int, int, int], place: Place, nodes: int) -> None:
    row = rows.setdefault(
        key, {"nodes": 0, "oldest": place.created_at, "newest": place.created_at, "report": place.report}
    )
    row["nodes"] += nodes
    row["oldest"] = min(row["oldest"], place.created_at)
    if place.created_at >= row["newest"]:
        row.update(newest=place.created_at, report=place.report)


def _move_totals(connection: Connection, scope: _Scope, moved: Iterable[Moved]) -> None:
    rows: dict[int, Row] = {}
    for scope_id, old, new in moved:
        row = rows.setdefault(scope_id, {scope.column: scope_id, "nodes": 0, "reports": 0, "newest": 0})
        row["nodes"] += (new is not None) - (old is not None)
        row["reports"] += (new.reports if new else 0) - (old.reports if old else 0)
        row["newest"] = max(row["newest"], new.created_at if new else 0)
    values = [rows[key] for key in sorted(rows)]
    _execute_all(connection, _add_totals(connection.dialect.name, scope), values)
    _drop_empty(connection, scope.totals, [value for value in values if value["nodes"] < 0])


@cache
def _add_daily_nodes(dialect: str) -> Insert:
    statement = insert_of(dialect, tables.daily_nodes)
    return statement.on_conflict_do_update(
        index_elements=["entry_id", "day", "profile_id"],
        set_={"nodes": tables.daily_nodes.c.nodes + statement.excluded.nodes},
    )


@cache
def _add_counts(dialect: str, scope: _Scope) -> Insert:
    statement = insert_of(dialect, scope.counts)
    there, come = scope.counts.c, statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["day", scope.column, "profile_id"],
        set_={
            "nodes": there.nodes + come.nodes,
            "oldest": _least(there.oldest, come.oldest),
            "newest": _greatest(there.newest, come.newest),
            "report": case((come.newest >= there.newest, func.coalesce(come.report, there.report)), else_=there.report),
        },
    )


@cache
def _add_totals(dialect: str, scope: _Scope) -> Insert:
    statement = insert_of(dialect, scope.totals)
    there, come = scope.totals.c, statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[scope.column],
        set_={
            "nodes": there.nodes + come.nodes,
            "reports": there.reports + come.reports,
            "newest": _greatest(there.newest, come.newest),
        },
    )


def _drop_empty(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    statement = delete(table).where(*(table.c[name] == bindparam(f"of_{name}") for name in keys), table.c.nodes <= 0)
    _execute_all(connection, statement, [{f"of_{name}": row[name] for name in keys} for row in rows])


def _execute_all(connection: Connection, statement: Any, rows: Sequence[Row]) -> None:  # noqa: ANN401 - any insert
    if rows:
        connection.execute(statement, rows)


def _least(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((one <= other, one), else_=other)


def _greatest(one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((one >= other, one), else_=other)
