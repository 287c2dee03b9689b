"""How large the database is, without reading it through."""

from dataclasses import dataclass

from sqlalchemy import func, select, text

from site_db import tables
from site_db.store import Store


@dataclass(frozen=True)
class Sizes:
    """Bytes of the whole, of it free to be used again (SQLite) and for raw reports (PostgreSQL; None: not known)."""

    database_bytes: int
    free_bytes: int
    raw_bytes: int | None
    reports: int
    nodes: int


def read_sizes(store: Store) -> Sizes:
    """The sizes now. Raises DatabaseUnavailable."""
    reports = select(func.coalesce(func.sum(tables.entry_totals.c.reports), 0))
    with store.reading() as connection:
        counts = int(connection.scalar(reports) or 0), connection.scalar(select(func.max(tables.nodes.c.id))) or 0
        if connection.dialect.name == "postgresql":
            whole = connection.scalar(text("SELECT pg_database_size(current_database())"))
            raw = connection.scalar(text("SELECT pg_total_relation_size('raw_reports')"))
            return Sizes(whole or 0, 0, raw, *counts)
        names = ("page_size", "page_count", "freelist_count")
        size, pages, free = (connection.scalar(text(f"PRAGMA {name}")) or 0 for name in names)
        return Sizes(size * pages, size * free, None, *counts)
