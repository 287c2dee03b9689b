"""What the commands on images answer: for people, for programs, for spreadsheets."""

from collections.abc import Iterable, Sequence
from typing import Any

from reports.answers import age
from reports.output import Answer, Table, Verbatim
from site_db.images.classads import Clause
from site_db.images.fleet import KnownImage
from site_db.images.matching import Counts, Disagreement, Judged, SiteMatch, WhyNot
from site_db.images.matrix import Matrix, Pick, Picked
from site_db.images.model import FACTS, Fact, Requirements
from site_db.images.registering import Imported
from site_db.images.views import ImageList, ImageMatch, Listing, SiteImages
from site_db.rules import default_rules
from site_db.times import format_time

_SITES_AS_COLUMNS = 6
_OTHERS_SHOWN = 20
_DISAGREEMENTS_SHOWN = 20
_WRONG_SHOWN = 50
_MIB = 1024**2


def imported(found: Sequence[Imported]) -> Answer:
    """What became of catalogues."""
    rows = [
        [item.path, item.kind, item.images, item.patterns, item.new, item.changed, len(item.gone), len(item.wrong)]
        for item in found
    ]
    table = Table(["catalogue", "kind", "images", "patterns", "new", "changed", "gone", "wrong"], rows)
    wrong = [
        f"{item.path}:{line.line}: {line.problem}: {line.text}\n  {line.remedy}"
        for item in found
        for line in item.wrong
    ]
    blocks: list[str | Table] = [table]
    if wrong:
        more = [f"... and {len(wrong) - _WRONG_SHOWN} more"] if len(wrong) > _WRONG_SHOWN else []
        blocks.append("\n".join(["Left out:", *wrong[:_WRONG_SHOWN], *more]))
    gone = [f"gone from {item.path}: {', '.join(item.gone)}" for item in found if item.gone]
    return Answer([item.to_dict() for item in found], [*blocks, *gone], table)


def inspected(path: str, requirements: Requirements) -> Answer:
    """What one image needs, with the evidence for each fact."""
    table = _fact_table(requirements)
    notes = ["\n".join(f"note: {note}" for note in requirements.notes)] if requirements.notes else []
    return Answer({"path": path, **requirements.to_dict()}, [table, *notes], table)


def added(reference: str, requirements: Requirements) -> Answer:
    """An image that is in the database now, with all that is known of it."""
    table = _fact_table(requirements)
    return Answer({"image": reference, **requirements.to_dict()}, [f"Image {reference}", table], table)


def _fact_table(requirements: Requirements) -> Table:
    rows = [[name, _fact_text(name, requirements.fact(name)), *_where(requirements.fact(name))] for name in FACTS]
    return Table(["fact", "value", "evidence", "where it is from"], rows)


def _where(fact: Fact) -> list[str]:
    return [fact.evidence, fact.source]


def _fact_text(name: str, fact: Fact) -> str | None:
    value = fact.value
    if value is None:
        return None
    if name == "kernel":
        return ".".join(map(str, value))
    if name == "size_bytes":
        return f"{value / _MIB:.1f} MiB"
    if name == "labels":
        return f"{len(value)} labels"
    if name == "cuda":
        return "; ".join(value) or "none"
    return str(value)


def listed(found: ImageList) -> Answer:
    """All images: what is known of them, and how far their tests reach."""
    rows = [_listed_row(item) for item in found.images]
    columns = ["image", "arch", "level", "os", "libc", "cuda", "tested", "ran", "sites"]
    full = Table(
        [*columns, "names", "catalogues"], [[*_listed_row(item), item.names, item.catalogues] for item in found.images]
    )
    table = Table(columns, rows)
    told = [f"{len(found.images)} images, {len(found.patterns)} patterns, {len(found.gone)} gone from their catalogue"]
    if found.patterns:
        told.append("A pattern stands for tags that only its registry knows; they come in when nodes report them.")
    nothing = ["No image is known yet. Begin with: site-db images import FILE"]
    return Answer(found.to_dict(), ["\n".join(told), table] if rows or found.patterns else nothing, full)


def _listed_row(item: Listing) -> list[object]:
    facts = {name: fact["value"] for name, fact in item.requirements["facts"].items()}
    system = " ".join(filter(None, (facts["os_id"], facts["os_version"]))) or None
    coverage = item.coverage
    tested = [coverage.nodes, coverage.yes, coverage.sites] if coverage else [0, 0, 0]
    level = (facts["microarch"] or "").removeprefix("x86_64-") or None
    return [item.image, facts["arch"], level, system, facts["libc"], facts["cuda_version"], *tested]


