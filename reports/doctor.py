"""`site-db doctor`: is this centre able to work? Each look is one row with a status and words."""

import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from reports.version import VERSION
from site_db.errors import SiteDbError
from site_db.sizes import read_sizes
from site_db.store import Store

_LOW_DISK_BYTES = 1024**3
_LOW_MEMORY_BYTES = 256 * 1024**2
_MIB, _GIB = 1024**2, 1024**3
_PACKAGES = ("sqlalchemy", "alembic", "starlette", "uvicorn", "orjson", "jsonschema-rs")


class Look(NamedTuple):
    """One thing looked at. `status` is ok, warning or fail."""

    what: str
    status: str
    detail: str
    remedy: str = ""


def examine(url: str) -> list[Look]:
    """Look at the database, the disk under it, the memory and the versions. Raises nothing that a look can say."""
    return [*_database(url), *_disk(url), _memory(), _versions()]


def _database(url: str) -> list[Look]:
    try:
        store = Store.open(url)
    except SiteDbError as error:
        return [Look("database", "fail", str(error), error.remedy)]
    try:
        store.ping()
        return [Look("database", "ok", f"{store.place} answers"), _size(store)]
    except SiteDbError as error:
        return [Look("database", "fail", str(error), error.remedy)]
    finally:
        store.close()


def _size(store: Store) -> Look:
    size = read_sizes(store)
    each = f", {size.database_bytes / size.reports:.0f} bytes each" if size.reports else ""
    raw = "" if size.raw_bytes is None else f"; raw reports {size.raw_bytes / _MIB:.1f} MiB"
    free = f"; {size.free_bytes / _MIB:.1f} MiB of it free" if size.free_bytes else ""
    detail = f"{size.database_bytes / _MIB:.1f} MiB for {size.reports} reports of {size.nodes} nodes{each}{raw}{free}"
    return Look("size", "ok", detail)


def _disk(url: str) -> list[Look]:
    try:
        parsed = make_url(url)
    except ArgumentError:  # said by _database
        return []
    if not parsed.drivername.startswith("sqlite") or not parsed.database:
        return []
    folder = str(Path(parsed.database).absolute().parent)
    try:
        free = psutil.disk_usage(folder).free
    except OSError as error:
        return [Look("disk", "fail", f"{folder}: {error.strerror}", "Make the folder, or give another database.")]
    detail = f"{free / _GIB:.1f} GiB free in {folder}"
    if free < _LOW_DISK_BYTES:
        return [Look("disk", "warning", detail, "Make room: a full disk refuses reports.")]
    return [Look("disk", "ok", detail)]


def _memory() -> Look:
    available = psutil.virtual_memory().available
    detail = f"{available / _GIB:.1f} GiB available"
    if available < _LOW_MEMORY_BYTES:
        return Look("memory", "warning", detail, "End other programs, or give this machine more memory.")
    return Look("memory", "ok", detail)


def _versions() -> Look:
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    detail = f"site-db {VERSION}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {packages}"
    return Look("versions", "ok", detail)
