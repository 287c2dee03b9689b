"""The nodes of one entry, those that reported last first."""

from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import select

from site_db import tables
from site_db.queries import NODES, OBSERVED
from site_db.rules import Rules, default_rules
from site_db.store import Store
from site_db.times import moment
from site_db.verdicts import Answer, answer_of
from site_db.views import find_entry


@dataclass(frozen=True)
class EntryNode:
    """One node as its newest report under this entry shows it."""

    machine_id: str
    hostname: str
    reports: int
    newest: datetime
    singularity: Answer
    reason: str | None


def nodes_of_entry(store: Store, name: str, limit: int, rules: Rules | None = None) -> tuple[EntryNode, ...]:
    """The nodes of an entry (NAME or NAME@FACTORY), `limit` at most. Raises UnknownName, AmbiguousName."""
    capability = (rules or default_rules()).capability("singularity")
    assert capability is not None  # noqa: S101 - rules.toml has it
    query = (
        select(NODES.machine_id, NODES.hostname, OBSERVED["count"], OBSERVED.created_at, tables.profiles.c.document)
        .select_from(tables.observations)
        .join(tables.nodes)
        .join(tables.profiles)
        .order_by(OBSERVED.created_at.desc(), NODES.machine_id)
        .limit(limit)
    )
    with store.reading() as connection:
        entry = find_entry(connection, name)
        rows = connection.execute(query.where(OBSERVED.entry_id == entry.id)).all()
    return tuple(
        EntryNode(*row[:3], moment(row[3]), *answer_of(orjson.loads(row.document), capability)) for row in rows
    )
