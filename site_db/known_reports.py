"""Which reports are stored already: the cheap question, for whoever does not store them itself."""

from collections.abc import Sequence

from sqlalchemy import bindparam, select

from site_db import tables
from site_db.dialects import portions
from site_db.store import Store

_ID = tables.reports.c.report_id
# Made once: for a few reports that takes longer than asking.
_KNOWN = select(_ID).where(_ID.in_(bindparam("report_ids", expanding=True)))


def known_reports(store: Store, report_ids: Sequence[bytes]) -> set[bytes]:
    """Those of `report_ids` (16 bytes each) that the database has. Raises DatabaseUnavailable."""
    if not report_ids:
        return set()
    with store.reading() as connection:
        return {
            bytes(found)
            for portion in portions(report_ids)
            for found in connection.scalars(_KNOWN, {"report_ids": portion})
        }
