"""The way to a database: connecting, and bringing its tables to this release's form.

SQLite: write-ahead log, foreign keys, `synchronous=FULL` (a commit is on disk when it returns), a writer waits for the
writer before it. PostgreSQL through psycopg.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, DataError, IntegrityError, ProgrammingError

from site_db.errors import DatabaseUnavailable
from site_db.extras import how_to_install

VERSION_TABLE = "site_db_version"
_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}
_BUSY_TIMEOUT_MS = 15_000
_WAL_ATTEMPTS = 100


def open_engine(url: str) -> Engine:
    """An engine for `url` (`sqlite:///PATH`, `postgresql+psycopg://...`). Opens no connection yet.

    Raises DatabaseUnavailable for a text that is no URL, or a database of another kind.
    """
    remedy = "Give a URL such as sqlite:////srv/site-db/site.db or postgresql+psycopg://user@host/name."
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Neither the URL nor what the parser says of it: both may hold a password.
        scheme = url.partition("://")[0] if "://" in url else ""
        what = f"{scheme}://..." if scheme.replace("+", "").isalnum() else "What was given"
        raise DatabaseUnavailable(f"{what} names no database.", remedy) from None
    driver = _DRIVERS.get(parsed.drivername.partition("+")[0])
    if driver is None:
        raise DatabaseUnavailable(f"{parsed.drivername}: only SQLite and PostgreSQL can be used.", remedy)
    try:
        engine = create_engine(parsed.set(drivername=driver), pool_pre_ping=driver != "sqlite")
    except ModuleNotFoundError as error:
        raise DatabaseUnavailable(
            f"{driver}: its driver is not installed ({error.name}).",
            how_to_install("postgresql"),
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def make_folder(engine: Engine) -> None:
    """SQLite: make the folder of the file where it is missing. Raises DatabaseUnavailable."""
    path = engine.url.database
    if engine.dialect.name != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return
    folder = Path(path).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{place(engine)}: the folder {folder} cannot be made: {error.strerror}."
        raise DatabaseUnavailable(message, "Make the folder for this user, or give another path.") from error


def place(engine: Engine) -> str:
    """Where the database is, for people: the URL without its password."""
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def told_plainly(engine: Engine) -> Iterator[None]:
    """Turn the driver's failures (gone, full, locked, damaged) into DatabaseUnavailable. Our own mistakes pass."""
    try:
        yield
    except (DataError, IntegrityError, ProgrammingError):
        raise
    except DatabaseError as error:
        cause = " ".join(str(error.orig).split())
        raise DatabaseUnavailable(f"{place(engine)}: {cause}", _remedy(engine, cause)) from error


def migrate(engine: Engine, revision: str | None = None) -> None:
    """Bring the tables to this release's form (or an older `revision`): `site_db.migrating`. Raises as that does."""
    if revision is None and _is_current(engine):
        return
    from site_db import migrating  # Alembic costs 0.3 s at start, and nearly every start finds nothing to do

    migrating.migrate(engine, revision)


def use_write_ahead_log(engine: Engine) -> None:
    """SQLite: readers don't wait for the writer. Kept in the file, so only after it is known to be ours."""
    if engine.dialect.name == "sqlite":
        with told_plainly(engine):
            for _ in range(_WAL_ATTEMPTS):
                if _switched_to_write_ahead_log(engine):
                    return
                # Others are opening it as well, and SQLite doesn't wait for them here: let the writer before us end.
                with engine.execution_options(writes=True).begin():
                    pass
        raise DatabaseUnavailable(f"{place(engine)}: database is locked", _REMEDIES["database is locked"])


def _switched_to_write_ahead_log(engine: Engine) -> bool:
    with engine.connect() as connection:
        # Past SQLAlchemy, which would begin a transaction: the mode can't be changed in one.
        driver: Any = connection.connection.dbapi_connection
        try:
            driver.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise DatabaseUnavailable(f"{place(engine)}: {error}", _remedy(engine, str(error))) from error
            return False
        return True


def _is_current(engine: Engine) -> bool:
    """Whether the tables have this release's form already; whatever else is there, `migrating` looks at."""
    with told_plainly(engine), engine.connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return False
        stored = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all()  # noqa: S608 - ours
    return stored == [newest_revision()]


def newest_revision() -> str:
    """The newest of the migrations: their files begin with their numbers."""
    versions = resources.files("site_db") / "migrations" / "versions"
    return max(file.name.partition("_")[0] for file in versions.iterdir() if file.name.endswith(".py"))


def _remedy(engine: Engine, cause: str) -> str:
    for words, remedy in _REMEDIES.items():
        if words in cause:
            return remedy
    if engine.dialect.name == "postgresql":
        return "See that the server runs and accepts this user: psql with the same URL must get in."
    return "See that the file and its folder exist, are writable by this user and not full."


_REMEDIES = {
    "not a database": "This file is something else: give another path, or move the file away.",
    "malformed": "The file is damaged: restore it from a backup; `sqlite3 FILE .recover` saves what can be read.",
    "database is locked": "Another program holds the file: end it, or wait until it is done.",
    "disk is full": "Make room on the file system of the database; nothing that was acknowledged is lost.",
}


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Python's driver would begin a transaction late and never for DDL: transactions are ours (_begin_sqlite).
    connection.isolation_level = None
    for setting in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "foreign_keys=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {setting}")


def _begin_sqlite(connection: Connection) -> None:
    # A writer takes its lock at once: one that reads first and writes then can't wait, SQLite fails it on the spot.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
