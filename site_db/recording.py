"""Recording reduced reports in the tables, inside a transaction that the caller holds.

Names that many reports share (sites, entries, nodes, profiles, images) are looked up first and inserted only where they
are missing, in sorted order: two collectors on one PostgreSQL that bring the same new names then wait for each other
instead of locking each other out, and in the ordinary case they don't meet at all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Column, ColumnElement, Connection, Table, case, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from site_db import tables
from site_db.reduction import Reduced

Row = dict[str, Any]
Key = tuple[Any, ...]

# Keys that a query asks for at once: well below SQLite's 32,766 variables.
_KEYS_AT_ONCE = 1000


def record(connection: Connection, batch: Iterable[Reduced]) -> set[bytes]:
    """Record those reports of `batch` (each report_id once) that are not there yet; returns their report_ids."""
    by_id = {(item.report_id,): item for item in batch}
    known = _find(connection, tables.reports, ["report_id"], by_id)
    items = [item for key, item in by_id.items() if key not in known]
    if not items:
        return set()
    rows = _report_rows(connection, items)
    numbers = _insert_reports(connection, rows)
    # A report that another collector stored since we looked got no number here: it is that collector's.
    added = [item for item in items if item.report_id in numbers]
    if added:
        bodies = [{"report": numbers[item.report_id], "body": item.body} for item in added]
        connection.execute(tables.raw_reports.insert(), bodies)
        _observe(connection, [{**rows[item.report_id], "report": numbers[item.report_id]} for item in added])
        _observe_images(connection, [(item, rows[item.report_id]["node_id"]) for item in added])
    return set(numbers)


def _report_rows(connection: Connection, items: Sequence[Reduced]) -> dict[bytes, Row]:
    """The rows of `reports`, by report_id; what they refer to is made where it is missing."""
    in_time = sorted(items, key=lambda item: (item.created_at, item.report_id))
    sites = _ids(connection, tables.sites, ["name"], {(item.site,): {} for item in items})
    profiles = _ids(
        connection,
        tables.profiles,
        ["fingerprint"],
        {(item.fingerprint,): {"document": item.document} for item in items},
    )
    named = {
        (item.factory, item.entry): {"site_id": sites[item.site,], "resource": item.resource} for item in in_time
    }
    entries = _ids(connection, tables.entries, ["factory", "name"], named)
    hosts = {(item.machine_id,): {"hostname": item.hostname, "derived": item.derived} for item in in_time}
    nodes = _ids(connection, tables.nodes, ["machine_id"], hosts)
    made_at = {(item.factory, item.entry): item.created_at for item in in_time}
    seen_at = {(item.machine_id,): item.created_at for item in in_time}
    observed = tables.observations.c
    _rename(connection, tables.entries, observed.entry_id, _by_id(entries, named, made_at))
    _rename(connection, tables.nodes, observed.node_id, _by_id(nodes, hosts, seen_at))
    return {
        item.report_id: {
            "report_id": item.report_id,
            "entry_id": entries[item.factory, item.entry],
            "node_id": nodes[item.machine_id,],
            "profile_id": profiles[item.fingerprint,],
            "created_at": item.created_at,
            "received_at": item.received_at,
            "complete": item.complete,
        }
        for item in items
    }


def _insert_reports(connection: Connection, rows: Mapping[bytes, Row]) -> dict[bytes, int]:
    columns = tables.reports.c
    statement = _insert(connection, tables.reports).on_conflict_do_nothing(index_elements=["report_id"])
    in_order = [rows[report_id] for report_id in sorted(rows)]
    found = connection.execute(statement.returning(columns.report_id, columns.id), in_order)
    return {bytes(report_id): number for report_id, number in found}


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
    statement = _insert(connection, tables.observations)
    there, come = tables.observations.c, statement.excluded
    newer = come.created_at >= there.created_at
    statement = statement.on_conflict_do_update(
        index_elements=["entry_id", "node_id"],
        set_={
            **{name: case((newer, come[name]), else_=there[name]) for name in ("profile_id", "report", "created_at")},
            "first_seen": case((come.first_seen < there.first_seen, come.first_seen), else_=there.first_seen),
            "count": there["count"] + come["count"],
        },
    )
    connection.execute(statement, [folded[key] for key in sorted(folded)])


def _observe_images(connection: Connection, items: Sequence[tuple[Reduced, int]]) -> None:
    """Keep one outcome for each node and image: the newest report's."""
    refs = {(image.ref_sha256,): {"ref": image.ref} for item, _ in items for image in item.images}
    if not refs:
        return
    images = _ids(connection, tables.images, ["ref_sha256"], refs)
    newest = {
        (node_id, images[image.ref_sha256,]): {
            "status": image.status,
            "reason": image.reason,
            "exec_s": image.exec_s,
            "created_at": item.created_at,
        }
        for item, node_id in sorted(items, key=lambda pair: (pair[0].created_at, pair[0].report_id))
        for image in item.images
    }
    statement = _insert(connection, tables.image_observations)
    come = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["node_id", "image_id"],
        set_={name: come[name] for name in ("status", "reason", "exec_s", "created_at")},
        where=come.created_at >= tables.image_observations.c.created_at,
    )
    rows = [{"node_id": key[0], "image_id": key[1], **newest[key]} for key in sorted(newest)]
    connection.execute(statement, rows)


def _rename(connection: Connection, table: Table, observed: Column[int], wanted: Mapping[int, tuple[Row, int]]) -> None:
    """Give rows of `table` the names in `wanted` (id: names, time), unless a newer report has named them otherwise."""
    for ids in _portions(sorted(wanted)):
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
    return {ids[key]: (names[key], times[key]) for key in names}


def _ids(connection: Connection, table: Table, columns: list[str], rows: Mapping[Key, Row]) -> dict[Key, int]:
    """The ids of rows of `table` by their unique `columns`; a row that is missing is inserted."""
    found = _find(connection, table, columns, rows)
    missing = sorted(key for key in rows if key not in found)
    if missing:
        statement = _insert(connection, table).on_conflict_do_nothing(index_elements=columns)
        new_rows = [{**dict(zip(columns, key, strict=True)), **rows[key]} for key in missing]
        connection.execute(statement, new_rows)
        found |= _find(connection, table, columns, missing)
    return found


def _find(connection: Connection, table: Table, columns: list[str], keys: Iterable[Key]) -> dict[Key, int]:
    key_columns = [table.c[name] for name in columns]
    found = {}
    for portion in _portions(sorted(keys)):
        query = select(*key_columns, table.c.id).where(_one_of(key_columns, portion))
        found.update({tuple(row[:-1]): row[-1] for row in connection.execute(query)})
    return found


def _one_of(columns: Sequence[Column[Any]], keys: Sequence[Key]) -> ColumnElement[bool]:
    if len(columns) > 1:
        return tuple_(*columns).in_(keys)
    return columns[0].in_([key[0] for key in keys])  # for a row value of one SQLite uses no index


def _portions(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _KEYS_AT_ONCE):
        yield items[start : start + _KEYS_AT_ONCE]


def _insert(connection: Connection, table: Table) -> postgresql.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    # The same ON CONFLICT as PostgreSQL's, under another type.
    return cast("postgresql.Insert", sqlite.insert(table))
