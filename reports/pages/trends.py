"""Plots with their data: shares over time, versions, modes, CVMFS, GPU models; of all sites or of one."""

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reports.pages import beginning, cells
from reports.pages.asked import Asked
from reports.pages.centre import MATRIX, Centre
from reports.pages.model import Block, Cell, Choice, Column, Figure, Form, Grid, Page
from reports.safe_text import shorten
from site_db.errors import UnknownName
from site_db.history import History, read_history
from site_db.images.fleet import read_fleet, reports_since, site_ids
from site_db.latency import cvmfs_latencies
from site_db.rules import default_rules, find

_PERIODS = {"14": "two weeks", "30": "30 days", "90": "90 days", "365": "a year"}
_USUAL = "30"
# Of more lines or bars nobody tells one from the other; the rest goes together.
_SERIES = 8
_BARS = 12
_REPORTS_READ = 400
_SHOWN_SHARES = ("singularity", "unprivileged", "privileged", "cvmfs_inside", "gpu")
_REST = "others"

Draw = Callable[[Centre, int, str], Figure]


def trends(centre: Centre, asked: Asked) -> Page:
    """All plots. Raises UnknownName for a site that is not there."""
    days, site = _state(asked)
    form = Form(
        [
            Choice("site", "Site", hint="its whole name; empty: all sites"),
            Choice("days", "Period", list(_PERIODS.items()), default=_USUAL),
        ]
    )
    figures = [figure(centre, name, asked) for name in FIGURES]
    lead = [f"{site or 'All sites'}, the last {days} days. A node counts under every entry that it was seen under."]
    trail = [cells.name(site, "site")] if site else []
    begin = [] if any(figure.series for figure in figures) else [beginning.first_report()]
    blocks: list[Block] = [form, *begin, *figures]
    return Page("Trends", "trends", centre.now(), blocks, lead, trail=trail)


def shares(centre: Centre, asked: Asked, site: str) -> Figure:
    """The plot of one site's capabilities, for its page."""
    days, _ = _state(asked)
    return _kept(centre, "shares", days, site)


def figure(centre: Centre, name: str, asked: Asked) -> Figure:
    """One of FIGURES in the state that was asked for. Raises UnknownName, WrongQuestion."""
    days, site = _state(asked)
    if name not in FIGURES:
        raise UnknownName("plot", name, FIGURES)
    return _kept(centre, name, days, site)


def _kept(centre: Centre, name: str, days: int, site: str) -> Figure:
    return centre.kept.ask(("figure", name, days, site), lambda: FIGURES[name](centre, days, site))


def _state(asked: Asked) -> tuple[int, str]:
    return int(asked.one_of("days", _PERIODS, _USUAL)), asked.text("site")


def _history(centre: Centre, days: int, site: str) -> History:
    return centre.kept.ask(
        ("history", days, site), lambda: read_history(centre.store, centre.now(), days, site or None)
    )


def _query(days: int, site: str) -> tuple[tuple[str, str], ...]:
    given = (("site", site), ("days", "" if str(days) == _USUAL else str(days)))
    return tuple((name, value) for name, value in given if value)


def _shares(centre: Centre, days: int, site: str) -> Figure:
    history = _history(centre, days, site)
    rules = default_rules()
    wanted = [capability for name in _SHOWN_SHARES if (capability := rules.capability(name))]
    found = {MATRIX[capability.name]: history.share(capability) for capability in wanted}
    series = {title: values for title, values in found.items() if any(value is not None for value in values)}
    return _over_time(
        "shares", "Capabilities: share of nodes that can, of those that could tell", "lines", history, series, days, site
    )


def _versions(centre: Centre, days: int, site: str) -> Figure:
    history = _history(centre, days, site)
    series = _few(history.counts(_version))
    return _over_time("versions", "Versions of Singularity and Apptainer", "stacked", history, series, days, site)


def _version(profile: Mapping[str, Any]) -> str:
    found = profile["singularity"]
    return f"{found['product'] or 'Singularity'} {found['version']}" if found["version"] else "none found"


def _modes(centre: Centre, days: int, site: str) -> Figure:
    history = _history(centre, days, site)
    series = _few(history.counts(_mode))
    return _over_time("modes", "Modes in which containers run", "stacked", history, series, days, site)


def _mode(profile: Mapping[str, Any]) -> str:
    found = profile["singularity"]
    return str(found["mode"] or {False: "does not work"}.get(found["usable"], "not known"))


