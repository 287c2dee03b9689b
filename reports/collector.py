"""The collector: the ASGI application behind `site-db serve`. One table of routes; the description is built from it."""

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reports import feed, gpu_routes, images_routes
from reports.authorization import Authorizer, OpenAuthorizer, Refused
from reports.disk import Disk
from reports.intake import utc_now
from reports.metrics import CONTENT_TYPE, CountedAnswers, Metrics
from reports.openapi import CHANGED, OF_ONE_ENTRY, PAGED, RECEIVE, Described, Operation, description
from reports.pages import routes
from reports.pages.centre import Centre
from reports.pages.kept import Kept
from reports.pages.routes import Pages
from reports.problems import HttpProblem
from reports.readiness import Queue, check_ready, watch_queue
from reports.receiving import Accepting, Checking, Receiver, caller_of
from reports.safe_text import escaped_json
from reports.settings import Settings
from reports.tokens.authorizer import TokenAuthorizer
from site_db import views
from site_db.changes_views import ChangeList, Wanted, list_changes
from site_db.configuration.drift import check_drift
from site_db.errors import AmbiguousName, SiteDbError, UnknownName
from site_db.inbox import Inbox
from site_db.site_reports import SiteReportPart
from site_db.store import Store
from site_db.writer import Writer

Endpoint = Callable[[Request], Awaitable[Response]]
# What every question may be answered with: see authorization.
_REFUSALS = (401, 403, 503)


class Row(NamedTuple):
    """One route: a path in OpenAPI's spelling, who answers, and what the description says of it (None: nothing)."""

    path: str
    endpoint: Endpoint
    operation: Operation | None
    method: str = "GET"


def create_app(
    store: Store,
    settings: Settings | None = None,
    authorizer: Authorizer | None = None,
    now: Callable[[], datetime] = utc_now,
    disk: Disk | None = None,
    writer: Accepting | None = None,
    queue: Queue | None = None,
    gate: Checking | None = None,
) -> Starlette:
    """The application over an open store. Reports go to `queue` or else to `writer` (or else a Writer of the store), which
    it drains when it stops; the store stays open. `writer` and `gate` together: reports.writing.

    `state.metrics` and `state.settings` are for the server that runs it.
    """
    settings = settings or Settings()
    authorizer = authorizer or OpenAuthorizer()
    writer = queue or writer or Writer(store)
    metrics = Metrics()
    disk = disk or Disk(_written_folders(store), settings.disk_free_bytes)
    receiver = Receiver(writer, authorizer, settings, metrics, disk, gate)
    _watch(metrics, writer, receiver, disk, authorizer)
    if queue:
        watch_queue(metrics, queue)
    reader = _Reader(authorizer, metrics)
    kept = Kept(store)
    rows = [
        Row("/api/v1/reports", receiver.post, RECEIVE, "POST"),
        *_data_rows(store, reader, now),
        *_own_rows(metrics, reader, lambda: check_ready(store, disk, queue)),
        *_page_rows(Pages(Centre(store, now, kept, metrics.text)), reader),
    ]
    described = (Described(row.path, row.method, row.operation) for row in rows if row.operation)
    document = orjson.dumps(description(described))
    rows.append(Row("/openapi.json", _constant(document), Operation("This description", "OpenAPI 3.1")))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        if gate:
            await gate.start()
        yield
        if gate:
            await gate.stop()
        await run_sync(kept.close)
        await run_sync(writer.close)

    app = Starlette(
        routes=[_route(row) for row in rows],
        lifespan=lifespan,
        middleware=[Middleware(CountedAnswers, metrics=metrics, paths={row.endpoint: row.path for row in rows})],
        exception_handlers={
            HttpProblem: _answer_problem,
            UnknownName: _answer_name(404, "unknown_name"),
            AmbiguousName: _answer_name(409, "ambiguous_name"),
            SiteDbError: _unavailable_answer(settings),
            HTTPException: _answer_http_exception,
            Exception: _answer_internal_error,
        },
    )
    app.state.metrics, app.state.settings = metrics, settings
    return app


def _written_folders(store: Store) -> list[Path]:
    """Where this machine's disk takes reports: bodies under way, and the database if it is a file."""
    database = [store.sqlite_path.absolute().parent] if store.sqlite_path else []
    return [Path(tempfile.gettempdir()), *database]


