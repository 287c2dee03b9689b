"""What each command answers: the views of `site_db` as text and tables for people, and as data for programs."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from reports.output import Answer, Table, Verbatim
from site_db.proposals import Proposals
from site_db.render_xml import render_xml
from site_db.render_yaml import render_yaml
from site_db.site_reports import (
    EntryReport,
    EntrySummary,
    Example,
    Explanation,
    ImageVerdict,
    NodeReport,
    SiteList,
    SiteReport,
)
from site_db.verdicts import ReasonCount, Verdict

if TYPE_CHECKING:  # a list of sites needs neither, and they cost 0.2 s at start
    from reports.doctor import Look
    from reports.ingest import Rejection, Summary

_NOTHING_YET = "No report is stored yet. Send one: singularity-probe run | site-db ingest -"
_PROBLEMS_SHOWN = 50
_FRAGMENTS: dict[str, Callable[[Proposals], str]] = {"xml": render_xml, "yaml": render_yaml}
_KINDS_SHOWN = 10
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"))


def age(moment: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that is whole at least once: "3 d", "5 h", "2 min", "now"."""
    if moment is None:
        return "never"
    seconds = (now - moment).total_seconds()
    return next((f"{int(seconds // unit)} {name}" for unit, name in _AGES if seconds >= unit), "now")


def standing(verdict: Verdict) -> str:
    """A verdict in a cell: its answer, and for a mixed one the share of yes."""
    if verdict.answer == "mixed" and verdict.share is not None:
        return f"mixed {verdict.share:.0%}"
    return verdict.answer


def sites(found: SiteList) -> Answer:
    """The list of sites."""
    names = overview_names(site.verdicts for site in found.sites)
    rows = [
        [
            site.name,
            site.entries,
            site.freshness.nodes_recent,
            *(overview_cells(site.verdicts, names)),
            age(site.freshness.newest, found.generated_at),
        ]
        for site in found.sites
    ]
    table = Table(["site", "entries", "nodes", *names, "last report"], rows)
    return Answer(found.to_dict(), [table] if rows else [_NOTHING_YET], table)


def entries(found: Sequence[EntrySummary], now: datetime) -> Answer:
    """The list of entries."""
    table = _entry_table(found, now)
    return Answer([item.to_dict() for item in found], [table] if table.rows else [_NOTHING_YET], table)


def site(found: SiteReport) -> Answer:
    """One site."""
    heading = f"Site {found.name}: {_basis(found)}"
    resources = "Resources: " + (", ".join(found.resources) or "not known")
    blocks = [
        f"{heading}\n{resources}",
        _verdict_table(found.verdicts),
        _entry_table(found.entries, found.generated_at)._replace(title="Entries"),
        *_kind_blocks(found),
        *_image_blocks(found.images),
    ]
    return Answer(found.to_dict(), blocks, _verdict_rows(found.verdicts))


def entry(found: EntryReport) -> Answer:
    """One entry."""
    heading = f"Entry {found.name} of {found.factory} (site {found.site}, resource {found.resource}): {_basis(found)}"
    blocks = [heading, _verdict_table(found.verdicts), *_kind_blocks(found), *_image_blocks(found.images)]
    blocks.append(f"One verdict in full: site-db why {found.name} CAPABILITY")
    return Answer(found.to_dict(), blocks, _verdict_rows(found.verdicts))


def node(found: NodeReport) -> Answer:
    """One node."""
    freshness = "" if found.recent else f"; nothing within {found.window_days} days"
    heading = f"Node {found.hostname} ({found.machine_id}){freshness}"
    now = found.generated_at
    rows = [
        [seen.entry, seen.site, seen.reports, age(seen.newest, now), age(seen.first_seen, now)] for seen in found.seen
    ]
    seen_table = Table(["entry", "site", "reports", "last report", "first"], rows, "Seen under")
    blocks = [heading, _verdict_table(found.verdicts), seen_table, *_image_blocks(found.images)]
    return Answer(found.to_dict(), blocks, _verdict_rows(found.verdicts))


