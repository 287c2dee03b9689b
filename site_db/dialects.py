"""The little in which SQLite and PostgreSQL differ for us, and what both bound."""

from collections.abc import Iterator, Sequence
from typing import TypeVar, cast

from sqlalchemy import Connection, Table, text
from sqlalchemy.dialects import postgresql, sqlite

Item = TypeVar("Item")

# Keys that a query asks for at once: well below SQLite's 32,766 variables.
_KEYS_AT_ONCE = 1000
_WRITERS_LOCK = 0x51DC  # any number, the same in every release


def insert_for(connection: Connection, table: Table) -> postgresql.Insert:
    """An INSERT that knows ON CONFLICT."""
    return insert_of(connection.dialect.name, table)


def insert_of(dialect: str, table: Table) -> postgresql.Insert:
    """The same by the dialect's name, for who keeps the statement: to make one takes longer than to carry it out."""
    if dialect == "postgresql":
        return postgresql.insert(table)
    # The same ON CONFLICT as PostgreSQL's, under another type.
    return cast("postgresql.Insert", sqlite.insert(table))


def portions(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """`items` in pieces that one query can ask for."""
    for start in range(0, len(items), _KEYS_AT_ONCE):
        yield items[start : start + _KEYS_AT_ONCE]


def join_writers(connection: Connection, *, alone: bool) -> None:
    """Become one of the writers until the transaction ends, or (`alone`) the only one. SQLite has only one anyway.

    To be called before any row is locked.
    """
    if connection.dialect.name == "postgresql":
        kind = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        connection.execute(text(f"SELECT {kind}(:key)"), {"key": _WRITERS_LOCK})
