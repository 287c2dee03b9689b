"""What there is to see: one row a page. The collector makes routes of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from reports import plots
from reports.pages import (
    changes,
    coverage,
    drift,
    entries,
    health,
    images,
    nodes,
    picking,
    reasons,
    rendering,
    sites,
    trends,
)
from reports.pages.asked import Asked, WrongQuestion
from reports.pages.centre import Centre
from reports.pages.links import PATHS, ServedLinks
from reports.pages.model import Cell, Group, Notice, Page, Point
from site_db.errors import AmbiguousName, SiteDbError, UnknownName

Question = Callable[[Request], Response]
Make = Callable[..., Page]
_SVG = "image/svg+xml"
# A picture brings its own style; it may load nothing, and nothing runs in it.
_PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

# By kind of page (links.PATHS); those whose path ends with a slash take a name.
PAGES: Mapping[str, Make] = {
    "sites": sites.overview,
    "entries": entries.entries,
    "nodes": nodes.nodes,
    "changes": changes.changes,
    "drift": drift.drift,
    "images": images.images,
    "pick": picking.pick,
    "coverage": coverage.coverage,
    "reasons": reasons.reasons,
    "trends": trends.trends,
    "collector": health.collector,
    "site": sites.site,
    "entry": entries.entry,
    "node": nodes.node,
    "drift_of": drift.drift_of,
    "image": images.image,
    "reason": reasons.reason,
}


@dataclass(frozen=True)
class Pages:
    """The pages of one centre."""

    centre: Centre

    def questions(self) -> list[tuple[str, Question]]:
        """Paths in OpenAPI's spelling, and what answers there."""
        rows = [(f"/{path}{{name}}" if path.endswith("/") else f"/{path}", self._question(kind)) for kind, path in _paths()]
        return [*rows, ("/plots/{name}", self._plot)]

    def _question(self, kind: str) -> Question:
        def question(request: Request) -> Response:
            asked, links, gzip = Asked(request.query_params), links_of(request), _accepts_gzip(request)
            names = list(request.path_params.values())
            try:
                with self.centre.kept.one_look():
                    page = PAGES[kind](self.centre, asked, *names)
                return rendering.answer(page, asked, links, gzip)
            except (UnknownName, AmbiguousName, WrongQuestion) as error:
                page = _refusal(self.centre, kind, error)
                return rendering.respond(
                    rendering.html(page, Asked(), links).encode(), "text/html; charset=utf-8", gzip, page.status
                )

        return question

    def _plot(self, request: Request) -> Response:
        asked, name = Asked(request.query_params), request.path_params["name"].removesuffix(".svg")
        key = ("picture", name, asked.text("days"), asked.text("site"))
        try:
            picture = self.centre.kept.ask(key, lambda: plots.draw(trends.figure(self.centre, name, asked)))
        except (UnknownName, WrongQuestion):
            return Response(status_code=404)
        response = rendering.respond(picture, _SVG, _accepts_gzip(request))
        response.headers["Content-Security-Policy"] = _PICTURE_POLICY
        return response


def static(request: Request) -> Response:
    """A file of reports/static: the same for everybody."""
    name = request.path_params["name"]
    if name not in rendering.static_files():
        return Response(status_code=404)
    body, media_type = rendering.static_files()[name]
    return rendering.respond(body, media_type, _accepts_gzip(request))


def links_of(request: Request) -> ServedLinks:
    """Links under the path at which this application is mounted."""
    return ServedLinks(str(request.scope.get("root_path", "")))


def _paths() -> list[tuple[str, str]]:
    """Those without a name first: the name of a site may be anything."""
    return sorted(((kind, PATHS[kind]) for kind in PAGES), key=lambda item: item[1].endswith("/"))


def _accepts_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


_STATUSES: Mapping[type[Any], int] = {UnknownName: 404, AmbiguousName: 409, WrongQuestion: 400}


def _refusal(centre: Centre, kind: str, error: Exception) -> Page:
    points = [Point("What to do", error.remedy)] if isinstance(error, SiteDbError) else []
    notice = Notice(Cell(None, str(error)), points, "mixed")
    section = kind if not PATHS[kind].endswith("/") else PATHS[kind].rstrip("/")
    title = "There is no such page" if isinstance(error, UnknownName) else "This cannot be answered"
    return Page(title, section, centre.now(), [Group("refused", "", [notice])], status=_STATUSES[type(error)])
