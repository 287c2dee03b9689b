"""Reason codes: what each means, who can do what, and where it occurs now."""

from reports.pages import cells, told
from reports.pages.asked import Asked
from reports.pages.centre import Centre, title_of
from reports.pages.model import Cell, Choice, Column, Facts, Form, Grid, Group, Notice, Page, RowsOf, Target
from site_db.errors import UnknownName
from site_db.occurrences import EntryOccurrence, Occurrence, entries_by_reason, list_occurrences
from site_db.reasons import all_reasons, explain_reason

_NOWHERE = ("", "all codes"), ("now", "that occur now")


def reasons(centre: Centre, asked: Asked) -> Page:
    """Every code, those on the most nodes first."""
    now = centre.now()
    found: dict[str, Occurrence] = centre.kept.ask("reasons", lambda: list_occurrences(centre.store, now))
    known = {reason.code: reason for reason in all_reasons()}
    codes = sorted(known.keys() | found.keys(), key=lambda code: (-_failing(found, code), -_nodes(found, code), code))
    shown, wanted = asked.one_of("shown", ("now",)), asked.text("q").casefold()
    rows = [
        [
            cells.name(code, "reason")._replace(kind="code"),
            cells.text(explain_reason(code).title),
            cells.count(_failing(found, code)),
            cells.count(_nodes(found, code)),
            cells.count(found[code].sites if code in found else 0),
            cells.text(explain_reason(code).site_remedy or explain_reason(code).factory_remedy),
        ]
        for code in codes
        if (not shown or code in found) and wanted in f"{code} {explain_reason(code).title or ''}".casefold()
    ]
    columns = [
        Column("code", "Code"),
        Column("title", "What it means"),
        Column("failing", "Failing nodes", "nodes on which it makes a capability fail", numeric=True),
        Column("nodes", "Nodes", "nodes on which it is given at all", numeric=True),
        Column("sites", "Sites", numeric=True),
        Column("remedy", "Remedy"),
    ]
    form = Form([Choice("q", "Contains", hint="of a code or its title"), Choice("shown", "Codes", _NOWHERE)], "Filter")
    grid = Grid("reasons", "Reason codes", columns, rows, True, "No code fits.")
    return Page("Reasons", "reasons", now, [form, grid], ["Why something does not work, in the words of reports."])


def _failing(found: dict[str, Occurrence], code: str) -> int:
    return found[code].failing if code in found else 0


def _nodes(found: dict[str, Occurrence], code: str) -> int:
    return found[code].nodes if code in found else 0


def reason(centre: Centre, asked: Asked, name: str) -> Page:  # noqa: ARG001 - the shape of all pages
    """One code, and the entries at which it occurs now. Raises UnknownName."""
    now = centre.now()
    about = explain_reason(name)
    if about.title is None and name not in centre.kept.ask("reasons", lambda: list_occurrences(centre.store, now)):
        raise UnknownName("reason", name, [known.code for known in all_reasons()])
    everywhere = centre.kept.ask("entries_by_reason", lambda: entries_by_reason(centre.store, now))
    found: tuple[EntryOccurrence, ...] = everywhere.get(name, ())
    meaning = Notice(Cell(None, told.titled(about), "", None, about.code), told.remedies(about))
    facts = Facts(
        "",
        [
            ("Entries", cells.count(len(found))),
            ("Sites", cells.count(len({item.site for item in found}))),
            ("Failing nodes", cells.count(sum(item.failing for item in found))),
        ],
    )
    columns = [
        Column("entry", "Entry"),
        Column("site", "Site"),
        Column("failing", "Failing nodes", "on which it makes a capability fail", numeric=True),
        Column("nodes", "Nodes", "on which it is given at all", numeric=True),
        Column("of_nodes", "Of", "nodes of the entry", numeric=True),
        Column("capabilities", "For"),
    ]
    grid = Grid("entries", "Where it occurs now", columns, RowsOf(found, _row), True, "Nowhere now.")
    trail = [Cell(None, "Reasons", "", Target("reasons"))]
    return Page(name, "reasons", now, [Group("meaning", "", [meaning]), facts, grid], trail=trail)


def _row(item: EntryOccurrence) -> list[Cell]:
    return [
        cells.entry(item.entry, item.factory),
        cells.name(item.site, "site"),
        cells.count(item.failing),
        cells.count(item.nodes),
        cells.count(item.of_nodes),
        cells.text(", ".join(map(title_of, item.capabilities))),
    ]
