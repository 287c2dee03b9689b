"""What has to hold afterwards: every acknowledged report is there, once, in every table; the database opens and works."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

import orjson
from campaign.load import report_of
from sqlalchemy import func, select, text

from site_db import tables
from site_db.store import Store, Submission


def wait_for_all(url: str, acknowledged: set[str], limit_s: float) -> list[str]:
    """The acknowledged reports that are not stored, after at most `limit_s` for workers to catch up."""
    end = time.monotonic() + limit_s
    wanted = {UUID(each).bytes for each in acknowledged}
    store = Store.open(url)
    try:
        while True:
            with store.reading() as connection:
                stored = {bytes(each) for each in connection.scalars(select(tables.reports.c.report_id))}
            missing = wanted - stored
            if not missing or time.monotonic() > end:
                return sorted(str(UUID(bytes=each)) for each in missing)
            time.sleep(0.5)
    finally:
        store.close()


def what_is_wrong(url: str) -> Iterator[str]:
    """Whatever contradicts "each once" in a database to which nobody writes now, and whether it still takes a report."""
    store = Store.open(url)
    try:
        with store.reading() as connection:
            reports = connection.scalar(select(func.count()).select_from(tables.reports))
            counts = {
                "different report_ids": select(func.count(tables.reports.c.report_id.distinct())),
                "raw reports": select(func.count()).select_from(tables.raw_reports),
                "reports by nodes": select(func.coalesce(func.sum(tables.observations.c["count"]), 0)),
                "reports by sites": select(func.coalesce(func.sum(tables.site_totals.c.reports), 0)),
            }
            for what, query in counts.items():
                if (found := connection.scalar(query)) != reports:
                    yield f"{reports} reports, but {found} {what}"
            if store.sqlite_path and (said := connection.scalar(text("PRAGMA integrity_check"))) != "ok":
                yield f"integrity_check: {said}"
        report = report_of(999_999)
        answer = store.add([Submission(report, orjson.dumps(report), datetime.now(UTC))])
        if answer != ["new"]:
            yield f"a new report is answered {answer}"
    finally:
        store.close()
