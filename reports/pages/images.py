"""Images: the catalogue, one across all sites, a pick, how far their tests reach."""

from collections.abc import Mapping
from typing import Any

from reports.pages import beginning, cells, told
from reports.pages.asked import Asked
from reports.pages.centre import Centre
from reports.pages.model import (
    Block,
    Cell,
    Choice,
    Column,
    Facts,
    Form,
    Grid,
    Group,
    Notice,
    Page,
    Point,
    RowsOf,
    Target,
)
from site_db.images import views
from site_db.images.matching import Counts, Disagreement, Judged, SiteMatch
from site_db.images.views import ImageList, ImageMatch, Listing
from site_db.reasons import explain_reason
from site_db.rules import default_rules

_ALL = Cell(None, "Images", "", Target("images"))


def listed(centre: Centre) -> ImageList:
    """All images."""
    return centre.kept.ask("images", lambda: views.list_images(centre.store, centre.now()))


def images(centre: Centre, asked: Asked) -> Page:
    """Every image that a catalogue lists, that was added, or that nodes reported."""
    found = listed(centre)
    wanted = asked.text("q").casefold()
    rows = [_row(item) for item in found.images if any(wanted in name.casefold() for name in (item.image, *item.names))]
    columns = [
        Column("image", "Image"),
        Column("names", "Names", "what catalogues call it"),
        Column("arch", "Arch"),
        Column("level", "CPU level"),
        Column("os", "System"),
        Column("libc", "libc"),
        Column("cuda", "CUDA"),
        Column("tested", "Tested on", "nodes", numeric=True),
        Column("ran", "Ran on", "nodes", numeric=True),
    ]
    form = Form([Choice("q", "Name contains", hint="part of a reference or name")], "Filter")
    grid = Grid("images", "Images", columns, rows, True, "No image fits." if found.images else "No image yet.")
    blocks: list[Block] = [form, grid] if found.images else [beginning.first_image(), grid]
    if found.patterns:
        patterns = [
            [cells.text(item.name), cells.text(item.reference), cells.text(item.catalogue), cells.count(item.known)]
            for item in found.patterns
        ]
        titles = [Column(name.lower(), name) for name in ("Name", "Reference", "Catalogue")]
        titles.append(Column("known", "Known", "images that match", numeric=True))
        blocks.append(Grid("patterns", "Patterns that stand for many tags", titles, patterns))
    return Page(
        "Images", "images", found.generated_at, blocks, ["What images there are, and what each needs of a node."]
    )


def _row(item: Listing) -> list[Cell]:
    facts = {name: fact["value"] for name, fact in item.requirements["facts"].items()}
    system = " ".join(filter(None, (facts["os_id"], facts["os_version"]))) or None
    coverage = item.coverage
    return [
        cells.name(item.image, "image"),
        cells.text(", ".join(item.names) or None),
        cells.text(facts["arch"]),
        cells.text((facts["microarch"] or "").removeprefix("x86_64-") or None),
        cells.text(system),
        cells.text(facts["libc"]),
        cells.text(facts["cuda_version"]),
        cells.count(coverage.nodes if coverage else 0),
        cells.count(coverage.yes if coverage else 0),
    ]


def image(centre: Centre, asked: Asked, name: str) -> Page:
    """One image at every site. Raises UnknownName, AmbiguousName."""
    found: ImageMatch = centre.kept.ask(("image", name), lambda: _matched(centre, name))
    wanted = asked.text("q").casefold()
    answer = asked.one_of("answer", ("yes", "mixed", "no", "unknown"))
    sites = [
        match
        for match in found.sites
        if match.nodes and wanted in match.site.casefold() and answer in ("", match.start.answer)
    ]
    choices = [
        Choice("q", "Site contains", hint="part of a site's name"),
        Choice(
            "answer", "Runs", [("", "any"), ("yes", "yes"), ("mixed", "mixed"), ("no", "no"), ("unknown", "not known")]
        ),
    ]
    gpu = [Column("gpu", "With its GPU needs")] if found.total_gpu else []
    columns = [
        Column("site", "Site"),
        Column("nodes", "Nodes", numeric=True),
        Column("share", "Runs", "observed where it was tried, else predicted"),
        *gpu,
        Column("predicted", "Predicted yes", numeric=True),
        Column("observed", "Observed yes", "nodes on which it was tried and ran", numeric=True),
        Column("confidence", "Confidence"),
        Column("reason", "Why not"),
    ]
    rows = RowsOf(sites, lambda match: _site_row(match, bool(found.total_gpu)))
    blocks: list[Block] = [
        _about(found),
        *_why_not(found),
        Form(choices, "Filter"),
        Grid("sites", "Sites", columns, rows, True, "No site fits."),
        _needs(found.requirements),
    ]
    if found.disagreements:
        blocks.append(_disagreements(found.disagreements))
    return Page(found.image, "images", found.generated_at, blocks, list(found.names), trail=[_ALL])


