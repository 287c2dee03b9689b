"""What the commands answer that look after the database over time."""

from datetime import datetime
from pathlib import Path

from reports.answers import age
from reports.output import Answer, Table
from site_db.changes_views import Change, ChangeList
from site_db.retention import Dropped
from site_db.times import format_time

_MIB = 1024**2
_FIGURES = ("since", "entry", "site", "capability", "direction", "state", "nodes", "first_node", "reason", "relapses")


def changes(found: ChangeList) -> Answer:
    """Changes: a line each for people, all figures for spreadsheets."""
    rows = [_line(change, found.generated_at) for change in found.changes]
    columns = ["entry", "what", "state", "since", "first node", "nodes", "reason"]
    full = Table(list(_FIGURES), [[_figure(change, name) for name in _FIGURES] for change in found.changes])
    return Answer(found.to_dict(), [Table(columns, rows)] if rows else ["No entry lost or gained anything."], full)


def _line(change: Change, now: datetime) -> list[object]:
    what = f"{change.direction} {change.capability}"
    since = f"{age(change.since, now)} ago"
    return [change.entry, what, change.state, since, change.first_node, change.nodes, change.reason]


def _figure(change: Change, name: str) -> object:
    value = getattr(change, name)
    return format_time(value) if isinstance(value, datetime) else value


def retained(dropped: Dropped, before: datetime, dry_run: bool) -> Answer:
    """What retention dropped, or would."""
    verb = "would be dropped" if dry_run else "dropped"
    told = f"{dropped.reports} raw reports from before {format_time(before)} {verb}: {dropped.size_bytes / _MIB:.1f} MiB."
    note = "The file keeps its size: the room is used for what comes." if dropped.reports and not dry_run else None
    data = {"dropped": dropped.reports, "bytes": dropped.size_bytes, "before": format_time(before), "dry_run": dry_run}
    table = Table(list(data), [list(data.values())])
    return Answer(data, [told, *([note] if note else [])], table)


def backed_up(path: Path, size_bytes: int) -> Answer:
    """Where the copy is."""
    data = {"file": str(path), "bytes": size_bytes}
    return Answer(data, [f"{path}: {size_bytes / _MIB:.1f} MiB"], Table(list(data), [list(data.values())]))
