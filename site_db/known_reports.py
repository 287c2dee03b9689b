"""Which reports are stored already: the cheap question, for whoever does not store them itself."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from site_db import tables
from site_db.dialects import portions
from site_db.engine import open_engine, told_plainly
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


class KnownReports:
    """The same question asked again and again by one thread, over a connection that stays open.

    For a few reports connecting, beginning and making the statement take five times as long as the question itself.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        self._connection: Connection | None = None

    def __call__(self, report_ids: Sequence[bytes]) -> set[bytes]:
        """As known_reports."""
        with told_plainly(self._engine):
            connection = self._connection = self._connection or self._engine.connect()
            try:
                found = {report_id for portion in portions(report_ids) for report_id in _asked(connection, portion)}
                connection.rollback()  # the next question is to see what others stored meanwhile
            except BaseException:
                self._connection = None  # the next one connects anew
                connection.close()
                raise
        return found

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
        self._engine.dispose()


def _asked(connection: Connection, report_ids: Sequence[bytes]) -> list[bytes]:
    if connection.dialect.name == "postgresql":
        found = connection.exec_driver_sql(f"{_ASKED} = ANY(%s)", (list(report_ids),))
    else:
        found = connection.exec_driver_sql(f"{_ASKED} IN ({', '.join('?' * len(report_ids))})", tuple(report_ids))
    return [bytes(row[0]) for row in found]


_ASKED = f"SELECT {_ID.name} FROM {_ID.table.name} WHERE {_ID.name}"  # noqa: S608 - names of our own tables
