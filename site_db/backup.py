"""A copy of the database while collectors write to it."""

import contextlib
import sqlite3
from pathlib import Path

from site_db.errors import SiteDbError
from site_db.store import Store


class NoBackup(SiteDbError):
    """The database was not copied."""


def back_up(store: Store, path: Path) -> int:
    """Copy a SQLite database to `path`, which must not be there; returns the copy's bytes. Raises NoBackup.

    The copy is one state of the database, the one at the start: with a write-ahead log writers go on meanwhile. It has
    its name only when it is whole.
    """
    source = store.sqlite_path
    if source is None:
        raise NoBackup(
            f"{store.place} is on PostgreSQL, which has its own tool.",
            "Run pg_dump --format=custom --file=site-db.dump with the same URL; it may run while collectors write.",
        )
    if path.exists():
        raise NoBackup(f"{path} is there already.", "Give a new name, or move that file away.")
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        _copy(source, partial)
        partial.replace(path)
    except (OSError, sqlite3.Error) as error:
        raise NoBackup(f"{path}: {error}.", "See that the folder is there, writable and not full.") from error
    return path.stat().st_size


def _copy(source: Path, target: Path) -> None:
    with (
        contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as old,
        contextlib.closing(sqlite3.connect(target)) as new,
    ):
        # All pages in one step: in several the copy would begin anew whenever a collector has written.
        old.backup(new)
        new.execute("PRAGMA journal_mode=DELETE")  # one file, not three
