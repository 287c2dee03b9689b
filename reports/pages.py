"""Pages for people: Jinja2 with everything escaped, no scripts, nothing loaded from anywhere."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from reports.answers import age, overview_cells, overview_names
from reports.safe_text import printable
from reports.version import VERSION
from site_db.site_reports import SiteList

# Even if a text got through as markup, the browser would run and load nothing.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page(template: str, **values: Any) -> Response:  # noqa: ANN401 - what the template shows
    """A page from `templates/`."""
    return HTMLResponse(_environment().get_template(template).render(version=VERSION, **values), headers=_HEADERS)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalize(value: object) -> object:
    """Control characters and bidi marks become visible in every expression; escaping comes after this."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value)
    return "-" if value is None else value


def overview(found: SiteList) -> Response:
    """All sites."""
    names = overview_names(site.verdicts for site in found.sites)
    rows = [
        {
            "site": site,
            "standings": overview_cells(site.verdicts, names),
            "age": age(site.freshness.newest, found.generated_at),
        }
        for site in found.sites
    ]
    return page("sites.html", names=names, rows=rows, generated_at=found.generated_at, window_days=found.window_days)
