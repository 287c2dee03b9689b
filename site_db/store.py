"""The store: an open database. Reports go in, each once; queries read from one state of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import zstandard
from sqlalchemy import Connection, Engine, select, text

from site_db import tables
from site_db.engine import make_folder, migrate, open_engine, place, told_plainly, use_write_ahead_log
from site_db.recording import record
from site_db.reduction import Submission, reduce_report
from site_db.rules import Rules, default_rules

__all__ = ["Store", "Submission"]


class Store:
    """An open database. `Store.open(url)`; safe to share between threads; SQLite lets one write at a time."""

    def __init__(self, engine: Engine, rules: Rules | None = None) -> None:
        self._engine = engine
        self._rules = rules or default_rules()

    @classmethod
    def open(cls, url: str) -> "Store":
        """Open (SQLite: make, its folder too) the database at `url` and bring it to this release's form.

        Raises DatabaseTooNew, DatabaseUnavailable.
        """
        engine = open_engine(url)
        try:
            make_folder(engine)
            migrate(engine)
            use_write_ahead_log(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    @property
    def place(self) -> str:
        """Where the database is, for people: the URL without its password."""
        return place(self._engine)

    @property
    def sqlite_path(self) -> Path | None:
        """The file of a SQLite database; None for another."""
        path = self._engine.url.database
        return Path(path) if self._engine.dialect.name == "sqlite" and path else None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def ping(self) -> None:
        """Raise DatabaseUnavailable unless the database answers."""
        with self.reading() as connection:
            connection.execute(text("SELECT 1"))

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database. Raises DatabaseUnavailable."""
        with told_plainly(self._engine), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction that is committed at the end of the block. Raises DatabaseUnavailable."""
        with told_plainly(self._engine), self._engine.execution_options(writes=True).begin() as connection:
            yield connection

    def add(self, submissions: Iterable[Submission]) -> list[str]:
        """Store `submissions` in one transaction: "new" or "known" for each, in their order.

        Returns after the commit: what is acknowledged is stored. A report_id counts once, also twice in one call.
        Raises DatabaseUnavailable; then nothing of it was stored.
        """
        reduced = [reduce_report(submission) for submission in submissions]
        first_of = {item.report_id: item for item in reversed(reduced)}
        with self.writing() as connection:
            added = record(connection, first_of.values(), self._rules)
        return ["new" if item.report_id in added and item is first_of[item.report_id] else "known" for item in reduced]

    def raw_report(self, report_id: bytes) -> bytes | None:
        """The JSON text of a report as it came; None where there is none (any more)."""
        query = (
            select(tables.raw_reports.c.body)
            .join_from(tables.raw_reports, tables.reports)
            .where(tables.reports.c.report_id == report_id)
        )
        with self.reading() as connection:
            body = connection.execute(query).scalar_one_or_none()
        return None if body is None else zstandard.ZstdDecompressor().decompress(body)
