"""How far the tests of images reach."""

from reports.pages import beginning, cells, images
from reports.pages.asked import Asked
from reports.pages.centre import Centre
from reports.pages.model import Block, Cell, Choice, Column, Facts, Form, Grid, Page
from site_db.images.views import ImageList, Listing


def coverage(centre: Centre, asked: Asked) -> Page:
    """How far the tests of images reach."""
    found = images.listed(centre)
    sites = len(centre.sites().sites)
    wanted, tested = asked.text("q").casefold(), asked.one_of("tested", ("yes", "no"))
    in_order = sorted(found.images, key=lambda item: -item.coverage.nodes if item.coverage else 0)
    rows = [
        _row(item, sites, found)
        for item in in_order
        if wanted in item.image.casefold() and tested in ("", "yes" if item.coverage else "no")
    ]
    columns = [
        Column("image", "Image"),
        Column("nodes", "Tested on", "nodes", numeric=True),
        Column("sites", "At sites", numeric=True),
        Column("site_share", "Of all sites", numeric=True),
        Column("share", "Ran"),
        Column("ran", "Ran on", "nodes", numeric=True),
        Column("failed", "Failed on", "nodes", numeric=True),
        Column("newest", "Last tried (UTC)"),
    ]
    tested_count = sum(item.coverage is not None for item in found.images)
    counted = (("Images", len(found.images)), ("Tested", tested_count), ("Sites", sites))
    facts = Facts("", [(title, cells.count(number)) for title, number in counted])
    form = Form(
        [
            Choice("q", "Image contains", hint="part of a reference"),
            Choice("tested", "Tested", [("", "any"), ("yes", "somewhere"), ("no", "nowhere")]),
        ],
        "Filter",
    )
    grid = Grid("coverage", "Images", columns, rows, True, "No image fits." if found.images else "No image yet.")
    blocks: list[Block] = [facts, form, grid] if found.images else [beginning.first_image(), grid]
    lead = ["On how many nodes and sites images were tried; what was not tried is predicted from what is known of both."]
    return Page("Coverage of image tests", "coverage", found.generated_at, blocks, lead)


def _row(item: Listing, sites: int, found: ImageList) -> list[Cell]:
    name = cells.name(item.image, "image")
    tried = item.coverage
    if tried is None:
        nothing = [cells.count(0), cells.count(0), Cell(0.0, "0%"), Cell(None, "unknown", "unknown")]
        return [name, *nothing, cells.count(0), cells.count(0), cells.when(None, found.generated_at)]
    measured = tried.yes + tried.no
    share = tried.yes / measured if measured else None
    answer = "unknown" if share is None else "yes" if share == 1 else "no" if share == 0 else "mixed"
    return [
        name,
        cells.count(tried.nodes),
        cells.count(tried.sites),
        cells.part(tried.sites, sites),
        cells.share(answer, share),
        cells.count(tried.yes),
        cells.count(tried.no),
        cells.when(tried.newest, found.generated_at),
    ]
