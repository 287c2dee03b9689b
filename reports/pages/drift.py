"""Where imported configuration and measurement disagree: all entries, and one with the diff to apply."""

from collections import Counter
from typing import NamedTuple

from reports.pages import beginning, cells, proposing
from reports.pages.asked import Asked
from reports.pages.centre import Centre
from reports.pages.model import UNKNOWN, Block, Cell, Choice, Column, Facts, Form, Grid, Page, Target
from site_db.configuration.catalogue import read_catalogue
from site_db.configuration.drift import Drift, Finding
from site_db.configuration.drift_rules import SEVERITIES
from site_db.errors import UnknownName
from site_db.proposals import CONFIDENCES

_USUAL_CONFIDENCE = "medium"


class _Findings(NamedTuple):
    """All findings with their rows, and what is counted of them."""

    drift: Drift
    rows: list[tuple[Finding, list[Cell]]]
    severities: Counter[str]
    attributes: list[str]


def drift(centre: Centre, asked: Asked) -> Page:
    """All findings, the gravest first."""
    all_findings = centre.kept.ask("drift_rows", lambda: _findings(centre))
    found = all_findings.drift
    severity, attribute = asked.one_of("severity", SEVERITIES), asked.text("attribute")
    wanted = asked.text("q").casefold()
    rows = [
        row
        for item, row in all_findings.rows
        if severity in ("", item.severity)
        and attribute in ("", item.attribute)
        and (not wanted or wanted in item.entry.casefold() or wanted in (item.site or "").casefold())
    ]
    form = Form(
        [
            Choice("q", "Name contains", hint="part of an entry's or site's name"),
            Choice("severity", "Severity", [("", "any"), *((name, name) for name in reversed(SEVERITIES))]),
            Choice("attribute", "Attribute", [("", "any"), *((name, name) for name in all_findings.attributes)]),
        ],
        "Filter",
    )
    facts = [
        ("Entries compared", cells.count(found.entries_enabled)),
        ("Measured", cells.count(found.entries_measured)),
        *((f"{name.capitalize()}s", cells.count(all_findings.severities[name])) for name in reversed(SEVERITIES)),
    ]
    empty = "No finding fits." if found.findings else "Nothing disagrees."
    grid = Grid("drift", "Findings", _columns(), rows, True, empty)
    lead = ["Where the factories' configuration and what was measured on worker nodes disagree."]
    blocks: list[Block] = [Facts("", facts), form, grid]
    if not found.entries_enabled:
        blocks = [beginning.first_configuration(), grid]
    return Page("Drift", "drift", found.generated_at, blocks, lead)


def _findings(centre: Centre) -> _Findings:
    found = centre.drift()
    return _Findings(
        found,
        [(item, _row(item)) for item in found.findings],
        Counter(item.severity for item in found.findings),
        sorted({item.attribute for item in found.findings}),
    )


def _columns() -> list[Column]:
    return [
        Column("entry", "Entry"),
        Column("severity", "Severity"),
        Column("site", "Site"),
        Column("finding", "Finding"),
        Column("nodes", "Nodes", "that show it", numeric=True),
        Column("measured", "Measured", "nodes that could tell", numeric=True),
        Column("confidence", "Confidence"),
        Column("attribute", "Attribute"),
        Column("configured", "Configured"),
    ]


def _row(item: Finding) -> list[Cell]:
    return [
        cells.name(item.entry, "drift_of"),
        Cell(item.severity, item.severity, proposing.SEVERITY_KINDS[item.severity]),
        Cell(item.site, UNKNOWN) if item.site is None else cells.name(item.site, "site"),
        cells.text(item.sentence),
        cells.count(item.nodes_affected),
        cells.count(item.nodes_measured),
        cells.text(item.confidence),
        cells.text(item.attribute),
        cells.text(item.configured),
    ]


def drift_of(centre: Centre, asked: Asked, name: str) -> Page:
    """One configured entry: what disagrees, and the diff that would mend it. Raises UnknownName."""
    with centre.store.reading() as connection:
        configured = read_catalogue(connection, name=name)
        if not configured:
            raise UnknownName("configured entry", name, [item.entry.name for item in read_catalogue(connection, ())])
    found = centre.drift()
    of_entry = centre.findings(name)
    blocks: list[Block] = [*proposing.findings(of_entry)]
    confidence = asked.one_of("confidence", CONFIDENCES, _USUAL_CONFIDENCE)
    options = [(word, f"{word} or more") for word in CONFIDENCES]
    blocks.append(Form([Choice("confidence", "Proposals of confidence", options, default=_USUAL_CONFIDENCE)]))
    for item in configured:
        blocks += proposing.diff(centre, item, confidence)
    trail = [Cell(None, "Drift", "", Target("drift")), Cell(None, "The entry", "", Target("entry", name))]
    lead = [] if of_entry else ["Nothing disagrees."]
    return Page(name, "drift", found.generated_at, blocks, lead, trail=trail)