def _matched(centre: Centre, name: str) -> ImageMatch:
    nodes = centre.kept.ask("all_nodes", lambda: views.all_nodes(centre.store, centre.now()))
    return views.match_image(centre.store, name, centre.now(), nodes=nodes)


def _about(found: ImageMatch) -> Facts:
    coverage = found.coverage
    rows = [("Runs", _judged(found.total)), ("Confidence", cells.text(found.total.confidence))]
    rows += [("With its GPU needs", _judged(found.total_gpu))] if found.total_gpu else []
    rows += [
        ("Tested on nodes", cells.count(coverage.nodes if coverage else 0)),
        ("At sites", cells.count(coverage.sites if coverage else 0)),
        ("Last tried (UTC)", cells.when(coverage.newest if coverage else None, found.generated_at)),
    ]
    return Facts("", rows)


def _judged(found: Judged) -> Cell:
    counts = found.counts
    told_ = f"{counts.yes:,} of {counts.yes + counts.no:,} nodes, {counts.unknown:,} not known"
    return cells.share(found.answer, found.share, told_)


def _counts(counts: Counts) -> Cell:
    return cells.share(counts.answer(default_rules()), counts.share)


def _site_row(match: SiteMatch, with_gpu: bool) -> list[Cell]:
    gpu = [cells.text(None) if match.gpu is None else _counts(match.gpu.counts)] if with_gpu else []
    return [
        cells.name(match.site, "site"),
        cells.count(match.nodes),
        _counts(match.start.counts),
        *gpu,
        cells.count(match.predicted.yes),
        cells.count(match.observed.yes if match.observed.total else None),
        cells.text(match.start.confidence),
        cells.code(match.why_not[0].reason.code if match.why_not else None),
    ]


def _why_not(found: ImageMatch) -> list[Block]:
    """Each reason once, with the nodes of all sites."""
    nodes: dict[str, int] = {}
    for match in found.sites:
        for item in match.why_not:
            nodes[item.reason.code] = nodes.get(item.reason.code, 0) + item.nodes
    notices = [
        Notice(
            Cell(code, told.titled(explain_reason(code)), "", Target("reason", code), code),
            [Point("On", cells.so_many_nodes(number)), *told.remedies(explain_reason(code))],
            "mixed",
        )
        for code, number in sorted(nodes.items(), key=lambda item: -item[1])
    ]
    return [Group("why_not", "Why not everywhere", notices)] if notices else []


def _needs(requirements: Mapping[str, Any]) -> Grid:
    rows = [
        [cells.text(name), _value(fact["value"]), cells.text(fact["evidence"]), cells.text(fact["source"])]
        for name, fact in requirements["facts"].items()
    ]
    columns = [
        Column("fact", "Fact"),
        Column("value", "Value"),
        Column("evidence", "Evidence"),
        Column("source", "From"),
    ]
    return Grid("needs", "What is known of it", columns, rows)


def _value(value: object) -> Cell:
    if isinstance(value, dict):
        return cells.text(f"{len(value)} labels")
    if isinstance(value, list | tuple):
        return cells.text(", ".join(map(str, value)) or "none")
    return cells.text(None if value is None else str(value))


def _disagreements(found: tuple[Disagreement, ...]) -> Grid:
    rows = [
        [
            cells.name(item.site, "site"),
            Cell(item.predicted, item.predicted, item.predicted, None, item.predicted_reason or ""),
            Cell(item.observed, item.observed, item.observed, None, item.observed_reason or ""),
            cells.count(item.nodes),
            cells.count(item.of_nodes),
        ]
        for item in found
    ]
    columns = [
        Column("site", "Site"),
        Column("predicted", "Predicted"),
        Column("observed", "Observed"),
        Column("nodes", "Nodes", numeric=True),
        Column("of_nodes", "Of this kind", numeric=True),
    ]
    return Grid("disagreements", "Prediction and observation disagree", columns, rows)
