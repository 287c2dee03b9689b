"""A copy of the database in its place again.

Not by hand: after a crash SQLite's log (`-wal`) lies beside the file, and would be written over whatever file has its name
then. That damages it without a word.
"""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from site_db.backup import NoBackup
from site_db.engine import VERSION_TABLE, open_engine
from site_db.segments import flush_folder

_WITH_LOG = ("", "-wal", "-shm")


def put_back(url: str, copy: Path) -> Path | None:
    """Put a copy of a SQLite database in the place that `url` names; the copy stays where it is.

    Returns where the database lies now that was there, with its log; None where there was none. Raises NoBackup for a copy
    that is none or damaged, and while anybody has the database open.
    """
    target = _file_of(url)
    _check(copy)
    aside = target.with_name(f"{target.name}.replaced")
    if any(Path(f"{aside}{suffix}").exists() for suffix in _WITH_LOG):
        raise NoBackup(f"{aside} is there already.", "It is of an earlier restore: move it away.")
    try:
        _check_unused(target)
        fresh = _copied(copy, target)
        there = [suffix for suffix in _WITH_LOG if Path(f"{target}{suffix}").exists()]
        for suffix in there:
            Path(f"{target}{suffix}").rename(f"{aside}{suffix}")
        fresh.rename(target)
        flush_folder(target.parent)
    except OSError as error:
        raise NoBackup(f"{target}: {error.strerror}.", "See that its folder is writable and not full.") from error
    return aside if there else None


def _file_of(url: str) -> Path:
    engine = open_engine(url)
    engine.dispose()
    if engine.dialect.name != "sqlite" or not engine.url.database:
        raise NoBackup(
            "The database is on PostgreSQL, which has its own tool.",
            "Run pg_restore --dbname=NAME site-db.dump into an empty database.",
        )
    return Path(engine.url.database).absolute()


def _check(copy: Path) -> None:
    """Raise NoBackup unless this is a whole database of ours."""
    remedy = "Give a file that site-db backup wrote."
    if not copy.is_file():
        raise NoBackup(f"{copy}: no such file.", remedy)
    try:
        with contextlib.closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall()  # noqa: S608 - ours
            [said] = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise NoBackup(f"{copy} is no database of site-db: {error}.", remedy) from error
    if said != "ok":
        raise NoBackup(f"{copy} is damaged: {' '.join(said.split())}.", "Give another copy.")


def _check_unused(target: Path) -> None:
    """Raise NoBackup while another process has the database open. One that is damaged cannot tell."""
    if not target.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(target, timeout=0, isolation_level=None)) as database:
            # Done only for who is alone; what the log has goes into the file.
            database.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):
            raise NoBackup(f"{target} is in use.", "End the collectors, workers and commands that use it.") from error


def _copied(copy: Path, target: Path) -> Path:
    """The copy beside its place, on disk, with the mode and owner of what is there (else of the folder)."""
    fresh = target.with_name(f"{target.name}.partial")
    with copy.open("rb") as source, fresh.open("wb") as written:
        shutil.copyfileobj(source, written)
        like = (target if target.exists() else target.parent).stat()
        os.fchmod(written.fileno(), like.st_mode & 0o666)
        if os.geteuid() == 0:
            os.fchown(written.fileno(), like.st_uid, like.st_gid)
        written.flush()
        os.fsync(written.fileno())
    return fresh
