"""The nodes of one entry, those that reported last first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Select, bindparam, select

from site_db import tables
from site_db.images.fleet import read_profiles
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


def _newest() -> Select[Any]:
    # Chosen before anything is joined: profiles are long, and an entry has thousands of nodes to sort.
    latest = (
        select(OBSERVED.node_id, OBSERVED.profile_id, OBSERVED["count"], OBSERVED.created_at)
        .where(OBSERVED.entry_id == bindparam("entry"))
        .order_by(OBSERVED.created_at.desc(), OBSERVED.node_id)
        .limit(bindparam("most", type_=Integer))
        .subquery()
    )
    found = latest.c
    return (
        select(NODES.machine_id, NODES.hostname, found["count"], found.created_at, found.profile_id)
        .join_from(latest, tables.nodes, found.node_id == NODES.id)
        .order_by(found.created_at.desc(), found.node_id)
    )


_NEWEST = _newest()


def nodes_of_entry(store: Store, name: str, limit: int, rules: Rules | None = None) -> tuple[EntryNode, ...]:
    """The nodes of an entry (NAME or NAME@FACTORY), `limit` at most. Raises UnknownName, AmbiguousName."""
    capability = (rules or default_rules()).capability("singularity")
    assert capability is not None  # noqa: S101 - rules.toml has it
    with store.reading() as connection:
        entry = find_entry(connection, name)
        rows = connection.execute(_NEWEST, {"entry": entry.id, "most": limit}).all()
        profiles = read_profiles(connection, {row.profile_id for row in rows})
    said = {number: answer_of(dict(profile), capability) for number, profile in profiles.items()}
    return tuple(
        EntryNode(machine_id, hostname, reports, moment(newest), *said[profile_id])
        for machine_id, hostname, reports, newest, profile_id in rows
    )
