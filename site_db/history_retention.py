"""Retention of history: rows of `reports` go after some days, once they stand in a folder of history or by explicit wish.

What is concluded stays: a report that something still refers to (the newest of a node, the example of a count, the evidence
of a change) is kept, and counts by day are in tables of their own. With a report's row goes what makes it known: it must
be older than any report that the collector still takes, or one that comes twice would count twice.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

import orjson
from sqlalchemy import Column, ColumnElement, delete, exists, func, select, text

from site_db import tables
from site_db.history_folder import HistoryFolder
from site_db.history_rows import Day, list_days, made_on, uuid_text
from site_db.store import Store

# Short transactions: a collector waits for none of them long.
_AT_ONCE = 1000
_REPORTS = tables.reports.c
_REFERRING: tuple[Column[int], ...] = (
    tables.observations.c.report,
    tables.entry_counts.c.report,
    tables.site_counts.c.report,
    tables.changes.c.first_report,
)


@dataclass(frozen=True)
class DroppedHistory:
    """Reports that are gone (or would be), and those of the same days that stay because they are not exported."""

    reports: int = 0
    unexported: int = 0


def drop_history(
    store: Store,
    before: date,
    folder: HistoryFolder | None,
    *,
    dry_run: bool = False,
    progress: Callable[[DroppedHistory], None] = lambda _dropped: None,
) -> DroppedHistory:
    """Drop the reports that were made on days before that one: those in `folder`, or without a folder all of them.

    Collectors may run meanwhile. Raises DatabaseUnavailable, NoParquet; what was dropped until then is dropped.
    """
    found = DroppedHistory()
    days = [day for day in list_days(store) if day.day < before]
    if not days:
        return found
    with _indexed(store):
        free, told = _free(store), _told_by_changes(store)
        for day in days:
            exported = None if folder is None or folder.is_gone(day.day) else folder.report_ids(day.day)
            for rows in _candidates(store, day, free):
                kept = [row for row in rows if row[0] not in told]
                gone = [number for number, identity in kept if exported is None or identity in exported]
                if not dry_run:
                    _drop(store, gone, free)
                found = DroppedHistory(found.reports + len(gone), found.unexported + len(kept) - len(gone))
                progress(found)
    return found


def _free(store: Store) -> ColumnElement[bool]:
    """The condition that no table refers to a report. What comes after this call is not free."""
    with store.reading() as connection:
        newest = connection.scalar(select(func.max(_REPORTS.id))) or 0
    condition = _REPORTS.id < newest  # not the newest itself: SQLite would give its number to the next report
    for column in _REFERRING:
        condition &= ~exists().where(column == _REPORTS.id)
    return condition


def _told_by_changes(store: Store) -> set[int]:
    """The reports in the evidence of changes: with further reports a change may come to begin at one of them."""
    with store.reading() as connection:
        evidence = connection.scalars(select(tables.changes.c.evidence)).all()
    return {report for one in evidence for _, _, report in orjson.loads(one)["against"].values()}


def _candidates(store: Store, day: Day, free: ColumnElement[bool]) -> Iterator[list[tuple[int, str]]]:
    """Numbers and ids of the reports of a day that nothing refers to, in portions."""
    query = select(_REPORTS.id, _REPORTS.report_id).where(made_on(day.day), _REPORTS.id <= day.last, free)
    last = day.first - 1
    while True:
        with store.reading() as connection:
            rows = connection.execute(query.where(_REPORTS.id > last).order_by(_REPORTS.id).limit(_AT_ONCE)).all()
        if not rows:
            return
        yield [(number, uuid_text(bytes(identity))) for number, identity in rows]
        last = rows[-1][0]


def _drop(store: Store, numbers: Sequence[int], free: ColumnElement[bool]) -> None:
    """Drop reports, with their raw text, that are still free."""
    if numbers:
        with store.writing() as connection:
            connection.execute(delete(tables.reports).where(_REPORTS.id.in_(numbers), free))


@contextmanager
def _indexed(store: Store) -> Iterator[None]:
    """Indexes on what refers to reports, while reports are dropped: for each, the database looks whether something does.

    Not for good: every report that is stored would pay for them.
    """
    names = {f"ix_retention_{column.table.name}": column for column in _REFERRING}
    for name, column in names.items():
        with store.writing() as connection:
            connection.execute(text(f"CREATE INDEX IF NOT EXISTS {name} ON {column.table.name} ({column.name})"))
    try:
        yield
    finally:
        for name in names:
            with store.writing() as connection:
                connection.execute(text(f"DROP INDEX IF EXISTS {name}"))
