"""What the commands answer that look after the database over time."""

from datetime import datetime
from pathlib import Path

from reports.answers import age
from reports.output import Answer, Table
from site_db.changes_views import Change, ChangeList
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


def backed_up(path: Path, size_bytes: int) -> Answer:
    """Where the copy is."""
    data = {"file": str(path), "bytes": size_bytes}
    return Answer(data, [f"{path}: {size_bytes / _MIB:.1f} MiB"], Table(list(data), [list(data.values())]))


def restored(path: Path, before: Path | None) -> Answer:
    """What is in the database's place, and where that is which was there."""
    data = {"file": str(path), "before": before and str(before)}
    told = f"{path} is in its place; before: {before}" if before else f"{path} is in its place."
    return Answer(data, [told], Table(list(data), [list(data.values())]))
