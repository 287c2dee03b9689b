"""`site-db retention`: what goes after some time. Three kinds, each by its own option: raw text, history, Parquet."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from reports.intake import utc_now
from reports.output import Answer, Table
from reports.progress import Show, working
from reports.session import Session, common_options
from reports.settings import Settings
from site_db.history_folder import HistoryFolder, open_folder
from site_db.history_retention import DroppedHistory, drop_history
from site_db.retention import Dropped, drop_raw_reports
from site_db.store import Store
from site_db.times import format_time

_session = click.make_pass_decorator(Session, ensure=True)
_DAYS = click.IntRange(min=1)
_TAKEN_DAYS = int(Settings().report_age_limit_days)
_MIB = 1024**2


@dataclass(frozen=True)
class _Wanted:
    """What is to go, and where history is kept."""

    raw_days: int | None
    history_days: int | None
    parquet_days: int | None
    folder: HistoryFolder | None
    dry_run: bool

    @property
    def verb(self) -> str:
        return "would be dropped" if self.dry_run else "dropped"


@click.command()
@click.option("--keep-raw-days", type=_DAYS, metavar="N", help="Keep the text of reports that came in the last N days.")
@click.option(
    "--keep-history-days",
    type=_DAYS,
    metavar="N",
    help="Keep the reports of N days in the database, and of older ones what something refers to.",
)
@click.option("--keep-parquet-days", type=_DAYS, metavar="N", help="Keep N days in the folder of --exported.")
@click.option(
    "--exported",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Where `site-db export parquet` writes: of history only what is there goes.",
)
@click.option("--unexported", is_flag=True, help="Drop history that was not exported as well.")
@click.option(
    "--report-age-limit-days",
    type=_DAYS,
    metavar="N",
    default=_TAKEN_DAYS,
    show_default=True,
    help="The same as in the collector's configuration: a report that may still come again has to be known.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@common_options
@_session
def retention(
    session: Session,
    keep_raw_days: int | None,
    keep_history_days: int | None,
    keep_parquet_days: int | None,
    exported: Path | None,
    unexported: bool,
    report_age_limit_days: int,
    dry_run: bool,
) -> None:
    """Drop the raw text of reports, reports that are exported, and exported days, each after its number of days.

    Everything concluded from reports stays: verdicts, changes, counts by day. Works in small steps while collectors
    run; an interrupted run is simply started again. What is not asked for is kept.

    \b
    Examples:
      site-db retention --keep-raw-days 30 --dry-run
      site-db export parquet /srv/history && site-db retention --keep-history-days 100 --exported /srv/history
      site-db retention --keep-parquet-days 1000 --exported /srv/history
    """
    if keep_raw_days is keep_history_days is keep_parquet_days is None:
        raise click.UsageError("Give --keep-raw-days, --keep-history-days or --keep-parquet-days.")
    if keep_history_days is not None:
        _check_history(keep_history_days, report_age_limit_days, exported, unexported)
    if keep_parquet_days is not None:
        _check_parquet(keep_parquet_days, keep_history_days, exported)
    now = utc_now()
    with session.store() as store, _opened(exported) as folder, working() as show:
        wanted = _Wanted(keep_raw_days, keep_history_days, keep_parquet_days, folder, dry_run)
        parts = [part for part in (step(store, wanted, now, show) for step in _STEPS) if part]
    data: dict[str, Any] = {"dry_run": dry_run}
    for part in parts:
        data |= part.data
    lines = [line for part in parts for line in part.lines]
    session.show(Answer(data, lines, Table(list(data), [list(data.values())])))


def _check_history(days: int, taken_days: int, exported: Path | None, unexported: bool) -> None:
    if days <= taken_days:
        raise click.UsageError(
            f"--keep-history-days has to be more than {taken_days}: the collector takes reports that old "
            "(--report-age-limit-days), and one that comes again would count twice."
        )
    if (exported is None) is not unexported:
        raise click.UsageError("--keep-history-days needs one of --exported FOLDER and --unexported.")


def _check_parquet(days: int, history_days: int | None, exported: Path | None) -> None:
    if exported is None:
        raise click.UsageError("--keep-parquet-days needs --exported FOLDER.")
    if history_days is not None and days < history_days:
        raise click.UsageError("--keep-parquet-days is less than --keep-history-days: exported days would go first.")


@contextmanager
def _opened(path: Path | None) -> Iterator[HistoryFolder | None]:
    if path is None:
        yield None
        return
    with open_folder(path) as folder:
        yield folder


@dataclass(frozen=True)
class _Part:
    """What one step says."""

    data: dict[str, Any]
    lines: list[str]


def _drop_raw(store: Store, wanted: _Wanted, now: datetime, show: Show) -> _Part | None:
    if wanted.raw_days is None:
        return None

    def progress(dropped: Dropped) -> None:
        show(0, f"{dropped.reports} raw reports")

    before = now - timedelta(days=wanted.raw_days)
    dropped = drop_raw_reports(store, before, dry_run=wanted.dry_run, progress=progress)
    when, size = format_time(before), f"{dropped.size_bytes / _MIB:.1f} MiB"
    told = f"{dropped.reports} raw reports from before {when} {wanted.verb}: {size}."
    data = {"dropped": dropped.reports, "bytes": dropped.size_bytes, "before": when}
    return _Part(data, [told, *_note(dropped.reports, wanted)])


def _drop_history(store: Store, wanted: _Wanted, now: datetime, show: Show) -> _Part | None:
    if wanted.history_days is None:
        return None

    def progress(dropped: DroppedHistory) -> None:
        show(0, f"{dropped.reports} reports")

    before = _first_day(now, wanted.history_days)
    dropped = drop_history(store, before, wanted.folder, dry_run=wanted.dry_run, progress=progress)
    told = [f"{dropped.reports} reports made before {before} {wanted.verb}."]
    if dropped.unexported:
        told.append(f"{dropped.unexported} of that time stay: they are not exported. Run site-db export parquet.")
    data = {
        "history_dropped": dropped.reports,
        "history_unexported": dropped.unexported,
        "history_before": str(before),
    }
    return _Part(data, [*told, *_note(dropped.reports, wanted)])


def _drop_parquet(_store: Store, wanted: _Wanted, now: datetime, _show: Show) -> _Part | None:
    if wanted.parquet_days is None or wanted.folder is None:
        return None
    before = _first_day(now, wanted.parquet_days)
    days = [day for day in wanted.folder.days() if day < before]
    size = sum(wanted.folder.size_bytes(day) for day in days)
    if not wanted.dry_run:
        wanted.folder.drop(before)
    told = f"{len(days)} exported days before {before} {wanted.verb}: {size / _MIB:.1f} MiB."
    return _Part({"parquet_days": len(days), "parquet_bytes": size, "parquet_before": str(before)}, [told])


def _first_day(now: datetime, days: int) -> date:
    """The first of that many whole UTC days that are kept; today's is one more."""
    return now.date() - timedelta(days=days)


def _note(dropped: int, wanted: _Wanted) -> list[str]:
    return ["The file keeps its size: the room is used for what comes."] if dropped and not wanted.dry_run else []


_STEPS = (_drop_raw, _drop_history, _drop_parquet)
