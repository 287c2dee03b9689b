"""How far each log has been read: a small SQLite file of its own, beside the database that the reports go into.

A log is known again by its inode and its first bytes: when it is renamed, reading goes on; when another file has taken its
place, or it was emptied and written anew, reading begins at the top.
"""

import hashlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from reports.safe_text import printable
from site_db.errors import SiteDbError

HEAD_BYTES = 4096
# Changed with the table: a state of another form is begun anew, which costs reading all logs once.
_FORM = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS logs (path BLOB PRIMARY KEY, inode INTEGER, size INTEGER, mtime_ns INTEGER, head_bytes INTEGER,
head BLOB, offset INTEGER, line INTEGER) WITHOUT ROWID
"""


class StateUnusable(SiteDbError):
    """The file that says how far logs have been read cannot be used."""


class LogState(NamedTuple):
    """One log as it was when it was last read. `offset` and `line`: where to go on; `size` -1: look at it again."""

    path: bytes
    inode: int
    size: int
    mtime_ns: int
    head_bytes: int
    head: bytes
    offset: int
    line: int

    def begins_like(self, beginning: bytes) -> bool:
        """Whether a file with this beginning (HEAD_BYTES or more) can be this log, grown or not."""
        return len(beginning) >= self.head_bytes and fingerprint(beginning[: self.head_bytes]) == self.head


def fingerprint(beginning: bytes) -> bytes:
    """What is kept of the first bytes of a log."""
    return hashlib.sha256(beginning).digest()[:16]


class HarvestState:
    """The logs of one folder, read into one database."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=10)
            [form] = self._connection.execute("PRAGMA user_version").fetchone()
            if form not in (0, _FORM):
                self._connection.execute("DROP TABLE IF EXISTS logs")
            self._connection.execute(_TABLE)
            self._connection.execute("CREATE INDEX IF NOT EXISTS logs_inode ON logs (inode)")
            self._connection.execute(f"PRAGMA user_version = {_FORM}")
        except (OSError, sqlite3.Error) as error:
            message = f"{printable(str(path))}: the state of the harvest cannot be kept there: {error}."
            raise StateUnusable(message, "Give --state FILE another place, or remove that file.") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def forget_all(self) -> None:
        """Know no log any more."""
        self._connection.execute("DELETE FROM logs")

    def find(self, path: bytes, inode: int) -> LogState | None:
        """A log by its path, or, renamed, by its inode."""
        columns = "path, inode, size, mtime_ns, head_bytes, head, offset, line"
        query = f"SELECT {columns} FROM logs WHERE path = ? AND inode = ?"  # noqa: S608 - our own names
        row = self._connection.execute(query, (path, inode)).fetchone()
        if row is None:
            query = f"SELECT {columns} FROM logs WHERE inode = ? ORDER BY offset DESC"  # noqa: S608 - as above
            row = self._connection.execute(query, (inode,)).fetchone()
        return LogState(*row) if row else None

    def save(self, logs: Iterable[LogState]) -> None:
        """Note how far these logs have been read, all of them or none."""
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", logs)

    def forget_others(self, present: set[bytes]) -> None:
        """Forget logs that are not there any more."""
        gone = [(path,) for (path,) in self._connection.execute("SELECT path FROM logs") if path not in present]
        with self._connection:
            self._connection.execute("BEGIN")
            self._connection.executemany("DELETE FROM logs WHERE path = ?", gone)
