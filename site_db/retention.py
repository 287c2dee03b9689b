"""Retention: raw reports go after some days; what was reduced from them, profiles and daily counts stay.

A report's row in `reports` stays as well: it is what makes a report that comes twice count once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select

from site_db import tables
from site_db.store import Store
from site_db.times import microseconds

# Short transactions: a collector waits for none of them long.
_AT_ONCE = 1000
_RAW, _REPORTS = tables.raw_reports.c, tables.reports.c


@dataclass(frozen=True)
class Dropped:
    """How many raw reports are gone (or would be), and the bytes they took, compressed as they are."""

    reports: int
    size_bytes: int


def drop_raw_reports(
    store: Store, before: datetime, *, dry_run: bool = False, progress: Callable[[Dropped], None] = lambda _dropped: None
) -> Dropped:
    """Drop the raw text of reports that came before that time; collectors may run meanwhile.

    Raises DatabaseUnavailable; what was dropped until then is dropped, and the same call goes on from there.
    """
    dropped = Dropped(0, 0)
    for sizes in _older(store, microseconds(before)):
        if not dry_run:
            with store.writing() as connection:
                connection.execute(delete(tables.raw_reports).where(_RAW.report.in_(sizes)))
        dropped = Dropped(dropped.reports + len(sizes), dropped.size_bytes + sum(sizes.values()))
        progress(dropped)
    return dropped


def _older(store: Store, before: int) -> Iterator[dict[int, int]]:
    """Sizes by number of report, in portions. Reports are numbered about as they come: the first portion without an
    old one ends it.
    """
    last = 0
    while True:
        query = (
            select(_RAW.report, _REPORTS.received_at, func.length(_RAW.body))
            .join_from(tables.raw_reports, tables.reports)
            .where(_RAW.report > last)
            .order_by(_RAW.report)
            .limit(_AT_ONCE)
        )
        with store.reading() as connection:
            rows = connection.execute(query).all()
        sizes = {number: size for number, received_at, size in rows if received_at < before}
        if not sizes:
            return
        last = rows[-1][0]
        yield sizes