def matched(found: ImageMatch, only_disagreements: bool = False) -> Answer:
    """One image against all sites."""
    if only_disagreements:
        return disagreeing(found.disagreements)
    rows = [_site_row(match, found.total_gpu is not None) for match in found.sites if match.nodes]
    silent = sum(not match.nodes for match in found.sites)
    gpu = ["gpu"] if found.total_gpu else []
    table = Table(["site", "nodes", "runs", *gpu, "predicted", "observed", "confidence", "why not"], rows)
    blocks: list[str | Table] = [_heading(found), table]
    if silent:
        blocks.append(f"{silent} sites without a report within {found.window_days} days are left out.")
    blocks += _why_blocks(found.sites)
    if found.disagreements:
        blocks.append(_disagreement_table(found.disagreements[:_DISAGREEMENTS_SHOWN]))
    return Answer(found.to_dict(), blocks, _match_figures(found.sites))


def _heading(found: ImageMatch) -> str:
    lines = [f"Image {found.image}: runs on {_told(found.total)}"]
    if found.total_gpu:
        lines.append(f"With what it asks of GPUs: {_told(found.total_gpu)}")
    coverage = found.coverage
    if coverage:
        when = age(coverage.newest, found.generated_at)
        lines.append(
            f"Tested on {coverage.nodes} nodes at {coverage.sites} sites, ran on {coverage.yes}, last {when} ago"
        )
    else:
        lines.append("Tested nowhere yet: everything below is predicted.")
    unknown = [name for name in ("arch", "microarch", "kind") if found.requirements["facts"][name]["value"] is None]
    if unknown:
        told = ", ".join(unknown)
        lines.append(f"Not known of the image: {told}. Tell it: site-db images add {found.image} --inspect PATH")
    return "\n".join(lines)


def _told(judged: Judged) -> str:
    counts = judged.counts
    measured = counts.yes + counts.no
    if judged.share is None:
        return f"not known of any of {counts.total} nodes"
    rest = f", {counts.unknown} more not known" if counts.unknown else ""
    return f"{counts.yes} of {measured} nodes ({_percent(judged.share)}{rest}; confidence {judged.confidence})"


def _percent(share: float | None) -> str:
    """A share that is not all or nothing never reads so."""
    if share is None:
        return "?"
    rounded = f"{share:.0%}"
    return {"100%": ">99%", "0%": "<1%"}.get(rounded, rounded) if 0 < share < 1 else rounded


def _site_row(match: SiteMatch, with_gpu: bool) -> list[object]:
    gpu: list[object] = [_cell(match.gpu.counts) if match.gpu else None] if with_gpu else []
    codes = tuple(f"{item.reason.code} ({item.nodes})" for item in match.why_not)
    start = match.start
    return [
        match.site,
        match.nodes,
        _cell(start.counts),
        *gpu,
        _slashes(match.predicted),
        _slashes(match.observed) if match.observed.total else None,
        start.confidence,
        codes,
    ]


def _slashes(counts: Counts) -> str:
    return "/".join(map(str, counts))


def _cell(counts: Counts) -> str:
    answer = counts.answer(default_rules())
    return f"mixed {_percent(counts.share)}" if answer == "mixed" else answer


def _why_blocks(sites: Iterable[SiteMatch]) -> list[str]:
    """Each reason once, in words, with the nodes of all sites."""
    found: dict[str, tuple[WhyNot, int]] = {}
    for match in sites:
        for item in match.why_not:
            before = found.get(item.reason.code)
            found[item.reason.code] = (item, item.nodes + (before[1] if before else 0))
    lines = []
    for item, nodes in sorted(found.values(), key=lambda pair: -pair[1]):
        reason = item.reason
        told = reason.title or "the nodes, or the facts about the image, do not tell"
        lines.append(f"{reason.code} on {nodes} nodes: {told}.")
        lines += [f"  {who}: {remedy}" for who, remedy in _remedies(item) if remedy]
    return ["Why not:\n" + "\n".join(lines)] if lines else []


def _remedies(item: WhyNot) -> list[tuple[str, str | None]]:
    return [("The site can", item.reason.site_remedy), ("The factory or VO can", item.reason.factory_remedy)]


def _match_figures(sites: Iterable[SiteMatch]) -> Table:
    columns = ["site", "nodes", "answer", "share", "yes", "no", "unknown", "predicted_yes", "predicted_no"]
    columns += ["observed_yes", "observed_no", "gpu_yes", "confidence", "newest", "reasons"]
    rows = [
        [
            match.site,
            match.nodes,
            match.start.answer,
            match.start.share,
            *match.start.counts,
            *match.predicted[:2],
            *match.observed[:2],
            match.gpu.counts.yes if match.gpu else None,
            match.start.confidence,
            format_time(match.newest) if match.newest else None,
            tuple(item.reason.code for item in match.why_not),
        ]
        for match in sites
    ]
    return Table(columns, rows)


def disagreeing(found: Sequence[Disagreement]) -> Answer:
    """Where prediction and observation contradict each other: a wrong rule, a wrong fact, or a broken copy of the image."""
    table = _disagreement_table(found)
    data = [{**vars(item), "newest": format_time(item.newest)} for item in found]
    return Answer(data, [table] if found else ["Prediction and observation agree wherever both tell."], table)


