"""Which reports are stored already: the cheap question, for whoever does not store them itself."""

from collections.abc import Sequence

from sqlalchemy import select

from site_db import tables
from site_db.dialects import portions
from site_db.store import Store


def known_reports(store: Store, report_ids: Sequence[bytes]) -> set[bytes]:
    """Those of `report_ids` (16 bytes each) that the database has. Raises DatabaseUnavailable."""
    column = tables.reports.c.report_id
    with store.reading() as connection:
        return {
            bytes(found)
            for portion in portions(report_ids)
            for found in connection.scalars(select(column).where(column.in_(portion)))
        }