def _watch(metrics: Metrics, writer: Accepting, receiver: Receiver, disk: Disk, authorizer: Authorizer) -> None:
    metrics.watch("queue_reports", "Reports that wait for their commit", lambda: writer.pending)
    if isinstance(writer, Inbox):
        metrics.watch("inbox_kept_aside", "Files in the inbox's folder that people have to look at", lambda: writer.kept_aside)
    metrics.watch("posts", "Requests with reports that are being answered", lambda: receiver.present)
    metrics.watch("disk_free_bytes", "Free where bodies and the database are written", lambda: disk.free_bytes)
    if isinstance(authorizer, TokenAuthorizer):
        metrics.watch_tokens(authorizer)


class _Reader:
    """Answers questions in a thread, for those who may read."""

    def __init__(self, authorizer: Authorizer, metrics: Metrics) -> None:
        self._authorizer = authorizer
        self._metrics = metrics

    def json(self, question: Callable[[Request], Any]) -> Endpoint:
        """An endpoint that answers with JSON."""

        async def endpoint(request: Request) -> Response:
            answer: Response = await self._ask(request, lambda asked: _json(question(asked)))
            return answer

        return endpoint

    def answered(self, question: Callable[[Request], Response]) -> Endpoint:
        """An endpoint whose question gives the whole answer."""

        async def endpoint(request: Request) -> Response:
            response: Response = await self._ask(request, question)
            return response

        return endpoint

    def page(self, question: Callable[[Request], Any], render: Callable[[Any], Response]) -> Endpoint:
        """An endpoint that answers with a page."""

        async def endpoint(request: Request) -> Response:
            return render(await self._ask(request, question))

        return endpoint

    async def _ask(self, request: Request, question: Callable[[Request], Any]) -> Any:  # noqa: ANN401 - see json
        try:
            await self._authorizer.reader(caller_of(request))
        except Refused as refused:
            self._metrics.refused.labels(str(refused.status), refused.reason).inc()
            raise HttpProblem.of_refused(refused) from refused
        return await run_sync(question, request)


def _data_rows(store: Store, reader: _Reader, now: Callable[[], datetime]) -> list[Row]:
    def listed(what: str, question: Callable[[Request], Any], extra: dict[str, Any] | None = None) -> Row:
        operation = Operation(f"All {what} that have reported", f"The {what}", refusals=_REFUSALS, extra=extra or {})
        return Row(f"/api/v1/{what}", reader.json(question), operation)

    def named(path: str, what: str, view: Callable[[Store, str, datetime], SiteReportPart]) -> Row:
        def question(request: Request) -> dict[str, Any]:
            return view(store, request.path_params["name"], now()).to_dict()

        parameter = ("name", f"The {what}'s name, as the list gives it")
        operation = Operation(f"One {what}", "The answer", parameter=parameter, refusals=(*_REFUSALS, 404, 409))
        return Row(f"/api/v1/{path}/{{name}}", reader.json(question), operation)

    def all_entries(_request: Request) -> dict[str, Any]:
        return {"entries": [entry.to_dict() for entry in views.list_entries(store, now())]}

    def disagreements(request: Request) -> dict[str, Any]:
        return check_drift(store, now(), request.query_params.get("entry") or None).to_dict()

    drift = Operation(
        "Where imported configuration and measurement disagree",
        "The findings, the gravest first",
        refusals=(*_REFUSALS, 404),
        extra=OF_ONE_ENTRY,
    )
    # Before those of sites and entries, whose names may hold slashes.
    about = [*images_routes.questions(store, now), *gpu_routes.questions(store, now)]
    return [
        *(Row(path, reader.json(question), operation) for path, question, operation in about),
        listed("sites", lambda _request: views.list_sites(store, now()).to_dict()),
        named("sites", "site", views.site_report),
        listed("entries", all_entries),
        named("entries", "entry", views.entry_report),
        listed(
            "nodes", lambda request: views.list_nodes(store, request.query_params.get("after", "")).to_dict(), PAGED
        ),
        named("nodes", "node", views.node_report),
        *_changes_rows(store, reader, now),
        Row("/api/v1/drift", reader.json(disagreements), drift),
    ]


