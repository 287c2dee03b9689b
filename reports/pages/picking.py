"""A small set of images that runs on most nodes, with requirements."""

from reports.pages import beginning, cells
from reports.pages.asked import Asked, WrongQuestion
from reports.pages.centre import Centre
from reports.pages.model import Block, Cell, Choice, Column, Facts, Form, Grid, Page
from site_db.images import views
from site_db.images.matrix import Pick, Picked
from site_db.images.selection import WrongCondition, parse_conditions

_OTHERS_SHOWN = 50


def pick(centre: Centre, asked: Asked) -> Page:
    """A small set of images that runs on most nodes. Raises UnknownName, WrongQuestion."""
    now = centre.now()
    site, require, gpu = asked.text("site"), asked.text("require"), asked.one_of("gpu", ("yes",))
    try:
        conditions = parse_conditions(require) if require else ()
    except WrongCondition as error:
        raise WrongQuestion(f"require: {error} {error.remedy}") from error
    wanted = views.Wanted((), conditions, (site,) if site else (), bool(gpu))
    key = ("pick", site, require, gpu)
    found: Pick = centre.kept.ask(key, lambda: views.pick_images(centre.store, now, wanted))
    form = Form(
        [
            Choice("site", "At site", hint="its whole name; empty: everywhere"),
            Choice("require", "Require", hint="for example os=rocky,glibc>=2.28"),
            Choice("gpu", "GPU", [("", "no matter"), ("yes", "what it asks of GPUs is met")]),
        ],
        "Pick",
    )
    facts = Facts(
        "",
        [
            ("Images", cells.count(found.images)),
            ("Nodes", cells.count(found.nodes)),
            ("Sites", cells.count(found.sites)),
            ("Covered", Cell(None, cells.percent(_covered(found)), "", None, "of nodes")),
        ],
    )
    caption, nothing = "In this order; each next one adds the most nodes", "None of them is known to run on these nodes."
    chosen = Grid("pick", caption, _columns(), _rows(found.chosen, found), True, nothing)
    blocks: list[Block] = [form, facts, chosen] if found.images else [beginning.first_image(), chosen]
    if found.others:
        blocks.append(Grid("others", "Adds nothing", _columns(), _rows(found.others[:_OTHERS_SHOWN], found)))
    lead = ["A small set of images that covers most nodes. Found greedily: a smaller set may exist."]
    return Page("Pick images", "pick", now, blocks, lead)


def _covered(found: Pick) -> float | None:
    return found.chosen[-1].covered / found.nodes if found.chosen and found.nodes else None


def _columns() -> list[Column]:
    return [
        Column("image", "Image"),
        Column("nodes", "Nodes", "on which it runs", numeric=True),
        Column("share", "Share", numeric=True),
        Column("sites", "Sites", numeric=True),
        Column("adds", "Adds", "nodes that no image before it runs on", numeric=True),
        Column("together", "Together", "share of nodes with all before it", numeric=True),
    ]


def _rows(picked: tuple[Picked, ...], found: Pick) -> list[list[Cell]]:
    return [
        [
            cells.name(item.image, "image"),
            cells.count(item.nodes),
            cells.part(item.nodes, found.nodes),
            cells.count(item.sites),
            cells.count(item.adds),
            cells.part(item.covered, found.nodes),
        ]
        for item in picked
    ]