def why(found: Explanation) -> Answer:
    """One verdict in sentences, with what each side can do and the evidence."""
    verdict = found.verdict
    paragraphs = [
        f"{verdict.title} ({verdict.capability}) at {found.entry} of {found.factory}, site {found.site}: "
        f"{standing(verdict)}, confidence {verdict.confidence}.\n{verdict.sentence}"
    ]
    for item in found.reasons:
        reason = item.reason
        told = [
            f"{reason.code} on {_nodes(item.nodes)}: {reason.title or 'a reason that this release does not know'}",
            reason.jobs and f"  For jobs: {reason.jobs}",
            reason.site_remedy and f"  The site can: {reason.site_remedy}",
            reason.factory_remedy and f"  The factory can: {reason.factory_remedy}",
        ]
        paragraphs.append("\n".join(filter(None, told)))
    if said := _said(found.examples):
        paragraphs.append("\n".join(["What the reports say:", *said]))
    return Answer(found.to_dict(), [*paragraphs, _evidence_table(found.examples)])


def ingested(summary: "Summary") -> Answer:
    """What became of the files."""
    rows = [[*row] for item in summary.rejected for row in _problem_rows(item)]
    table = Table(["place", "kind", "pointer", "problem"], rows)
    data = {"new": summary.new, "known": summary.known, "rejected": [_rejection(item) for item in summary.rejected]}
    blocks: list[str | Table] = [counts(summary)]
    if rows:
        left_out = [f"... and {len(rows) - _PROBLEMS_SHOWN} more problems"] if len(rows) > _PROBLEMS_SHOWN else []
        remedies = sorted({f"hint: {item.remedy}" for item in summary.rejected if item.remedy})
        blocks += [table._replace(title="Refused", rows=rows[:_PROBLEMS_SHOWN]), "\n".join([*left_out, *remedies])]
    return Answer(data, blocks, table)


def counts(summary: "Summary") -> str:
    """The counts in one line."""
    return f"{summary.new} new, {summary.known} known already, {len(summary.rejected)} refused"


def _problem_rows(item: "Rejection") -> list[tuple[str, str, str, str]]:
    return [(item.place, item.kind, problem.pointer, problem.detail) for problem in item.problems]


def _rejection(item: "Rejection") -> dict[str, Any]:
    problems = [problem._asdict() for problem in item.problems]
    return {"place": item.place, "kind": item.kind, "problems": problems, "remedy": item.remedy}


def proposed(found: Proposals, shape: str) -> Answer:
    """The proposals for one entry: to read, or as a fragment to paste (notes and all then go to stderr)."""
    proposals = found.proposals
    rows = [
        [item.attribute, item.value, item.present, item.type, item.confidence, item.nodes, item.reason]
        for item in proposals
    ]
    table = Table(["attribute", "value", "now", "type", "confidence", "nodes", "because"], rows)
    notes = [f"note: {note}" for note in found.notes]
    if shape in _FRAGMENTS:
        fragment = _FRAGMENTS[shape](found)
        return Answer({**found.to_dict(), "fragment": fragment}, [Verbatim(fragment)], table, notes)
    heading = f"Proposed for {found.entry} of {found.factory} (site {found.site}). Nothing is changed anywhere."
    shown: list[str | Table] = [table] if rows else ["Nothing to propose from what was measured."]
    return Answer(found.to_dict(), [heading, *shown, *(["\n".join(notes)] if notes else [])], table)


def migrated(place: str) -> Answer:
    """A database that has this release's form."""
    table = Table(["database", "status"], [[place, "up to date"]])
    return Answer({"database": place, "status": "up to date"}, [table])


def examined(looks: "Sequence[Look]") -> Answer:
    """What the doctor saw."""
    rows = [[look.what, look.status, look.detail, look.remedy] for look in looks]
    return Answer([look._asdict() for look in looks], [Table(["what", "status", "detail", "remedy"], rows)])


def overview_names(verdicts: Iterable[Sequence[Verdict]]) -> list[str]:
    """The capabilities that any of some overviews shows, in the order of their first appearance."""
    return list(dict.fromkeys(verdict.capability for row in verdicts for verdict in row))


def overview_cells(verdicts: Sequence[Verdict], names: Sequence[str]) -> list[str]:
    """The answers of one overview under these names."""
    by_name = {verdict.capability: standing(verdict) for verdict in verdicts}
    return [by_name.get(name, "unknown") for name in names]


