"""From a page to what is sent: HTML by Jinja2 with everything escaped, or one of its tables as CSV or JSON."""

import csv
import gzip
import io
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import Response

from reports.pages.arranging import arrange, in_order
from reports.pages.asked import Asked, WrongQuestion
from reports.pages.links import NAVIGATION, Links
from reports.pages.model import UNKNOWN, Figure, Grid, Page, Target
from reports.pages.table_rows import breakable, html_rows
from reports.plots import height_of
from reports.safe_text import csv_cell, printable
from reports.version import VERSION
from site_db.times import format_time

# Even if a text got through as markup, the browser would run and load nothing of it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
FORMATS = ("csv", "json")
_COMPRESSED_FROM_BYTES = 1024
_NUMBERS = frozenset({int, float})  # and not bool, which is written as a word
_STATIC_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def html(page: Page, asked: Asked, links: Links, template: str = "page.html", **more: object) -> str:
    """A page as HTML. Raises WrongQuestion for a state that it cannot have."""
    tables = {name: arrange(grid, asked, not links.is_served) for name, grid in page.grids().items()}
    values: dict[str, Any] = {"page": page, "tables": tables, "asked": asked, "links": links, "to": _to(links)}
    values["rows_of"] = lambda table: html_rows(table.rows, table.grid.columns, links)
    values |= {"navigation": NAVIGATION, "version": VERSION, "prefix": "", "level": 1, "data_files": "", "pictures": {}}
    return _environment().get_template(template).render(values | more)


def answer(page: Page, asked: Asked, links: Links, accepts_gzip: bool) -> Response:
    """A page, or the one of its tables that `table` and `format` ask for. Raises WrongQuestion."""
    wanted = asked.one_of("format", FORMATS)
    if not wanted:
        return respond(html(page, asked, links).encode(), "text/html; charset=utf-8", accepts_gzip, page.status)
    grids = page.grids()
    grid = grids[asked.one_of("table", tuple(grids), next(iter(grids)))] if grids else None
    if grid is None:
        raise WrongQuestion("format: this page has no table")
    if wanted == "csv":
        body, media_type = csv_text(grid, asked).encode(), "text/csv; charset=utf-8"
    else:
        body, media_type = json_text(grid, asked, page), "application/json"
    response = respond(body, media_type, accepts_gzip)
    response.headers["Content-Disposition"] = f'attachment; filename="{grid.name}.{wanted}"'
    return response


def respond(body: bytes, media_type: str, accepts_gzip: bool, status: int = 200) -> Response:
    """A body with the headers of every page, compressed for those who take that."""
    headers = dict(HEADERS)
    if accepts_gzip and len(body) > _COMPRESSED_FROM_BYTES:
        body, headers["Content-Encoding"] = gzip.compress(body, 6, mtime=0), "gzip"
    return Response(body, status, headers, media_type)


def csv_text(grid: Grid, asked: Asked) -> str:
    """All rows of a table as CSV that no spreadsheet takes for formulas."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.key for column in grid.columns])
    # Most cells are numbers, which stay what they are.
    writer.writerows(
        [cell.value if type(cell.value) in _NUMBERS else csv_cell(cell.value) for cell in row]
        for row in in_order(grid, asked)
    )
    return stream.getvalue()


def json_text(grid: Grid, asked: Asked, page: Page) -> bytes:
    """All rows of a table as JSON: objects by the columns' keys, in order."""
    keys = [column.key for column in grid.columns]
    rows = [dict(zip(keys, (_plain(cell.value) for cell in row), strict=True)) for row in in_order(grid, asked)]
    return orjson.dumps(
        {"table": grid.name, "version": VERSION, "generated_at": format_time(page.generated_at), "rows": rows}
    )


def static_text(name: str) -> str:
    """A file of reports/static."""
    return (resources.files("reports") / "static" / name).read_text(encoding="utf-8")


@cache
def static_files() -> Mapping[str, tuple[bytes, str]]:
    """The bytes and the media type of every file of reports/static, by name."""
    folder = resources.files("reports") / "static"
    return {
        item.name: (item.read_bytes(), _STATIC_TYPES[item.name.rpartition(".")[2]])
        for item in folder.iterdir()
        if item.name.rpartition(".")[2] in _STATIC_TYPES
    }


def plot_target(figure: Figure) -> Target:
    """Where the picture of a figure is."""
    return Target("plot", f"{figure.name}.svg", figure.query)


def _plain(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


def _to(links: Links) -> Any:  # noqa: ANN401 - a function for templates
    def to(kind: str, name: str | None = None, query: tuple[tuple[str, str], ...] = ()) -> str | None:
        return links.to(Target(kind, name, query))

    return to


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(plot_target=plot_target, plot_height=height_of, breakable=breakable)
    return environment


def _finalize(value: object) -> object:
    """Control characters and bidi marks become visible in every expression; escaping comes after this."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return UNKNOWN if value is None else value