def _disagreement_table(found: Sequence[Disagreement]) -> Table:
    rows = [
        [
            item.image,
            item.site,
            _because(item.predicted, item.predicted_reason),
            _because(item.observed, item.observed_reason),
            item.nodes,
            item.of_nodes,
        ]
        for item in found
    ]
    columns = ["image", "site", "predicted", "observed", "nodes", "of this kind"]
    return Table(columns, rows, "Prediction and observation disagree")


def _because(answer: str, reason: str | None) -> str:
    return f"{answer}: {reason}" if reason else answer


def of_site(found: SiteImages) -> Answer:
    """Every image at one site."""
    rows = [
        [item.image, _cell(item.match.start.counts), *item.match.start.counts, item.match.start.confidence]
        for item in found.images
    ]
    table = Table(["image", "runs", "yes", "no", "unknown", "confidence"], rows)
    return Answer(found.to_dict(), [f"Images at {found.site}", table], table)


def matrix(found: Matrix) -> Answer:
    """Images by sites: shares for people where few sites are asked for, sums otherwise; shares for spreadsheets."""
    shares = [[_share(row.counts(position)) for position in range(len(found.sites))] for row in found.rows]
    figures = [[row.image.reference, *cells] for row, cells in zip(found.rows, shares, strict=True)]
    full = Table(["image", *found.sites], figures)
    if 0 < len(found.sites) <= _SITES_AS_COLUMNS:
        rows = [
            [row.image.reference, *(_cell(row.counts(position)) for position in range(len(found.sites)))]
            for row in found.rows
        ]
        shown = Table(["image", *found.sites], rows)
    else:
        shown = Table(["image", "nodes", "sites: yes", "mixed", "no", "unknown"], [_sums(row) for row in found.rows])
    note = "Shares of nodes at every site: site-db --format csv images matrix"
    return Answer(matrix_data(found), [shown, note] if found.rows else ["No image is known yet."], full)


def matrix_data(found: Matrix) -> dict[str, Any]:
    """The matrix for programs: for every image the nodes [yes, no, unknown, tried] of each site, in the order of sites."""
    rows = [
        {
            "image": row.image.reference,
            "names": list(row.image.names),
            "sites": [list(cell) for cell in zip(row.yes, row.no, row.unknown, row.observed, strict=True)],
        }
        for row in found.rows
    ]
    columns = ["yes", "no", "unknown", "tried"]
    return {
        "generated_at": format_time(found.generated_at),
        "sites": list(found.sites),
        "cell": columns,
        "images": rows,
    }


def _share(counts: Counts) -> float | None:
    return None if counts.share is None else round(counts.share, 4)


def _sums(row: Any) -> list[object]:  # noqa: ANN401 - a matrix.Row, whose generic name says nothing here
    answers = [row.counts(position).answer(default_rules()) for position in range(len(row.yes))]
    total = row.total
    told = "?" if total.share is None else f"{total.yes} ({_percent(total.share)})"
    return [row.image.reference, told, *(answers.count(name) for name in ("yes", "mixed", "no", "unknown"))]


def picked(found: Pick) -> Answer:
    """A small set of images for these nodes."""
    if not found.nodes:
        return Answer(found.to_dict(), ["No node reported within the window."], Table(["image"], []))
    rows = [_picked_row(item, found) for item in found.chosen]
    columns = ["image", "nodes", "share", "sites", "adds", "together"]
    table = Table(columns, rows, "In this order; each next one adds the most nodes (greedy: a smaller set may exist)")
    others = Table(columns[:4], [_picked_row(item, found)[:4] for item in found.others[:_OTHERS_SHOWN]], "Adds nothing")
    blocks: list[str | Table] = [f"{found.images} images, {found.nodes} nodes at {found.sites} sites"]
    blocks += [table] if rows else ["None of them is known to run on any of these nodes."]
    blocks += [others] if found.others else []
    return Answer(found.to_dict(), blocks, table)


def _picked_row(item: Picked, found: Pick) -> list[object]:
    share, covered = _percent(item.nodes / found.nodes), _percent(item.covered / found.nodes)
    return [item.image, item.nodes, share, item.sites, item.adds, covered]


def required(image: KnownImage, clauses: Sequence[Clause], text: str, gpu: bool) -> Answer:
    """An image's needs as a ClassAd expression; its clauses on stderr, so that stdout can be pasted."""
    asides = [f"{clause.about}: {clause.expression}" for clause in clauses]
    need = image.need
    lacking: list[tuple[object, str]] = [
        (need.kind, "its kind"),
        (need.microarch if need.arch == "x86_64" else "", "its x86-64 level"),
    ]
    lacking += [(need.cuda, "what it asks of GPUs")] if gpu else []
    asides += [f"note: {what} is not known, and is not asked for" for value, what in lacking if value is None]
    rows = [[clause.about, clause.expression] for clause in clauses]
    data = {"image": image.reference, "expression": text, "clauses": [clause._asdict() for clause in clauses]}
    return Answer(data, [Verbatim(text)], Table(["about", "expression"], rows), asides)
