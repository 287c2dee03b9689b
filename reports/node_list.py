"""The list of nodes, in pages: there may be a hundred thousand. Ordered by machine id, so that pages stay put."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select

from site_db import tables
from site_db.storable import storable
from site_db.store import Store
from site_db.times import format_time, moment

PAGE = 500
_NODES, _OBSERVED = tables.nodes.c, tables.observations.c


@dataclass(frozen=True)
class NodeRow:
    """One node that has reported; `newest` is RFC 3339, UTC."""

    machine_id: str
    hostname: str
    entries: int
    reports: int
    newest: str


def list_nodes(store: Store, after: str = "") -> dict[str, Any]:
    """Up to PAGE nodes whose machine id comes after `after`; `next` is the `after` of the next page, or None."""
    query = (
        select(
            _NODES.machine_id,
            _NODES.hostname,
            func.count(),
            func.sum(_OBSERVED["count"]),
            func.max(_OBSERVED.created_at),
        )
        .join_from(tables.nodes, tables.observations)
        .where(_NODES.machine_id > storable(after))
        .group_by(_NODES.id, _NODES.machine_id, _NODES.hostname)
        .order_by(_NODES.machine_id)
        .limit(PAGE + 1)
    )
    with store.reading() as connection:
        rows = connection.execute(query).all()
    nodes = [NodeRow(row[0], row[1], row[2], int(row[3]), format_time(moment(row[4]))) for row in rows[:PAGE]]
    return {"nodes": [asdict(node) for node in nodes], "next": nodes[-1].machine_id if len(rows) > PAGE else None}
