"""Where an entry's configuration and measurement disagree, and what is proposed: as a table, as text to put in its file."""

from collections.abc import Iterable
from pathlib import Path

from reports.pages import cells
from reports.pages.centre import Centre
from reports.pages.model import Block, Cell, Code, Column, Grid, Group, Notice, Point, Target
from site_db.configuration import applying
from site_db.configuration.catalogue import Configured
from site_db.configuration.drift import Finding
from site_db.configuration.model import BrokenFile
from site_db.configuration.present import propose_against_configuration
from site_db.errors import UnknownName
from site_db.proposals import Proposals
from site_db.render_xml import render_xml
from site_db.render_yaml import render_yaml

SEVERITY_KINDS = {"error": "no", "warning": "mixed", "note": "unknown"}
_YAML = (".yml", ".yaml")


def findings(found: Iterable[Finding]) -> list[Block]:
    """The disagreements of one entry; nothing where there is none."""
    notices = [_notice(item) for item in found]
    return [Group("drift", "Configuration and measurement disagree", notices)] if notices else []


def _notice(item: Finding) -> Notice:
    neighbours = f"; measured by other entries of {item.resource}" if item.joined_by == "resource" else ""
    share = f"{item.nodes_affected:,} of {item.nodes_measured:,} measured nodes, confidence {item.confidence}{neighbours}"
    points = [
        Point(item.severity.capitalize(), item.sentence),
        Point("On", share),
        Point("In", item.place),
        Point("Remedy", item.remedy),
    ]
    points += [Point("Does not count, by policy", item.policy)] if item.policy else []
    title = Cell(item.rule, f"{item.attribute} = {item.configured or '(not set)'}", "", None, item.rule)
    return Notice(title, points, SEVERITY_KINDS[item.severity])


def proposals(centre: Centre, name: str, configured: Configured | None) -> list[Block]:
    """What is proposed for an entry that reported (NAME@FACTORY), and how to put it in its file."""
    found = propose_against_configuration(centre.store, name, centre.now())
    notes = [Notice(Cell(None, "Note"), [Point("", note)]) for note in found.notes]
    if not found.proposals:
        return [Group("proposal", "Proposal", notes, "Nothing to change.")]
    blocks: list[Block] = [_grid(found), *([Group("notes", "", notes)] if notes else [])]
    is_yaml = configured is not None and configured.file.endswith(_YAML)
    fragment = render_yaml(found) if is_yaml else render_xml(found)
    blocks.append(Code("To put into the configuration", fragment))
    if configured:
        blocks.append(_command(configured, Target("drift_of", found.entry)))
    return blocks


def _grid(found: Proposals) -> Grid:
    rows = [
        [
            cells.text(item.attribute),
            Cell(item.value, item.value or "(empty)"),
            cells.text(item.present),
            cells.text(item.confidence),
            cells.count(item.nodes),
            cells.text(item.reason),
        ]
        for item in found.proposals
    ]
    columns = [
        Column("attribute", "Attribute"),
        Column("value", "Proposed"),
        Column("present", "Now"),
        Column("confidence", "Confidence"),
        Column("nodes", "Nodes", "how many it rests on", numeric=True),
        Column("reason", "Because"),
    ]
    return Grid("proposal", "Proposal", columns, rows)


def _command(configured: Configured, link: Target) -> Group:
    points = [
        Point("See the diff", f"site-db entries apply {configured.file} --entry {configured.entry.name}", True),
        Point("Write it", f"site-db entries apply {configured.file} --entry {configured.entry.name} --write", True),
    ]
    return Group("apply", "Apply it", [Notice(Cell(None, "The diff of the file", "", link), points)])


def diff(centre: Centre, configured: Configured, confidence: str) -> list[Block]:
    """The change of the entry's file as a unified diff, where this machine has the file."""
    path = Path(configured.file)
    try:
        seen = path.stat().st_mtime_ns
        applied = centre.kept.ask(
            ("diff", configured.file, seen, configured.entry.name, confidence),
            lambda: applying.plan(centre.store, path, centre.now(), [configured.entry.name], confidence).applied,
        )
    except (OSError, BrokenFile, UnknownName) as error:
        note = Notice(Cell(None, "The file is not to be had here"), [Point("Why", str(error)), *_by_hand(configured)])
        return [Group("diff", "The diff to apply", [note])]
    notes = [Notice(Cell(None, "Note"), [Point("", note)]) for note in applied.notes]
    if not applied.diff:
        return [Group("diff", "The diff to apply", notes, "The file stays as it is.")]
    save = Point("Apply", f"patch {configured.file} < the-diff", True)
    ways = Group("ways", "", [Notice(Cell(None, "How"), [save, *_by_hand(configured)]), *notes])
    return [Code("The diff to apply", applied.diff, "diff"), ways]


def _by_hand(configured: Configured) -> list[Point]:
    return [Point("Or", f"site-db entries apply {configured.file} --entry {configured.entry.name} --write", True)]
