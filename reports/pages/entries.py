"""All entries, and one entry: what it can do, how it is configured, where the two disagree, what is proposed."""

from collections.abc import Iterable, Sequence

from reports.pages import beginning, cells, matrix, proposing, told
from reports.pages.asked import Asked
from reports.pages.centre import Centre, Entries
from reports.pages.model import UNKNOWN, Block, Cell, Column, Facts, Grid, Group, Notice, Page, Point, Target
from site_db import views
from site_db.changes_views import Wanted
from site_db.configuration.catalogue import Configured, read_catalogue
from site_db.entry_nodes import EntryNode, nodes_of_entry
from site_db.site_labels import Labels
from site_db.site_reports import EntryReport, EntrySummary, Example, Explanation

_NODES_SHOWN = 100
_NO_LABELS = Labels()


def entries(centre: Centre, asked: Asked) -> Page:
    """The entries by capability."""
    found, all_rows = centre.kept.ask("entry_rows", lambda: _all_rows(centre))
    labels, fits = centre.entry_labels(), matrix.wanted(asked)
    rows = [
        row
        for item, row in all_rows
        if fits(
            (item.name, item.site, item.resource), labels.get((item.name, item.factory), _NO_LABELS), item.verdicts
        )
    ]
    columns = [
        Column("entry", "Entry"),
        Column("site", "Site"),
        Column("nodes", "Nodes", numeric=True),
        *matrix.columns(),
        Column("newest", "Last report (UTC)"),
        Column("factory", "Factory"),
    ]
    form = matrix.filters(labels.values(), "part of an entry's, site's or resource's name")
    grid = Grid("entries", "Entries by capability", columns, rows, True, "No entry fits." if found.entries else "No entry yet.")
    lead = ["What worker nodes can do, by the factory's entry through which they were reached."]
    blocks: list[Block] = [form, grid] if found.entries else [beginning.first_report(), grid]
    return Page("Entries", "entries", found.generated_at, blocks, lead)


def _all_rows(centre: Centre) -> tuple[Entries, list[tuple[EntrySummary, list[Cell]]]]:
    found = centre.entries()
    return found, [(item, _row(item, found)) for item in found.entries]


def _row(item: EntrySummary, found: Entries) -> list[Cell]:
    return [
        cells.entry(item.name, item.factory),
        cells.name(item.site, "site"),
        cells.count(item.freshness.nodes_recent),
        *matrix.row(item.verdicts),
        matrix.last_report(item, found.generated_at),
        cells.text(item.factory),
    ]


def entry(centre: Centre, asked: Asked, name: str) -> Page:
    """One entry. Raises UnknownName, AmbiguousName."""
    found: EntryReport = centre.kept.ask(("entry", name), lambda: views.entry_report(centre.store, name, centre.now()))
    full_name = f"{found.name}@{found.factory}"
    configured = _configured(centre, found)
    here = Target("entry", name)
    blocks: list[Block] = [_about(found, configured)]
    if capability := asked.text("why"):
        blocks += _why(views.why(centre.store, full_name, capability, centre.now()))
    blocks += [
        told.troubles(found.verdicts),
        *proposing.findings(centre.findings(found.name)),
        *proposing.proposals(centre, full_name, configured),
        told.capabilities(found.verdicts, here),
        *([_configuration(configured)] if configured else []),
        *told.kinds(found.heterogeneity),
        *told.images(found.images, found.generated_at),
        _nodes(centre, full_name, found),
    ]
    changes = centre.changes(Wanted(entry=found.name)).changes
    if changes:
        blocks.append(told.changes(changes, found.generated_at))
    trail = [Cell(None, "Sites", "", Target("sites")), cells.name(found.site, "site")]
    return Page(found.name, "entries", found.generated_at, blocks, [_basis(found)], trail=trail)


def _basis(found: EntryReport) -> str:
    recent, ever = found.freshness.nodes_recent, found.freshness.nodes_ever
    reported = f"{cells.so_many_nodes(recent)} reported in the last {found.window_days} days, {ever:,} ever"
    return f"Entry of {found.factory}. {reported}."


