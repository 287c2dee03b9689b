"""Recording reduced reports in the tables, inside a transaction that the caller holds.

Names that many reports share (sites, entries, nodes, profiles, images) are looked up first and inserted only where they
are missing, in sorted order: two collectors on one PostgreSQL that bring the same new names then wait for each other
instead of locking each other out, and in the ordinary case they don't meet at all. After that each locks its nodes, in
order; an entry's totals are the lock of its changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, case, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.sql.dml import ReturningInsert

from site_db import rollups, tables
from site_db.changes_recording import record_changes
from site_db.dialects import insert_for, insert_of, join_writers, portions
from site_db.images.recording import Tried, observe_images
from site_db.reduction import Reduced
from site_db.rules import Rules

Row = dict[str, Any]
Key = tuple[Any, ...]


def record(connection: Connection, batch: Iterable[Reduced], rules: Rules) -> set[bytes]:
    """Record those reports of `batch` (each report_id once) that are not there yet; returns their report_ids."""
    by_id = {(item.report_id,): item for item in batch}
    known = _find(connection, tables.reports, ["report_id"], by_id)
    items = [item for key, item in by_id.items() if key not in known]
    if not items:
        return set()
    moving = _entries_that_move(connection, items)
    join_writers(connection, alone=bool(moving))
    names = _Names(connection, items)
    touched = set(names.nodes.values()) | _nodes_of(connection, moving)
    _lock_nodes(connection, touched)
    before = rollups.observed(connection, touched)
    names.rename(connection, moving)
    rows = {item.report_id: names.row(item) for item in items}
    numbers = _insert_reports(connection, rows)
    # A report that another collector stored since we looked got no number here: it is that collector's.
    added = [item for item in items if item.report_id in numbers]
    new_rows = [{**rows[item.report_id], "report": numbers[item.report_id]} for item in added]
    if added:
        bodies = [{"report": numbers[item.report_id], "body": item.body} for item in added]
        connection.execute(tables.raw_reports.insert(), bodies)
        _observe(connection, new_rows)
        _observe_images(connection, [names.tried(item) for item in added])
    rollups.move(connection, before, rollups.observed(connection, touched))
    rollups.add_daily(connection, before, new_rows)
    record_changes(connection, before, new_rows, rules)
    return set(numbers)


class _Names:
    """The ids of what the reports of a batch name; what is missing is made."""

    def __init__(self, connection: Connection, items: Sequence[Reduced]) -> None:
        in_time = sorted(items, key=lambda item: (item.created_at, item.report_id))
        self._sites = _ids(connection, tables.sites, ["name"], {(item.site,): {} for item in items})
        documents: dict[Key, Row] = {(item.fingerprint,): {"document": item.document} for item in items}
        self._profiles = _ids(connection, tables.profiles, ["fingerprint"], documents)
        self._named: dict[Key, Row] = {
            _entry_key(item): {"site_id": self._sites[item.site,], "resource": item.resource} for item in in_time
        }
        self._entries = _ids(connection, tables.entries, ["factory", "name"], self._named)
        self._hosts: dict[Key, Row] = {
            (item.machine_id,): {"hostname": item.hostname, "derived": item.derived} for item in in_time
        }
        self.nodes = _ids(connection, tables.nodes, ["machine_id"], self._hosts)
        self._made_at: dict[Key, int] = {_entry_key(item): item.created_at for item in in_time}
        self._seen_at: dict[Key, int] = {(item.machine_id,): item.created_at for item in in_time}

    def rename(self, connection: Connection, moving: set[int]) -> None:
        """Let entries and nodes be called what their newest report says; only entries in `moving` change their site."""
        observed = tables.observations.c
        entries = _by_id(self._entries, self._named, self._made_at)
        for number, (names, _) in entries.items():
            if number not in moving:
                del names["site_id"]
        _rename(connection, tables.entries, observed.entry_id, entries)
        _rename(connection, tables.nodes, observed.node_id, _by_id(self.nodes, self._hosts, self._seen_at))

    def row(self, item: Reduced) -> Row:
        """The row of `reports` for one of the reports."""
        return {
            "report_id": item.report_id,
            "entry_id": self._entries[_entry_key(item)],
            "node_id": self.nodes[item.machine_id,],
            "profile_id": self._profiles[item.fingerprint,],
            "created_at": item.created_at,
            "received_at": item.received_at,
            "complete": item.complete,
        }

    def tried(self, item: Reduced) -> Tried:
        """The images of one of the reports, and where they were tried."""
        row = self.row(item)
        site_id = self._sites[item.site,]
        return Tried(row["node_id"], site_id, row["profile_id"], item.created_at, item.report_id, item.images)


def _entry_key(item: Reduced) -> Key:
    return item.factory, item.entry


def _entries_that_move(connection: Connection, items: Iterable[Reduced]) -> set[int]:
    """The ids of entries that some report puts at another site than they are at."""
    said: dict[Key, set[str]] = {}
    for item in items:
        said.setdefault(_entry_key(item), set()).add(item.site)
    entries, moving = tables.entries.c, set()
    for keys in portions(sorted(said)):
        query = (
            select(entries.factory, entries.name, entries.id, tables.sites.c.name)
            .join_from(tables.entries, tables.sites)
            .where(_one_of([entries.factory, entries.name], keys))
        )
        moving |= {row[2] for row in connection.execute(query) if said[row[0], row[1]] != {row[3]}}
    return moving


def _nodes_of(connection: Connection, entry_ids: set[int]) -> set[int]:
    if not entry_ids:
        return set()
    observed = tables.observations.c
    return set(connection.scalars(select(observed.node_id).where(observed.entry_id.in_(entry_ids))))


def _lock_nodes(connection: Connection, node_ids: Iterable[int]) -> None:
    """No two collectors count the same node at once. SQLite has but one writer."""
    if connection.dialect.name == "postgresql":
        nodes = tables.nodes.c
        for ids in portions(sorted(node_ids)):
            query = select(nodes.id).where(nodes.id.in_(ids)).order_by(nodes.id)
            connection.execute(query.with_for_update(key_share=True)).all()


def _insert_reports(connection: Connection, rows: Mapping[bytes, Row]) -> dict[bytes, int]:
    in_order = [rows[report_id] for report_id in sorted(rows)]
    found = connection.execute(_add_reports(connection.dialect.name), in_order)
    return {bytes(report_id): number for report_id, number in found}


@cache
def _add_reports(dialect: str) -> ReturningInsert[Any]:
    columns = tables.reports.c
    statement = insert_of(dialect, tables.reports).on_conflict_do_nothing(index_elements=["report_id"])
    return statement.returning(columns.report_id, columns.id)


def _observe(connection: Connection, rows: Iterable[Row]) -> None:
    """Keep one observation for each entry and node: the newest report's, whatever the order in which they come."""
    folded: dict[Key, Row] = {}
    for row in sorted(rows, key=lambda row: (row["created_at"], row["report_id"])):
        key = (row["entry_id"], row["node_id"])
        earlier = folded.get(key)
        folded[key] = {
            **{name: row[name] for name in ("entry_id", "node_id", "profile_id", "report", "created_at")},
            "first_seen": earlier["first_seen"] if earlier else row["created_at"],
            "count": earlier["count"] + 1 if earlier else 1,
        }
    connection.execute(_add_observations(connection.dialect.name), [folded[key] for key in sorted(folded)])