def _basis(found: SiteReport | EntryReport) -> str:
    freshness = found.freshness
    return (
        f"{_nodes(freshness.nodes_recent)} within {found.window_days} days, {freshness.nodes_ever} ever, "
        f"{freshness.reports} reports, last {age(freshness.newest, found.generated_at)}"
    )


def _nodes(count: int) -> str:
    return f"{count} node" if count == 1 else f"{count} nodes"


def _verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """The verdicts for people: 100 columns hold the name of a repository and of a reason unbroken."""
    rows = [
        [
            verdict.capability,
            standing(verdict),
            f"{verdict.nodes_yes}/{verdict.nodes_no}/{verdict.nodes_unknown}",
            verdict.confidence,
            _codes(verdict.reasons),
        ]
        for verdict in verdicts
    ]
    return Table(["capability", "answer", "yes/no/?", "confidence", "reasons"], rows)


def _verdict_rows(verdicts: Sequence[Verdict]) -> Table:
    """The verdicts for spreadsheets: one figure a cell."""
    rows = [
        [
            verdict.capability,
            verdict.answer,
            verdict.share,
            verdict.nodes_yes,
            verdict.nodes_no,
            verdict.nodes_unknown,
            verdict.confidence,
            _codes(verdict.reasons),
        ]
        for verdict in verdicts
    ]
    return Table(["capability", "answer", "share", "yes", "no", "unknown", "confidence", "reasons"], rows)


def _codes(reasons: Sequence[ReasonCount]) -> tuple[str, ...]:
    return tuple(reason.code for reason in reasons if reason.code)


def _entry_table(found: Sequence[EntrySummary], now: datetime) -> Table:
    names = overview_names(item.verdicts for item in found)
    rows = [
        [
            item.name,
            item.factory,
            item.site,
            item.freshness.nodes_recent,
            *overview_cells(item.verdicts, names),
            age(item.freshness.newest, now),
        ]
        for item in found
    ]
    return Table(["entry", "factory", "site", "nodes", *names, "last report"], rows)


def _kind_blocks(found: SiteReport | EntryReport) -> list[str | Table]:
    """The kinds of nodes behind the verdicts, where there is more than one, by what tells them apart."""
    kinds = found.heterogeneity
    if len(kinds.kinds) < 2:
        return []
    rows = [
        [
            kind.nodes,
            ", ".join(f"{name} {kind.traits[name] or 'none'}" for name in kinds.traits_that_differ),
            ", ".join(name for name in kinds.capabilities_that_differ if kind.answers[name] == "no") or None,
        ]
        for kind in kinds.kinds[:_KINDS_SHOWN]
    ]
    table = Table(["nodes", "they are", "they cannot"], rows, "Kinds of nodes, by what differs")
    left_out = len(kinds.kinds) - len(rows)
    return [table, f"... and {left_out} more kinds"] if left_out else [table]


def _image_blocks(images: Sequence[ImageVerdict]) -> list[str | Table]:
    if not images:
        return []
    rows = [
        [
            image.ref,
            image.answer,
            image.nodes_yes,
            image.nodes_no,
            image.nodes_unknown,
            _codes(image.reasons),
        ]
        for image in images
    ]
    return [Table(["image", "answer", "yes", "no", "unknown", "reasons"], rows, "Images")]


def _evidence_table(examples: Sequence[Example]) -> Table:
    pieces = [example.evidence for example in examples]
    rows = [[piece.answer, piece.reason, piece.nodes, piece.report_id, ".".join(piece.found)] for piece in pieces]
    return Table(["answer", "reason", "nodes", "example report", "place in it"], rows, "Evidence")


def _said(examples: Sequence[Example]) -> list[str]:
    """What the reports say at the places that made a verdict less than yes, and the commands that were run there."""
    lines, commands = [], []
    for example in examples:
        check = example.check or {}
        evidence = {"message": check.get("message"), **(check.get("evidence") or {})}
        if example.evidence.answer != "yes":
            cause = example.evidence.reason or example.evidence.answer
            lines += [f"  {cause}: {name}: {value}" for name, value in evidence.items() if value is not None]
        commands += [f"  command: {check['command']}"] if check.get("command") else []
    return [*lines, *dict.fromkeys(commands)]
