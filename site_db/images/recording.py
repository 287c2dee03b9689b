"""What reports say of images: the newest outcome on each node, and kept counts of nodes by image, site and profile.

An outcome is counted at the site and under the profile of the report that it came with. When a node changes its kind
afterwards, the old outcome says nothing about the new one: a reader compares the counts with the nodes that are there
now (match.py), and the next test of the image on that node moves its count. The caller holds the nodes' locks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, case, delete, func, insert, select, tuple_
from sqlalchemy.dialects.postgresql import Insert

from site_db import tables
from site_db.dialects import insert_of, portions
from site_db.reduction import ImageResult

_OBSERVED, _COUNTS = tables.image_observations.c, tables.image_counts.c
_VALUES = ("status", "reason", "exec_s", "created_at", "site_id", "profile_id")
# A test that was left out tells nothing: what was seen before stays.
_LEFT_OUT = "skipped"

Key = tuple[int, int]
Place = tuple[int, int, int, str, str]


class Tried(NamedTuple):
    """The images of one report, and where they were tried. `created_at` in microseconds."""

    node_id: int
    site_id: int
    profile_id: int
    created_at: int
    report_id: bytes
    images: Sequence[ImageResult]


def observe_images(connection: Connection, tried: Iterable[Tried], image_ids: Mapping[bytes, int]) -> None:
    """Keep one outcome for each node and image, the newest report's; `image_ids` by SHA-256 of the reference."""
    wanted = _newest(tried, image_ids)
    before = _stored(connection, wanted)
    changed = {key: row for key, row in wanted.items() if _replaces(row, before.get(key))}
    if not changed:
        return
    statement = _put_outcomes(connection.dialect.name)
    rows = [{"node_id": key[0], "image_id": key[1], **changed[key]} for key in sorted(changed)]
    connection.execute(statement, rows)
    _move(connection, [before[key] for key in changed if key in before], rows)


def rebuild(connection: Connection) -> None:
    """Make the counts anew from the outcomes."""
    reason = func.coalesce(_OBSERVED.reason, "")
    where = (_OBSERVED.image_id, _OBSERVED.site_id, _OBSERVED.profile_id, _OBSERVED.status, reason)
    counted = select(*where, func.count(), func.max(_OBSERVED.created_at)).where(_OBSERVED.site_id.is_not(None))
    names = [column.name for column in tables.image_counts.columns]
    connection.execute(delete(tables.image_counts))
    connection.execute(insert(tables.image_counts).from_select(names, counted.group_by(*where)))


def _newest(tried: Iterable[Tried], image_ids: Mapping[bytes, int]) -> dict[Key, dict[str, Any]]:
    newest: dict[Key, dict[str, Any]] = {}
    for one in sorted(tried, key=lambda one: (one.created_at, one.report_id)):
        for image in one.images:
            key = (one.node_id, image_ids[image.ref_sha256])
            row = {
                "status": image.status,
                "reason": image.reason,
                "exec_s": image.exec_s,
                "created_at": one.created_at,
                "site_id": one.site_id,
                "profile_id": one.profile_id,
            }
            if _replaces(row, newest.get(key)):
                newest[key] = row
    return newest


def _replaces(row: Mapping[str, Any], earlier: Mapping[str, Any] | None) -> bool:
    if earlier is None:
        return True
    if (row["status"] == _LEFT_OUT) != (earlier["status"] == _LEFT_OUT):
        return bool(earlier["status"] == _LEFT_OUT)
    return bool(row["created_at"] >= earlier["created_at"])


def _stored(connection: Connection, keys: Iterable[Key]) -> dict[Key, dict[str, Any]]:
    found = {}
    columns = [_OBSERVED[name] for name in ("node_id", "image_id", *_VALUES)]
    for portion in portions(sorted(keys)):
        query = select(*columns).where(tuple_(_OBSERVED.node_id, _OBSERVED.image_id).in_(portion))
        for row in connection.execute(query).mappings():
            found[row["node_id"], row["image_id"]] = dict(row)
    return found


def _place(row: Mapping[str, Any]) -> Place:
    return row["image_id"], row["site_id"], row["profile_id"], row["status"], row["reason"] or ""


def _move(connection: Connection, before: Iterable[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> None:
    deltas = Counter({_place(row): 0 for row in after})
    deltas.update(_place(row) for row in after)
    deltas.subtract(_place(row) for row in before if row["site_id"] is not None)
    newest: dict[Place, int] = {}
    for row in after:
        newest[_place(row)] = max(row["created_at"], newest.get(_place(row), 0))
    names = ("image_id", "site_id", "profile_id", "status", "reason")
    rows: list[dict[str, Any]] = [
        {**dict(zip(names, place, strict=True)), "nodes": deltas[place], "newest": newest.get(place, 0)}
        for place in sorted(deltas)
    ]
    connection.execute(_add_counts(connection.dialect.name), rows)
    left = [row for row in rows if row["nodes"] < 0]
    if left:
        emptied = delete(tables.image_counts).where(
            *(_COUNTS[name] == bindparam(f"of_{name}") for name in names), _COUNTS.nodes <= 0
        )
        connection.execute(emptied, [{f"of_{name}": row[name] for name in names} for row in left])


@cache
def _put_outcomes(dialect: str) -> Insert:
    statement = insert_of(dialect, tables.image_observations)
    return statement.on_conflict_do_update(
        index_elements=["node_id", "image_id"], set_={name: statement.excluded[name] for name in _VALUES}
    )


@cache
def _add_counts(dialect: str) -> Insert:
    statement = insert_of(dialect, tables.image_counts)
    come = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["image_id", "site_id", "profile_id", "status", "reason"],
        set_={
            "nodes": _COUNTS.nodes + come.nodes,
            "newest": case((come.newest > _COUNTS.newest, come.newest), else_=_COUNTS.newest),
        },
    )