@cache
def _add_observations(dialect: str) -> Insert:
    statement = insert_of(dialect, tables.observations)
    there, come = tables.observations.c, statement.excluded
    newer = come.created_at >= there.created_at
    return statement.on_conflict_do_update(
        index_elements=["entry_id", "node_id"],
        set_={
            **{name: case((newer, come[name]), else_=there[name]) for name in ("profile_id", "report", "created_at")},
            "first_seen": case((come.first_seen < there.first_seen, come.first_seen), else_=there.first_seen),
            "count": there["count"] + come["count"],
        },
    )


def _observe_images(connection: Connection, tried: Sequence[Tried]) -> None:
    refs: dict[Key, Row] = {(image.ref_sha256,): {"ref": image.ref} for one in tried for image in one.images}
    if refs:
        numbers = _ids(connection, tables.images, ["ref_sha256"], refs)
        observe_images(connection, tried, {key[0]: number for key, number in numbers.items()})


def _rename(connection: Connection, table: Table, observed: Column[int], wanted: Mapping[int, tuple[Row, int]]) -> None:
    """Give rows of `table` the names in `wanted` (id: names, time), unless a newer report has named them otherwise."""
    for ids in portions(sorted(wanted)):
        # In order of id: two collectors that rename the same rows must not lock each other out.
        query = select(table).where(table.c.id.in_(ids)).order_by(table.c.id)
        for row in connection.execute(query).mappings().all():
            names, created_at = wanted[row["id"]]
            if all(row[name] == value for name, value in names.items()):
                continue
            newest = connection.scalar(
                select(func.max(tables.observations.c.created_at)).where(observed == row["id"])
            )
            if newest is None or newest <= created_at:
                connection.execute(update(table).where(table.c.id == row["id"]).values(names))


def _by_id(ids: Mapping[Key, int], names: Mapping[Key, Row], times: Mapping[Key, int]) -> dict[int, tuple[Row, int]]:
    return {ids[key]: (dict(names[key]), times[key]) for key in names}


def _ids(connection: Connection, table: Table, columns: list[str], rows: Mapping[Key, Row]) -> dict[Key, int]:
    """The ids of rows of `table` by their unique `columns`; a row that is missing is inserted."""
    found = _find(connection, table, columns, rows)
    missing = sorted(key for key in rows if key not in found)
    if missing:
        statement = insert_for(connection, table).on_conflict_do_nothing(index_elements=columns)
        new_rows = [{**dict(zip(columns, key, strict=True)), **rows[key]} for key in missing]
        connection.execute(statement, new_rows)
        found |= _find(connection, table, columns, missing)
    return found


def _find(connection: Connection, table: Table, columns: list[str], keys: Iterable[Key]) -> dict[Key, int]:
    key_columns = [table.c[name] for name in columns]
    found = {}
    for portion in portions(sorted(keys)):
        query = select(*key_columns, table.c.id).where(_one_of(key_columns, portion))
        found.update({tuple(row[:-1]): row[-1] for row in connection.execute(query)})
    return found


def _one_of(columns: Sequence[Column[Any]], keys: Sequence[Key]) -> ColumnElement[bool]:
    if len(columns) > 1:
        return tuple_(*columns).in_(keys)
    return columns[0].in_([key[0] for key in keys])  # for a row value of one SQLite uses no index
