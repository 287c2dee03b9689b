"""What is known of changes, for people and programs, and which of them were told to whom they matter."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, bindparam, select, update

from site_db import tables
from site_db.queries import ENTRIES, NODES, SITES
from site_db.rules import Rules, default_rules
from site_db.site_reports import SiteReportPart
from site_db.storable import storable
from site_db.store import Store
from site_db.times import microseconds, moment
from site_db.wording import Count

_CHANGES = tables.changes.c
_LISTED = 1000


@dataclass(frozen=True)
class Change(SiteReportPart):
    """What an entry lost or gained.

    `since`: the first report that showed it, of `first_node`. `state`: suspected, confirmed, closed (as before again) or
    settled (it lasted: the new normal). `nodes` is how many showed it, `relapses` how often it came back after it was
    closed.
    """

    id: int
    entry: str
    factory: str
    site: str
    capability: str
    title: str
    direction: str
    state: str
    since: datetime
    first_node: str
    first_report_id: str | None
    newest: datetime
    confirmed_at: datetime | None
    closed_at: datetime | None
    nodes: int
    reason: str | None
    relapses: int
    score: float
    sentence: str


@dataclass(frozen=True)
class ChangeList(SiteReportPart):
    """Changes, the latest first; at most a thousand."""

    generated_at: datetime
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Wanted:
    """Which changes: from a time on, of an entry, a site, a capability. None: all."""

    since: datetime | None = None
    entry: str | None = None
    site: str | None = None
    capability: str | None = None


def list_changes(store: Store, now: datetime, wanted: Wanted | None = None, rules: Rules | None = None) -> ChangeList:
    """The changes that are confirmed or have been, and those that are suspected so far."""
    rules = rules or default_rules()
    wanted = wanted or Wanted()
    given = {name: value for name, value in _values(wanted).items() if value is not None}
    with store.reading() as connection:
        rows = connection.execute(_listing(frozenset(given)), {"suspect": rules.changes.suspect, **given}).all()
    return ChangeList(now, tuple(_change(row, rules) for row in rows))


def untold_changes(store: Store, rules: Rules | None = None) -> Sequence[Change]:
    """Confirmed changes of which nobody was told, the earliest first."""
    query = _query().where(_CHANGES.confirmed_at.is_not(None), _CHANGES.told_at.is_(None))
    with store.reading() as connection:
        rows = connection.execute(query.order_by(_CHANGES.confirmed_at, _CHANGES.id).limit(_LISTED)).all()
    return [_change(row, rules or default_rules()) for row in rows]


def mark_told(store: Store, change_id: int, now: datetime) -> None:
    """Remember that this change was told."""
    with store.writing() as connection:
        statement = update(tables.changes).where(_CHANGES.id == change_id)
        connection.execute(statement.values(told_at=microseconds(now)))


def _query() -> Select[Any]:
    return (
        select(
            tables.changes,
            ENTRIES.name.label("entry"),
            ENTRIES.factory,
            SITES.name.label("site"),
            NODES.hostname,
            tables.reports.c.report_id,
        )
        .join_from(tables.changes, tables.entries, _CHANGES.entry_id == ENTRIES.id)
        .join(tables.sites, ENTRIES.site_id == SITES.id)
        .join(tables.nodes, _CHANGES.first_node_id == NODES.id)
        .outerjoin(tables.reports, _CHANGES.first_report == tables.reports.c.id)
    )


@functools.cache  # to make it takes longer than to carry it out, and it is asked with every site's and entry's page
def _listing(given: frozenset[str]) -> Select[Any]:
    """The statement for the conditions that are given, by name."""
    conditions = {
        "entry": ENTRIES.name == bindparam("entry"),
        "site": SITES.name == bindparam("site"),
        "capability": _CHANGES.capability == bindparam("capability"),
        "since": _CHANGES.last_at >= bindparam("since"),
    }
    query = _query().where(_CHANGES.score >= bindparam("suspect"), *(conditions[name] for name in sorted(given)))
    return query.order_by(_CHANGES.first_at.desc(), _CHANGES.id.desc()).limit(_LISTED)


def _values(wanted: Wanted) -> dict[str, str | int | None]:
    names = {"entry": wanted.entry, "site": wanted.site, "capability": wanted.capability}
    since = None if wanted.since is None else microseconds(wanted.since)
    return {**{name: value if value is None else storable(value) for name, value in names.items()}, "since": since}


def _change(row: Row[Any], rules: Rules) -> Change:
    found = rules.capability(row.capability)
    words = {
        "title": found.title if found else row.capability,
        "entry": row.entry,
        "nodes": Count(row.nodes),
        "node": row.hostname,
        "reason": row.reason or "none was given",
    }
    return Change(
        id=row.id,
        entry=row.entry,
        factory=row.factory,
        site=row.site,
        capability=row.capability,
        title=words["title"],
        direction=row.direction,
        state=row.state,
        since=moment(row.first_at),
        first_node=row.hostname,
        first_report_id=None if row.report_id is None else str(UUID(bytes=bytes(row.report_id))),
        newest=moment(row.last_at),
        confirmed_at=None if row.confirmed_at is None else moment(row.confirmed_at),
        closed_at=None if row.closed_at is None else moment(row.closed_at),
        nodes=row.nodes,
        reason=row.reason,
        relapses=row.flaps,
        score=round(row.score, 1),
        sentence=rules.changes.sentences[row.direction].format(**words),
    )
