"""What becomes of imported files; and of those that are not there any more: what they said counts no longer, and is named."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, select, update

from site_db import tables
from site_db.configuration.model import Problem
from site_db.errors import UnknownName
from site_db.site_reports import SiteReportPart
from site_db.storable import storable
from site_db.store import Store
from site_db.times import microseconds

_FILES, _ENTRIES = tables.configuration_files.c, tables.configured_entries.c
_WITH_ROWS = (tables.registered_resources, tables.policy_rows)


@dataclass(frozen=True)
class ImportedFile:
    """What became of one file. `vanished`: entries that it had at the last import and has no more."""

    path: str
    kind: str
    entries: int = 0
    resources: int = 0
    policy_rows: int = 0
    new: int = 0
    changed: int = 0
    vanished: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Imported(SiteReportPart):
    """What became of all files, and problems between them."""

    factory: str
    files: tuple[ImportedFile, ...]
    problems: tuple[Problem, ...] = ()


def forget_file(store: Store, path: Path, now: datetime, factory: str | None = None) -> Imported:
    """Let nothing count any more that a file said, whether it is still there or not.

    `factory`: only as it was imported for this one. Raises UnknownName for a file that was not imported.
    """
    name = storable(str(path.absolute()))
    with store.writing() as connection:
        rows = [row for row in _imported(connection, factory) if row.path == name]
        if not rows:
            raise UnknownName("imported file", name, [row.path for row in _imported(connection, factory)])
        files = tuple(_forget(connection, row, microseconds(now)) for row in rows)
    return Imported(factory or rows[0].factory, files)


def forget_missing(
    connection: Connection, folders: Collection[Path], read: Collection[str], factory: str, now: datetime
) -> list[ImportedFile]:
    """Let nothing count any more of this factory's files that were below these folders and are not among those read."""
    roots = [Path(storable(str(folder.absolute()))) for folder in folders]
    there = set(map(storable, read))
    gone = [
        row
        for row in _imported(connection, factory)
        if row.path not in there and any(Path(row.path).is_relative_to(root) for root in roots)
    ]
    files = [_forget(connection, row, microseconds(now)) for row in gone]
    return [file for file in files if file.vanished or file.resources or file.policy_rows]


def _imported(connection: Connection, factory: str | None) -> list[Row[Any]]:
    query = select(_FILES.id, _FILES.path, _FILES.kind, _FILES.factory).order_by(_FILES.path)
    return list(connection.execute(query if factory is None else query.where(_FILES.factory == storable(factory))))


def _forget(connection: Connection, file: Row[Any], at: int) -> ImportedFile:
    present = (_ENTRIES.file_id == file.id) & _ENTRIES.vanished_at.is_(None)
    vanished = tuple(connection.scalars(select(_ENTRIES.name).where(present).order_by(_ENTRIES.name)))
    connection.execute(update(tables.configured_entries).where(present).values(vanished_at=at))
    resources, policy_rows = (_drop(connection, table, file.id) for table in _WITH_ROWS)
    said = f"{len(vanished)} entries, {resources} resources and {policy_rows} rows of policy"
    problem = Problem(file.path, f"is gone: what it said ({said}) counts no more")
    return ImportedFile(file.path, file.kind, 0, resources, policy_rows, vanished=vanished, problems=(problem,))


def _drop(connection: Connection, table: Table, file_id: int) -> int:
    """Delete the rows of a file; how many there were."""
    of_file = table.c.file_id == file_id
    count = connection.scalar(select(func.count()).select_from(table).where(of_file)) or 0
    connection.execute(delete(table).where(of_file))
    return count
