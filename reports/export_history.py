"""`site-db export parquet|csv|json`: history, one row a report, for other programs."""

import csv
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any

import click
import orjson

from reports.output import Answer, Table
from reports.pages.exporting import CannotExport
from reports.progress import Show, working
from reports.safe_text import csv_cell, escaped_json
from reports.session import Session, common_options
from site_db.history_folder import HistoryFolder, Written, open_folder
from site_db.history_rows import FIELDS, Day, Facts, list_days, read_day
from site_db.store import Store
from site_db.times import moment

_session = click.make_pass_decorator(Session, ensure=True)
_STDOUT = Path("-")
_TIMES = [field.name for field in FIELDS if field.kind == "time"]
# A cell holds one value: lists of answers and checks have a column each in Parquet and JSON only.
_CELLS = [field.name for field in FIELDS if field.kind not in ("answers", "checks")]
_DATE = click.DateTime(["%Y-%m-%d"])

Write = Callable[[IO[bytes], Iterator[Facts]], int]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@common_options
@_session
def parquet(session: Session, folder: Path) -> None:
    """Write history to FOLDER as Parquet, one row a report, one folder a day: for DuckDB, Spark, any lakehouse.

    Only days that have changed since the last export are written; each appears as a whole or not at all. What the
    database dropped since stays in the folder. Run it daily, before `site-db retention --exported FOLDER`.

    \b
    Examples:
      site-db export parquet /srv/history
      duckdb -c "SELECT day, count(*) FROM '/srv/history/*/*.parquet' GROUP BY day"
    """
    with session.store() as store, open_folder(folder, make=True) as history:
        days = list_days(store)
        with working(sum(day.reports for day in days)) as show:
            written = list(_write_days(store, history, days, show))
        gone = sum(history.is_gone(day.day) for day in days)
    files = [{"file": str(one.path), "reports": one.reports, "bytes": one.path.stat().st_size} for one in written]
    data = {"folder": str(folder), "days": len(days), "dropped_days": gone, "written": files}
    table = Table(["file", "reports", "bytes"], [list(file.values()) for file in files])
    told = f"{folder}: {len(files)} of {len(days)} days written, the others are as they were."
    session.show(Answer(data, [told, *([table] if files else [])], table))


def _write_days(store: Store, history: HistoryFolder, days: list[Day], show: Show) -> Iterator[Written]:
    done = 0
    for day in days:
        show(done, str(day.day))
        if history.needs(day) and (written := history.write(store, day)):
            yield written
        done += day.reports


def _period(command: Callable[..., None]) -> Callable[..., None]:
    since = click.option("--since", type=_DATE, metavar="DATE", help="From this day on (UTC).")
    until = click.option("--until", type=_DATE, metavar="DATE", help="Up to this day (UTC), and with it.")
    return since(until(command))


@click.command(name="csv")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@_period
@common_options
@_session
def as_csv(session: Session, file: Path, since: datetime | None, until: datetime | None) -> None:
    """Write history to FILE (-: standard output) as CSV, one row a report. Empty means not known.

    \b
    Example:
      site-db export csv yesterday.csv --since 2026-11-20 --until 2026-11-20
    """
    _export(session, file, _days_wanted(since, until), _write_csv)


@click.command(name="json")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@_period
@common_options
@_session
def as_json(session: Session, file: Path, since: datetime | None, until: datetime | None) -> None:
    """Write history to FILE (-: standard output) as one JSON object a line and report. null means not known.

    \b
    Example:
      site-db export json - --since 2026-11-20 | jq .singularity_reason
    """
    _export(session, file, _days_wanted(since, until), _write_json)


def _days_wanted(since: datetime | None, until: datetime | None) -> Callable[[date], bool]:
    first, last = since.date() if since else date.min, until.date() if until else date.max
    if first > last:
        raise click.UsageError("--since is after --until.")
    return lambda day: first <= day <= last


def _export(session: Session, file: Path, wanted: Callable[[date], bool], write: Write) -> None:
    with session.store() as store:
        days = [day for day in list_days(store) if wanted(day.day)]
        with working(sum(day.reports for day in days)) as show, _writing(file) as stream:
            reports = write(stream, _rows(store, days, show))
    data = {"file": str(file), "days": len(days), "reports": reports}
    if file != _STDOUT:
        session.show(Answer(data, [Table(list(data), [list(data.values())])]))


def _rows(store: Store, days: list[Day], show: Show) -> Iterator[Facts]:
    done = 0
    for day in days:
        for rows in read_day(store, day):
            show(done, str(day.day))
            for row in rows.mappings():
                for name in _TIMES:
                    row[name] = moment(row[name])
                yield row
            done += len(rows.numbers)


def _write_csv(stream: IO[bytes], rows: Iterator[Facts]) -> int:
    lines = 0

    class Lines:
        """What csv.writer needs of a file."""

        def write(self, line: str) -> None:
            stream.write(line.encode())

    writer = csv.writer(Lines(), lineterminator="\n")
    writer.writerow(_CELLS)
    for row in rows:
        lines += 1
        writer.writerow([csv_cell(_cell(row[name])) for name in _CELLS])
    return lines


def _cell(value: Any) -> object:  # noqa: ANN401 - any value of a column
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return ", ".join(value) if isinstance(value, list) else value


def _write_json(stream: IO[bytes], rows: Iterator[Facts]) -> int:
    lines = 0
    for row in rows:
        lines += 1
        stream.write(escaped_json(orjson.dumps(row, option=orjson.OPT_UTC_Z)) + b"\n")
    return lines


@contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    """The file, which appears when it is whole; standard output, pipes and devices are written as they are."""
    try:
        if path == _STDOUT:
            sys.stdout.flush()
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif path.exists() and not path.is_file():
            with path.open("wb") as stream:
                yield stream
        else:
            beside = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                with beside.open("wb") as stream:
                    yield stream
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
    except BrokenPipeError:
        raise  # whoever read has seen enough: click ends the program quietly
    except OSError as error:
        raise CannotExport(f"{path} cannot be written: {error.strerror or error}.", "Choose another place.") from error