def _few(counts: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """The most frequent series, and the sum of all others."""
    names = list(counts)
    found = {shorten(name, 60): list(counts[name]) for name in names[: _SERIES - 1]}
    rest = [counts[name] for name in names[_SERIES - 1 :]]
    return found | ({_REST: [sum(values) for values in zip(*rest, strict=True)]} if rest else {})


def _over_time(
    name: str,
    caption: str,
    form: str,
    history: History,
    series: Mapping[str, Sequence[float | None]],
    days: int,
    site: str,
) -> Figure:
    is_share = form == "lines"
    labels = [day.isoformat() for day in history.days]
    rows = [
        [Cell(label, label), *(_value(series[title][position], is_share) for title in series)]
        for position, label in enumerate(labels)
    ]
    columns = [Column("day", "Day (UTC)"), *(Column(title, title, numeric=True) for title in series)]
    grid = Grid(name, caption, columns, list(reversed(rows)), False, "No data.")
    return Figure(name, caption, form, labels, dict(series), grid, "" if is_share else "nodes", _query(days, site))


def _value(value: float | None, is_share: bool) -> Cell:
    if not is_share:
        return cells.count(None if value is None else int(value))
    return Cell(None if value is None else round(value, 4), cells.percent(value))


def _latency(centre: Centre, days: int, site: str) -> Figure:
    found = cvmfs_latencies(centre.store, centre.now(), days, _REPORTS_READ, site or None)
    measured = {name: sorted(values) for name, values in found.items() if values}
    names = sorted(measured, key=lambda name: -statistics.median(measured[name]))
    rows = [
        [
            cells.text(name),
            cells.count(len(measured[name])),
            *(_seconds(_quantile(measured[name], part)) for part in (0.5, 0.9, 1.0)),
        ]
        for name in names
    ]
    columns = [
        Column("repository", "Repository"),
        Column("reports", "Reports", numeric=True),
        Column("median_s", "Median", numeric=True),
        Column("p90_s", "90 % within", numeric=True),
        Column("most_s", "Longest", numeric=True),
    ]
    caption = f"CVMFS: time to the first answer, in the newest reports of up to {_REPORTS_READ} nodes"
    series = {shorten(name, 60): [value * 1000 for value in measured[name]] for name in names[:_BARS]}
    grid = Grid("latency", caption, columns, rows, False, "No kept report has a measurement.")
    return Figure("latency", caption, "box", list(series), series, grid, "ms", _query(days, site))


def _quantile(in_order: Sequence[float], part: float) -> float:
    """The smallest value that this part of the values does not exceed."""
    return in_order[max(0, -(-int(part * len(in_order) * 1000) // 1000) - 1)]


def _seconds(value: float) -> Cell:
    return Cell(round(value, 6), f"{value * 1000:,.1f} ms")


def _gpus(centre: Centre, days: int, site: str) -> Figure:
    rules = default_rules()
    with centre.store.reading() as connection:
        numbers = site_ids(connection, [site]) if site else None
        fleet = read_fleet(connection, reports_since(centre.now(), rules), numbers)
    devices, nodes = Counter[str](), Counter[str]()
    for (_, profile), count in fleet.nodes.items():
        for device in find(fleet.profiles[profile], ("gpus", "devices")) or []:
            model = str(device["model"] or f"{device['vendor']} GPU of an unknown model")
            devices[model] += device["count"] * count
            nodes[model] += count
    ranked = [model for model, _ in devices.most_common()]
    rows = [[cells.text(model), cells.count(devices[model]), cells.count(nodes[model])] for model in ranked]
    columns = [Column("model", "Model"), Column("devices", "GPUs", numeric=True), Column("nodes", "Nodes", numeric=True)]
    caption = f"GPU models on nodes that reported in the last {rules.window_days} days"
    shown = ranked[:_BARS]
    grid = Grid("gpus", caption, columns, rows, False, "No node has a GPU that was seen.")
    series = {"GPUs": [devices[model] for model in shown]} if shown else {}
    return Figure("gpus", caption, "bars", [shorten(model, 60) for model in shown], series, grid, "GPUs", _query(days, site))


FIGURES: Mapping[str, Draw] = {
    "shares": _shares,
    "versions": _versions,
    "modes": _modes,
    "latency": _latency,
    "gpus": _gpus,
}