def _changes_rows(store: Store, reader: _Reader, now: Callable[[], datetime]) -> list[Row]:
    """What entries lost and gained: as JSON, and as a feed."""

    def listed(request: Request) -> dict[str, Any]:
        asked = request.query_params
        try:
            since = datetime.fromisoformat(asked["since"]) if asked.get("since") else None
        except ValueError as error:
            raise HttpProblem(400, "since: give a time such as 2026-11-20T12:00:00Z") from error
        if since is not None and since.tzinfo is None:
            since = since.replace(tzinfo=UTC)
        wanted = Wanted(since, *(asked.get(name) or None for name in ("entry", "site", "capability")))
        return list_changes(store, now(), wanted).to_dict()

    def followed(request: Request) -> tuple[ChangeList, str]:
        return list_changes(store, now()), str(request.url)

    def render(found: tuple[ChangeList, str]) -> Response:
        return Response(feed.atom(*found), media_type=feed.MEDIA_TYPE)

    operation = Operation(
        "What entries lost and gained", "The changes, the latest first", refusals=(*_REFUSALS, 400), extra=CHANGED
    )
    about_feed = Operation("Confirmed changes, to follow", "An Atom feed", feed.MEDIA_TYPE, refusals=_REFUSALS)
    return [
        Row("/api/v1/changes", reader.json(listed), operation),
        Row("/changes.atom", reader.page(followed, render), about_feed),
    ]


def _own_rows(metrics: Metrics, reader: _Reader, check: Callable[[], Awaitable[dict[str, Any]]]) -> list[Row]:
    async def healthy(_request: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(_request: Request) -> Response:
        return _json(await check())

    measured = reader.page(
        lambda _request: metrics.text(), lambda text: Response(text, headers={"Content-Type": CONTENT_TYPE})
    )

    return [
        Row("/healthz", healthy, Operation("Is this process alive", "It is")),
        Row("/readyz", ready, Operation("Can it take reports", "It can", refusals=(503,))),
        Row("/metrics", measured, Operation("Figures for Prometheus", "The figures", "text/plain", refusals=_REFUSALS)),
    ]


def _page_rows(pages: Pages, reader: _Reader) -> list[Row]:
    """The pages: the description names the first, from which people find the others."""
    first = Operation("The pages for people begin here", "A page", "text/html", refusals=(*_REFUSALS, 400))

    async def static(request: Request) -> Response:
        return routes.static(request)

    return [
        *(
            Row(path, reader.answered(question), first if path == "/" else None)
            for path, question in pages.questions()
        ),
        Row("/static/{name}", static, None),
    ]


def _route(row: Row) -> Route:
    # Names come from reports and may hold a slash.
    return Route(row.path.replace("{name}", "{name:path}"), row.endpoint, methods=[row.method])


def _constant(body: bytes) -> Endpoint:
    async def endpoint(_request: Request) -> Response:
        return Response(body, media_type="application/json")

    return endpoint


def _json(answer: object) -> Response:
    # Names of strangers: who looks at an answer in a terminal is not to be misled by characters that turn or hide text.
    return Response(escaped_json(orjson.dumps(answer)), media_type="application/json")


async def _answer_problem(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HttpProblem)  # noqa: S101 - by the table of handlers
    return problem.response()


def _answer_name(status: int, kind: str) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, error: Exception) -> Response:
        assert isinstance(error, SiteDbError)  # noqa: S101 - by the table of handlers
        return HttpProblem(status, f"{error} {error.remedy}", kind).response()

    return answer


def _unavailable_answer(settings: Settings) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_request: Request, _error: Exception) -> Response:
        detail = "the database gives no answer now"
        return HttpProblem.try_again("unavailable", detail, settings.retry_after_s).response()

    return answer


_STATUS_DETAILS = {
    404: "there is nothing at this path; /openapi.json lists what there is",
    405: "this path does not take this method; the Allow header lists those that it takes",
}


async def _answer_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - by the table of handlers
    detail = _STATUS_DETAILS.get(error.status_code, error.detail)
    return HttpProblem(error.status_code, detail, headers=error.headers).response()


async def _answer_internal_error(_request: Request, _error: Exception) -> Response:
    # Starlette raises the error again after this answer, and the server logs it with its traceback.
    return HttpProblem(500, "an error inside the collector; its log has the details").response()