def _configured(centre: Centre, found: EntryReport) -> Configured | None:
    with centre.store.reading() as connection:
        known = read_catalogue(connection, name=found.name)
    of_factory = [item for item in known if item.factory == found.factory] or known
    return of_factory[-1] if of_factory else None


def _about(found: EntryReport, configured: Configured | None) -> Facts:
    rows = [
        ("Site", cells.name(found.site, "site")),
        ("Resource", cells.text(found.resource)),
        ("Factory", cells.text(found.factory)),
        ("Nodes", cells.count(found.freshness.nodes_recent)),
        ("Reports", cells.count(found.freshness.reports)),
        ("Last report (UTC)", cells.when(found.freshness.newest, found.generated_at)),
        ("Configured in", cells.text(configured.place if configured else None)),
    ]
    if configured:
        rows.append(("Gatekeeper", cells.text(configured.entry.gatekeeper)))
    return Facts("", rows)


def _configuration(configured: Configured) -> Grid:
    entry = configured.entry
    rows = [
        [cells.text(setting.name), cells.text(kind), cells.text(setting.value), cells.text(setting.type), _line(setting.line)]
        for kind, settings in (("attr", entry.attrs), ("submit_attr", entry.submit_attrs))
        for setting in settings.values()
    ]
    columns = [
        Column("attribute", "Attribute"),
        Column("kind", "Kind"),
        Column("value", "Value"),
        Column("type", "Type"),
        Column("line", "Line", "none: it comes from the defaults", numeric=True),
    ]
    return Grid("configuration", f"Configuration, {configured.file}", columns, rows, False, "No attribute is set.")


def _line(line: int | None) -> Cell:
    return Cell(line, UNKNOWN if line is None else str(line))


def _nodes(centre: Centre, name: str, found: EntryReport) -> Grid:
    nodes: Sequence[EntryNode] = nodes_of_entry(centre.store, name, _NODES_SHOWN)
    rows = [
        [
            Cell(node.hostname, node.hostname, "name", Target("node", node.machine_id)),
            Cell(node.singularity, node.singularity, node.singularity),
            cells.code(node.reason),
            cells.count(node.reports),
            cells.when(node.newest, found.generated_at),
        ]
        for node in nodes
    ]
    columns = [
        Column("node", "Node"),
        Column("singularity", "Singularity"),
        Column("reason", "Reason"),
        Column("reports", "Reports", numeric=True),
        Column("newest", "Last report (UTC)"),
    ]
    more = found.freshness.nodes_ever > len(rows)
    caption = f"The {_NODES_SHOWN} nodes that reported last" if more else "Nodes, the latest report first"
    return Grid("nodes", caption, columns, rows, True)


def _why(found: Explanation) -> list[Block]:
    """One verdict in full."""
    verdict = found.verdict
    notices = [
        Notice(
            Cell(item.reason.code, told.titled(item.reason), "", Target("reason", item.reason.code), item.reason.code),
            [Point("On", cells.so_many_nodes(item.nodes)), *told.remedies(item.reason)],
            verdict.answer,
        )
        for item in found.reasons
    ]
    notices += [_example(example) for example in found.examples]
    heading = f"Why: {verdict.title}"
    summary = Notice(cells.verdict(verdict)._replace(note=""), [Point("In short", verdict.sentence)], verdict.answer)
    return [Group("why", heading, [summary, *notices])]


def _example(example: Example) -> Notice:
    piece, check = example.evidence, example.check or {}
    points = [Point("Report", piece.report_id or "none is kept"), Point("Place in it", ".".join(piece.found))]
    said = [("It says", check.get("message")), *_said(check.get("evidence"))]
    points += [Point(label, str(value)) for label, value in said if value is not None]
    points += [Point("Command", str(check["command"]), True)] if check.get("command") else []
    reason = f": {piece.reason}" if piece.reason else ""
    return Notice(Cell(None, f"Evidence of {cells.so_many_nodes(piece.nodes)}, {piece.answer}{reason}"), points, piece.answer)


def _said(evidence: object) -> Iterable[tuple[str, object]]:
    return evidence.items() if isinstance(evidence, dict) else ()
