"""What the commands about configured entries answer: as text and tables for people, and as data for programs."""

from collections.abc import Sequence

from reports.output import Answer, Table, Verbatim
from site_db.configuration.applying import Applied
from site_db.configuration.catalogue import UnjoinedNames
from site_db.configuration.drift import Drift, Finding
from site_db.configuration.drift_rules import SEVERITIES
from site_db.configuration.model import Problem
from site_db.configuration.vanishing import Imported

_PROBLEMS_SHOWN = 50
_FINDINGS_SHOWN = 200


def imported(found: Imported) -> Answer:
    """What became of the files."""
    rows = [
        [item.path, item.kind, item.entries, item.resources, item.policy_rows, item.new, item.changed, item.vanished]
        for item in found.files
    ]
    table = Table(["file", "kind", "entries", "resources", "policy", "new", "changed", "vanished"], rows)
    totals = [sum(getattr(item, name) for item in found.files) for name in ("entries", "new", "changed")]
    vanished = [name for item in found.files for name in item.vanished]
    line = f"{totals[0]} entries: {totals[1]} new, {totals[2]} changed, {len(vanished)} vanished."
    shown = [[*row[:-1], len(item.vanished)] for row, item in zip(rows, found.files, strict=True)]
    blocks: list[str | Table] = [line, table._replace(rows=shown)]
    if vanished:
        blocks.append("Vanished since the last import: " + ", ".join(vanished))
    blocks += _problem_blocks([problem for item in found.files for problem in item.problems] + list(found.problems))
    return Answer(found.to_dict(), blocks, table)


def _problem_blocks(problems: Sequence[Problem]) -> list[str | Table]:
    if not problems:
        return []
    table = Table(["place", "problem"], [list(problem) for problem in problems[:_PROBLEMS_SHOWN]], "To look at")
    left_out = len(problems) - _PROBLEMS_SHOWN
    return [table, f"... and {left_out} more; all of them with --format json"] if left_out > 0 else [table]


def unjoined(found: UnjoinedNames) -> Answer:
    """The names that have no counterpart."""
    rows = [[item.kind, item.name, item.place, item.why] for item in found.names]
    table = Table(["what", "name", "place", "why"], rows)
    line = f"{found.configured} entries are configured, {found.reported} have reported."
    return Answer(found.to_dict(), [line, table if rows else "Every name has its counterpart."], table)


def drift(found: Drift) -> Answer:
    """What disagrees."""
    table = Table(
        ["severity", "entry", "attribute", "configured", "nodes", "measured", "confidence", "place", "finding"],
        [_cells(item) for item in found.findings],
    )
    counts = ", ".join(f"{_count(found, severity)} of severity {severity}" for severity in reversed(SEVERITIES))
    heading = (
        f"{found.entries_enabled} entries compared, {found.entries_measured} of them measured within "
        f"{found.window_days} days: {counts}."
    )
    blocks = [heading, *(_paragraph(item) for item in found.findings[:_FINDINGS_SHOWN])]
    if len(found.findings) > _FINDINGS_SHOWN:
        blocks.append(f"... and {len(found.findings) - _FINDINGS_SHOWN} more: ask for one entry, or for --format csv")
    if found.policy_expired:
        blocks.append("\n".join(["Policy that expired and acts no more:", *(f"  {row}" for row in found.policy_expired)]))
    return Answer(found.to_dict(), blocks, table)


def _count(found: Drift, severity: str) -> int:
    return sum(item.severity == severity for item in found.findings)


def _cells(item: Finding) -> list[object]:
    return [
        item.severity,
        item.entry,
        item.attribute,
        item.configured,
        item.nodes_affected,
        item.nodes_measured,
        item.confidence,
        item.place,
        item.sentence,
    ]


def _paragraph(item: Finding) -> str:
    neighbours = f"; measured by other entries of {item.resource}" if item.joined_by == "resource" else ""
    lines = [
        f"{item.severity}: {item.entry} (site {item.site or 'not known'}): {item.rule}",
        f"  {item.sentence}",
        f"  {item.share:.0%} of the measured nodes, confidence {item.confidence}{neighbours}",
        f"  {item.place}",
        f"  remedy: {item.remedy}",
    ]
    if item.policy:
        lines.append(f"  does not count, by policy: {item.policy}")
    return "\n".join(lines)


def applied(found: Applied) -> Answer:
    """What becomes of a file: its diff on stdout, everything else on stderr."""
    rows = [
        [change.entry, item.attribute, item.present, item.value, item.confidence, item.nodes, item.reason]
        for change, item in ((change, change.proposal) for change in found.changes)
    ]
    table = Table(["entry", "attribute", "now", "proposed", "confidence", "nodes", "because"], rows)
    said = [f"note: {note}" for note in found.notes]
    said += [f"note: policy expired, and acts no more: {row}" for row in found.policy_expired]
    entries = len({change.entry for change in found.changes})
    if not found.changes:
        said.append(f"{found.file}: nothing to change")
    elif found.written:
        said.append(f"{found.file}: {len(rows)} attributes of {entries} entries written; before: {found.backup}")
    else:
        said.append(f"{found.file}: {len(rows)} attributes of {entries} entries would change; --write does it")
    return Answer(found.to_dict(), [Verbatim(found.diff)] if found.diff else [], table, said)
