"""What views of sites, entries and nodes have in common: troubles with remedies, capabilities, kinds, images, changes."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from reports.pages import cells
from reports.pages.model import Cell, Column, Grid, Group, Notice, Point, Target
from site_db.changes_views import Change
from site_db.kinds import Kinds
from site_db.reasons import Reason, explain_reason
from site_db.rules import default_rules
from site_db.site_reports import ImageVerdict
from site_db.verdicts import Verdict

# Reasons of things that are not there, which is no fault: a node without a GPU is a good node.
ABSENT = frozenset({"gpu_none", "setuid_not_installed", "not_requested", "not_applicable", "cvmfs_not_mounted"})
_KINDS_SHOWN = 20
_IMAGES_SHOWN = 100
_TITLES_SHOWN = 5
_NO_CHANGE = "No change was seen. One is found when nodes of an entry report otherwise than they did before."
_NONE_GIVEN = "no reason was given"


def remedies(reason: Reason) -> list[Point]:
    """What a reason means for jobs, and who can do what."""
    rows = (("For jobs", reason.jobs), ("The site can", reason.site_remedy), ("The factory can", reason.factory_remedy))
    return [Point(label, told) for label, told in rows if told]


def titled(reason: Reason) -> str:
    """A reason in words, its code where this release has none."""
    return reason.title or reason.code


def troubles(verdicts: Iterable[Verdict]) -> Group:
    """Why capabilities are less than yes: one notice for each reason, those on the most nodes first."""
    found: dict[str | None, list[tuple[Verdict, int]]] = {}
    for verdict in verdicts:
        if verdict.answer in ("no", "mixed"):
            for reason in verdict.reasons:
                if reason.code not in ABSENT:
                    found.setdefault(reason.code, []).append((verdict, reason.nodes))
    ranked = sorted(found.items(), key=lambda item: (-max(nodes for _, nodes in item[1]), item[0] or ""))
    return Group("troubles", "What does not work, and why", [_trouble(*item) for item in ranked], "Nothing fails here.")


def _trouble(code: str | None, affected: Sequence[tuple[Verdict, int]]) -> Notice:
    reason = explain_reason(code) if code else Reason(_NONE_GIVEN)
    nodes = max(nodes for _, nodes in affected)
    of_nodes = max(verdict.nodes for verdict, _ in affected)
    link = Target("reason", code) if code else None
    title = Cell(code, titled(reason), "", link, code if code and reason.title else "")
    places = Point("On", f"{nodes:,} of {cells.so_many_nodes(of_nodes)}")
    fails = Point("Fails", cells.listed([verdict.title for verdict, _ in affected], _TITLES_SHOWN))
    return Notice(title, [places, fails, *remedies(reason)], "no" if nodes == of_nodes else "mixed")


def capabilities(verdicts: Sequence[Verdict], why: Target | None = None) -> Grid:
    """Every capability with its nodes; `why`: the page that explains one of them in full."""
    rows = [
        [
            Cell(verdict.capability, verdict.title, "", why and why._replace(query=(("why", verdict.capability),))),
            cells.verdict(verdict)._replace(note=""),
            cells.count(verdict.nodes_yes),
            cells.count(verdict.nodes_no),
            cells.count(verdict.nodes_unknown),
            cells.text(verdict.confidence),
            cells.first_code(verdict.reasons),
        ]
        for verdict in verdicts
    ]
    columns = [
        Column("capability", "Capability"),
        Column("share", "Answer", "share of yes among the nodes that answered yes or no"),
        Column("yes", "Yes", numeric=True),
        Column("no", "No", numeric=True),
        Column("unknown", "Unknown", "nodes that could not tell", numeric=True),
        Column("confidence", "Confidence"),
        Column("reason", "Most frequent reason"),
    ]
    return Grid("capabilities", "Capabilities", columns, rows)


def kinds(found: Kinds) -> list[Grid]:
    """The kinds of nodes behind the verdicts, where there is more than one, by what tells them apart."""
    if len(found.kinds) < 2:
        return []
    titles = {trait.name: trait.title[:1].upper() + trait.title[1:] for trait in default_rules().traits}
    rows = []
    for kind in found.kinds[:_KINDS_SHOWN]:
        cannot = [name for name in found.capabilities_that_differ if kind.answers[name] == "no"]
        traits = [cells.text(kind.traits[name]) for name in found.traits_that_differ]
        rows.append([cells.count(kind.nodes), *traits, cells.text(", ".join(cannot) or None)])
    columns = [
        Column("nodes", "Nodes", numeric=True),
        *(Column(name, titles[name]) for name in found.traits_that_differ),
        Column("cannot", "They cannot"),
    ]
    more = len(found.kinds) - len(rows)
    caption = "Kinds of nodes, by what differs" + (f" (the {_KINDS_SHOWN} largest of {len(found.kinds)})" if more > 0 else "")
    return [Grid("kinds", caption, columns, rows)]


def images(found: Sequence[ImageVerdict], now: datetime) -> list[Grid]:
    """The images that were tried; of hundreds those that fail on the most nodes, then those that were tried on the most."""
    if not found:
        return []
    shown = found
    if len(found) > _IMAGES_SHOWN:
        shown = sorted(found, key=lambda image: (-image.nodes_no, -image.nodes_yes, image.ref))[:_IMAGES_SHOWN]
    rows = []
    for image in shown:
        measured = image.nodes_yes + image.nodes_no
        share = image.nodes_yes / measured if measured else None
        rows.append(
            [
                cells.name(image.ref, "image"),
                cells.share(image.answer, share),
                cells.count(image.nodes_yes),
                cells.count(image.nodes_no),
                cells.count(image.nodes_unknown),
                cells.first_code(image.reasons),
                cells.when(image.newest, now),
            ]
        )
    columns = [
        Column("image", "Image"),
        Column("share", "Runs"),
        Column("yes", "Yes", numeric=True),
        Column("no", "No", numeric=True),
        Column("unknown", "Unknown", numeric=True),
        Column("reason", "Most frequent reason"),
        Column("newest", "Last tried (UTC)"),
    ]
    more = f" (the {_IMAGES_SHOWN} of {len(found)} that fail most)" if len(found) > len(rows) else ""
    return [Grid("images", f"Images that were tried here{more}", columns, rows)]


_DIRECTIONS = {"lost": "no", "gained": "yes"}


def together(found: Iterable[Change]) -> list[list[Change]]:
    """Changes of one entry that began with the same report and went the same way: one cause takes many capabilities."""
    groups: dict[tuple[object, ...], list[Change]] = {}
    for change in found:
        key = (change.entry, change.factory, change.since, change.first_node, change.direction, change.state)
        groups.setdefault(key, []).append(change)
    return list(groups.values())


def changes(found: Sequence[Change], now: datetime, main: bool = False) -> Grid:
    """What entries lost and gained; what goes together stands together."""
    rows = [
        [
            cells.when(item.since, now),
            Cell(item.direction, item.direction, _DIRECTIONS.get(item.direction, "")),
            Cell(", ".join(one.capability for one in group), cells.listed([one.title for one in group], _TITLES_SHOWN)),
            cells.entry(item.entry, item.factory),
            cells.name(item.site, "site"),
            cells.count(item.nodes),
            cells.code(item.reason),
            cells.text(item.state),
            cells.name(item.first_node, "node"),
        ]
        for group in together(found)
        for item in group[:1]
    ]
    columns = [
        Column("since", "Since (UTC)", "the first report that showed it"),
        Column("direction", "What"),
        Column("capabilities", "Capabilities"),
        Column("entry", "Entry"),
        Column("site", "Site"),
        Column("nodes", "Nodes", "how many showed it", numeric=True),
        Column("reason", "Reason"),
        Column("state", "State", "suspected, confirmed, closed (as before again), settled (the new normal)"),
        Column("first_node", "First seen on"),
    ]
    return Grid("changes", "Changes", columns, rows, main, _NO_CHANGE)
