"""A folder of history: one folder a UTC day (`day=2026-11-20/`), as Spark, DuckDB and other engines read partitions.

A day's file is written beside its place under a name that no engine reads, made durable, and renamed: whoever reads sees the
old or the new one. Where the database has forgotten reports that the files hold, later ones of that day go to a further
file, so that writing a day never loses what is there.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import IO, NamedTuple

from site_db import parquet
from site_db.errors import SiteDbError
from site_db.history_rows import Day, Rows, read_day, read_report_ids
from site_db.store import Store

# Engines pass over names that begin with _ or a full stop.
_MARK = "_site_db_history.json"
_DAY = re.compile(r"day=(\d{4}-\d\d-\d\d)")
_FILE = re.compile(r"reports(?:-\d+)?\.parquet")


class CannotKeepHistory(SiteDbError):
    """The folder is taken, in use by another run, or cannot be written."""


class Written(NamedTuple):
    """One file of a day as it was written: its place, and how many reports it holds."""

    path: Path
    reports: int


class HistoryFolder:
    """An open folder; `open_folder` makes one. Days before `dropped_before` were dropped on purpose and do not come back."""

    def __init__(self, path: Path, mark: IO[str], dropped_before: date | None) -> None:
        self.path = path
        self._mark = mark
        self.dropped_before = dropped_before

    def days(self) -> list[date]:
        """The days that there are, the oldest first."""
        matches = (_DAY.fullmatch(path.name) for path in self.path.iterdir())
        return sorted(date.fromisoformat(match[1]) for match in matches if match)

    def is_gone(self, day: date) -> bool:
        """Whether this day was dropped from the folder on purpose."""
        return self.dropped_before is not None and day < self.dropped_before

    def needs(self, day: Day) -> bool:
        """Whether the database has reports of this day that the files may not have. Raises NoParquet."""
        files = self._footers(day.day)
        if self.is_gone(day.day):
            return False
        return (
            any(file.form != parquet.FORM for file in files)
            or day.reports > sum(file.reports for file in files)
            or day.last > max((file.last for file in files), default=0)
        )

    def report_ids(self, day: date) -> set[str]:
        """The ids of all reports that the files of a day hold: some 100 bytes of memory each. Raises NoParquet."""
        return {identity for file in self._files(day) for identity in parquet.report_ids(file)}

    def write(self, store: Store, day: Day) -> Written | None:
        """Write a day: anew if the database has all that the files have, else what they lack; None: they lack nothing."""
        kept, files = self.report_ids(day.day), self._files(day.day)
        there = set(read_report_ids(store, day)) if kept else set()
        folder = self.path / f"day={day.day}"
        if kept <= there:
            path = folder / "reports.parquet"
            return self._write(path, read_day(store, day), [file for file in files if file != path])
        if there <= kept:
            return None
        return self._write(folder / f"reports-{len(files) + 1}.parquet", _without(read_day(store, day), kept))

    def drop(self, before: date) -> None:
        """Drop all days before that one, and remember it. Raises CannotKeepHistory."""
        try:
            self.dropped_before = max(before, self.dropped_before or before)
            self._remember()
            for day in self.days():
                if day < before:
                    self._remove(self.path / f"day={day}")
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def size_bytes(self, day: date) -> int:
        """The size of a day's files."""
        return sum(file.stat().st_size for file in self._files(day))

    def _files(self, day: date) -> list[Path]:
        folder = self.path / f"day={day}"
        return sorted(path for path in folder.iterdir() if _FILE.fullmatch(path.name)) if folder.is_dir() else []

    def _footers(self, day: date) -> list[parquet.DayFile]:
        return [parquet.read_footer(path) for path in self._files(day)]

    def _write(self, path: Path, portions: Iterator[Rows], besides: Sequence[Path] = ()) -> Written:
        """Write a file, which then also stands for those `besides` it."""
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(exist_ok=True)
            try:
                reports = parquet.write_file(beside, portions)
                _make_durable(beside)
                # Before: whatever ends this here leaves a day that lacks reports, which the next export sees, and never one
                # that has them twice.
                for file in besides:
                    file.unlink()
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
            for place in (path.parent, self.path):
                _make_durable(place)
        except OSError as error:
            raise _unwritable(path, error) from error
        return Written(path, reports)

    def _remember(self) -> None:
        told = {"dropped_before": self.dropped_before and str(self.dropped_before)}
        self._mark.seek(0)
        self._mark.truncate()
        json.dump(told, self._mark)
        self._mark.flush()
        os.fsync(self._mark.fileno())

    def _remove(self, folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@contextmanager
def open_folder(path: Path, *, make: bool = False) -> Iterator[HistoryFolder]:
    """Open a folder of history for this run alone; `make` it where it is missing or empty. Raises CannotKeepHistory."""
    with _open_mark(path, make) as mark:
        try:
            told = json.loads(mark.read() or "{}").get("dropped_before")
            dropped_before = date.fromisoformat(told) if told else None
        except (ValueError, AttributeError, TypeError) as error:
            message = f"{path / _MARK} is damaged: {error}."
            raise CannotKeepHistory(message, "Restore it, or export to an empty folder.") from error
        yield HistoryFolder(path, mark, dropped_before)


def _open_mark(path: Path, make: bool) -> IO[str]:
    """The file that marks the folder as ours, locked until it is closed."""
    try:
        if make:
            path.mkdir(parents=True, exist_ok=True)
        if not (path / _MARK).exists() and not (make and not any(path.iterdir())):
            message = f"{path} is no folder that site-db export parquet made."
            raise CannotKeepHistory(message, "Give the folder of earlier exports, or for an export an empty one.")
        mark = (path / _MARK).open("a+", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        mark.close()
        raise CannotKeepHistory(f"{path}: another run is at work on it.", "Wait until it is done.") from error
    mark.seek(0)
    return mark


def _unwritable(path: Path, error: OSError) -> CannotKeepHistory:
    return CannotKeepHistory(f"{path} cannot be written: {error.strerror or error}.", "Choose another place, or make room.")


def _without(portions: Iterator[Rows], kept: set[str]) -> Iterator[Rows]:
    for rows in portions:
        places = [place for place, identity in enumerate(rows.columns["report_id"]) if identity not in kept]
        if places:
            columns = {name: [values[place] for place in places] for name, values in rows.columns.items()}
            numbers, profiles = ([given[place] for place in places] for given in (rows.numbers, rows.profiles))
            yield Rows(numbers, columns, profiles, rows.facts)


def _make_durable(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
