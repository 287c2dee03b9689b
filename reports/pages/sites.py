"""All sites at a glance, and one site."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

from reports.pages import beginning, cells, matrix, told, trends
from reports.pages.asked import Asked
from reports.pages.centre import Centre
from reports.pages.model import Block, Cell, Column, Facts, Grid, Group, Notice, Page, Point, Target
from site_db import views
from site_db.changes_views import Change, Wanted
from site_db.reasons import explain_reason
from site_db.site_labels import Labels
from site_db.site_reports import SiteList, SiteReport, SiteSummary

_RECENT = timedelta(days=7)
_CHANGES_SHOWN = 6
_TITLES_SHOWN = 4
_NO_LABELS = Labels()


def overview(centre: Centre, asked: Asked) -> Page:
    """The sites by capability, and what changed this week."""
    found, all_rows = centre.kept.ask("site_rows", lambda: _all_rows(centre))
    labels, fits = centre.site_labels(), matrix.wanted(asked)
    rows = [row for site, row in all_rows if fits([site.name], labels.get(site.name, _NO_LABELS), site.verdicts)]
    blocks: list[Block] = [_summary(found), _this_week(centre)]
    if found.sites:
        blocks.append(matrix.filters(labels.values(), "part of a site's name"))
    else:
        blocks = [beginning.first_report()]
    blocks.append(_grid(rows, found))
    lead = [f"What worker nodes that reported in the last {found.window_days} days can do."]
    return Page("Containers by site", "sites", found.generated_at, blocks, lead)


def _all_rows(centre: Centre) -> tuple[SiteList, list[tuple[SiteSummary, list[Cell]]]]:
    found = centre.sites()
    return found, [(site, _row(site, found)) for site in found.sites]


def _summary(found: SiteList) -> Facts:
    singularity = [verdict for site in found.sites for verdict in site.verdicts if verdict.capability == "singularity"]
    yes, no = (sum(getattr(verdict, name) for verdict in singularity) for name in ("nodes_yes", "nodes_no"))
    newest = max((site.freshness.newest for site in found.sites if site.freshness.newest), default=None)
    answers = Counter(verdict.answer for verdict in singularity)
    rows = [
        ("Sites", cells.count(len(found.sites))),
        ("Entries", cells.count(sum(site.entries for site in found.sites))),
        ("Nodes", cells.count(sum(site.freshness.nodes_recent for site in found.sites))),
        ("Singularity works on", Cell(None, cells.percent(yes / (yes + no) if yes + no else None), "", None, "of nodes")),
        ("Sites with trouble", _of(answers["no"] + answers["mixed"], Target("sites", None, (("answer", "trouble"),)))),
        ("Last report (UTC)", cells.when(newest, found.generated_at)),
    ]
    return Facts("", rows)


def _of(number: int, link: Target) -> Cell:
    return cells.count(number)._replace(link=link if number else None)


def _this_week(centre: Centre) -> Group:
    now = centre.now()
    # By the begin of a minute: the question is kept, and is the same for all who ask within it.
    since = (now - _RECENT).replace(second=0, microsecond=0)
    found = centre.changes(Wanted(since)).changes
    recent = [change for change in found if change.confirmed_at and change.since >= since]
    groups = told.together(recent)
    notices = [_notice(group, now) for group in groups[:_CHANGES_SHOWN]]
    more = Cell(None, f"All changes of this week ({len(groups)} confirmed)", "", Target("changes", None, (("days", "7"),)))
    return Group("week", "What changed this week", notices, "No confirmed change.", more if recent else None)


def _notice(group: Sequence[Change], now: datetime) -> Notice:
    first = group[0]
    title = Cell(None, f"{first.entry} {first.direction}", "", Target("entry", f"{first.entry}@{first.factory}"))
    points = [
        Point("", cells.listed([change.title for change in group], _TITLES_SHOWN)),
        Point(
            "Since",
            f"{cells.when(first.since, now).note}, on {cells.so_many_nodes(first.nodes)}, first on {first.first_node}",
        ),
        *([Point("Because", told.titled(explain_reason(first.reason)))] if first.reason else []),
    ]
    return Notice(title, points, "no" if first.direction == "lost" else "yes")


def _row(site: SiteSummary, found: SiteList) -> list[Cell]:
    return [
        cells.name(site.name, "site"),
        cells.count(site.entries),
        cells.count(site.freshness.nodes_recent),
        *matrix.row(site.verdicts),
        matrix.last_report(site, found.generated_at),
    ]


def _grid(rows: Sequence[Sequence[Cell]], found: SiteList) -> Grid:
    columns = [
        Column("site", "Site"),
        Column("entries", "Entries", numeric=True),
        Column("nodes", "Nodes", f"that reported in the last {found.window_days} days", numeric=True),
        *matrix.columns(),
        Column("newest", "Last report (UTC)"),
    ]
    empty = "No site fits." if found.sites else "No site yet."
    return Grid("sites", "Sites by capability", columns, rows, True, empty)


def site(centre: Centre, asked: Asked, name: str) -> Page:
    """One site with its entries. Raises UnknownName."""
    found: SiteReport = centre.kept.ask(("site", name), lambda: views.site_report(centre.store, name, centre.now()))
    entries = {(item.name, item.factory): item for item in centre.entries().entries if item.site == found.name}
    rows = [
        [
            cells.entry(item.name, item.factory),
            cells.count(item.freshness.nodes_recent),
            *matrix.row(entries.get((item.name, item.factory), item).verdicts),
            matrix.last_report(item, found.generated_at),
            cells.text(item.resource),
        ]
        for item in found.entries
    ]
    columns = [
        Column("entry", "Entry"),
        Column("nodes", "Nodes", numeric=True),
        *matrix.columns(),
        Column("newest", "Last report (UTC)"),
        Column("resource", "Resource"),
    ]
    recent = centre.changes(Wanted(site=found.name)).changes
    blocks: list[Block] = [
        _about(found, centre.site_labels().get(found.name, _NO_LABELS)),
        told.troubles(found.verdicts),
        Grid("entries", "Entries by capability", columns, rows, True, "No entry."),
        trends.shares(centre, asked, found.name),
        told.capabilities(found.verdicts),
        *told.kinds(found.heterogeneity),
        *told.images(found.images, found.generated_at),
    ]
    if recent:
        blocks.append(told.changes(recent, found.generated_at))
    return Page(found.name, "sites", found.generated_at, blocks, [_basis(found)], trail=[_all_sites()])


def _all_sites() -> Cell:
    return Cell(None, "Sites", "", Target("sites"))


def _basis(found: SiteReport) -> str:
    recent, ever = found.freshness.nodes_recent, found.freshness.nodes_ever
    return f"{cells.so_many_nodes(recent)} reported in the last {found.window_days} days, {ever:,} ever."


def _about(found: SiteReport, labels: Labels) -> Facts:
    rows = [
        ("Entries", cells.count(len(found.entries))),
        ("Nodes", cells.count(found.freshness.nodes_recent)),
        ("Reports", cells.count(found.freshness.reports)),
        ("Last report (UTC)", cells.when(found.freshness.newest, found.generated_at)),
        ("Resources", cells.text(", ".join(found.resources) or None)),
    ]
    rows += [
        (title, cells.text(", ".join(names)))
        for title, names in (("Factories", labels.factories), ("VOs", labels.vos), ("Region", labels.countries))
        if names
    ]
    return Facts("", rows)
