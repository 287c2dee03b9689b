import asyncio
import gzip
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import openapi_spec_validator
import orjson
import pytest
import zstandard
from starlette.datastructures import Headers

from reports import collector
from reports.authorization import Caller, OpenAuthorizer, Refused, Sender
from reports.collector import create_app
from reports.settings import Settings
from site_db.errors import Busy, DatabaseUnavailable
from site_db.store import Store, Submission
from tests.reports.conftest import RunServer
from tests.sample_reports import sample_report

JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
zstd = zstandard.ZstdCompressor().compress
HOSTILE = "\x1b]0;x\x07<script>alert(1)</script>\u202e=1+1"


def body(**changes: object) -> bytes:
    made = {"created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), **changes}
    return orjson.dumps(sample_report(**made))


def post(client: httpx.Client, content: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/api/v1/reports", content=content, headers={**JSON, **named})


def check_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The answer is problem details of this status, harmless to whoever prints it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert {"type", "title", "detail"} <= problem.keys()
    assert problem["detail"].isprintable()
    assert "Traceback" not in answer.text
    return problem


def test_a_report_is_stored_once_and_durably_before_the_answer(client: httpx.Client, store: Store):
    report = sample_report()
    first, second = (post(client, orjson.dumps(report)) for _ in range(2))
    assert (first.status_code, first.json()) == (201, {"report_id": report["report_id"], "status": "new"})
    assert (second.status_code, second.json()) == (200, {"report_id": report["report_id"], "status": "known"})
    stored = store.raw_report(bytes.fromhex(report["report_id"].replace("-", "")))
    assert orjson.loads(stored or b"") == report


def test_the_same_report_from_many_senders_at_once_is_new_once(client: httpx.Client):
    content = body()
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(lambda _: post(client, content).status_code, range(24)))
    assert statuses == [200] * 23 + [201]


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("GZIP", gzip.compress), ("zstd", zstd), ("identity", bytes)],
)
def test_compressed_reports_are_taken(client: httpx.Client, encoding: str, pack: Callable[[bytes], bytes]):
    assert post(client, pack(body()), content_encoding=encoding).status_code == 201


def test_an_authorization_header_is_no_obstacle_in_the_open_mode(client: httpx.Client):
    assert post(client, body(), authorization="Bearer whatever").status_code == 201


def test_a_batch_gets_one_result_a_line(client: httpx.Client):
    good, known = sample_report(), sample_report()
    post(client, orjson.dumps(known))
    batch = b"\n".join(
        [
            orjson.dumps(good),
            b"",
            b'{"schema_version": "9.0"}',
            orjson.dumps(known),
            orjson.dumps(good),
            b'{"cut": ',
            orjson.dumps({**good, HOSTILE: 1}),
            b"x" * 5_000_000,
            body(),
        ]
    )
    answer = client.post("/api/v1/reports", content=batch, headers=NDJSON)
    assert answer.status_code == 200
    results = [orjson.loads(line) for line in answer.content.splitlines()]
    assert [(result["line"], result["status"]) for result in results] == [
        (1, "new"),
        (3, "rejected"),
        (4, "known"),
        (5, "known"),
        (6, "rejected"),
        (7, "rejected"),
        (8, "rejected"),
        (9, "new"),
    ]
    assert results[0]["report_id"] == good["report_id"]
    assert results[1]["problems"][0]["pointer"] == "/schema_version"
    assert all(p["detail"].isprintable() for result in results for p in result["problems"])


def test_a_large_compressed_batch_is_stored(client: httpx.Client):
    batch = gzip.compress(b"\n".join(body() for _ in range(300)))
    answer = client.post("/api/v1/reports", content=batch, headers={**NDJSON, "content-encoding": "gzip"})
    assert answer.content.count(b'"status":"new"') == 300


@pytest.mark.parametrize(
    ("content", "headers", "status", "words"),
    [
        (b"", {}, 400, "empty"),
        (b"{", {}, 400, "not JSON"),
        (b"\x1f\x8b\x08\x00rubbish", {"content-encoding": "gzip"}, 400, "gzip"),
        (gzip.compress(b"{}" * 50, mtime=0)[:-9], {"content-encoding": "gzip"}, 400, "ends early"),
        (b"rubbish", {"content-encoding": "zstd"}, 400, "zstd"),
        (b"{}", {"content-encoding": "br"}, 415, "send gzip, zstd or none"),
        (b"{}", {"content-type": "text/plain; charset=utf-8"}, 415, "send application/json"),
        (b"{}", {"content-type": ""}, 415, "missing"),
        (b"{}", {}, 422, "does not say its version"),
        (b'{"schema_version":"2.0"}', {}, 422, "update this collector"),
        (body(host__hostname="x" * 999), {}, 422, "/host/hostname: is longer than 256: 999"),
        (b" " * 4_200_000, {}, 413, "longer than 4194304 bytes"),
        (gzip.compress(bytes(300_000_000), 1, mtime=0), {"content-encoding": "gzip"}, 413, "longer than"),
        (zstd(bytes(300_000_000)), {"content-encoding": "zstd"}, 413, "longer than"),
    ],
)
def test_refusals_are_problem_details(
    client: httpx.Client, content: bytes, headers: Mapping[str, str], status: int, words: str
):
    answer = client.post("/api/v1/reports", content=content, headers={**JSON, **headers})
    assert words in check_problem(answer, status)["detail"]


def test_schema_errors_come_with_pointers(client: httpx.Client):
    problem = check_problem(post(client, body(host__arch=7, complete="yes")), 422)
    assert {error["pointer"] for error in problem["errors"]} == {"/host/arch", "/complete"}


def test_a_bomb_in_a_batch_is_refused(store: Store, run_server: RunServer):
    settings = Settings(decoded_limit_bytes=10_000_000)
    bomb = zstd(b"\n" * 300_000_000)
    with run_server(create_app(store, settings)) as url:
        headers = {**NDJSON, "content-encoding": "zstd"}
        answer = httpx.post(f"{url}/api/v1/reports", content=bomb, headers=headers, timeout=20)
        assert "more than 20000 lines" in check_problem(answer, 413)["detail"]


def test_a_body_over_the_limit_is_refused_whether_declared_or_not(store: Store, run_server: RunServer):
    with run_server(create_app(store, Settings(body_limit_bytes=100_000))) as url:
        for content in (b" " * 100_001, iter([b" " * 50_000] * 3)):
            answer = httpx.post(f"{url}/api/v1/reports", content=content, headers=JSON)
            assert "larger than 100000 bytes" in check_problem(answer, 413)["detail"]


def test_a_batch_of_too_many_lines_is_refused_as_a_whole_and_may_be_sent_again(store: Store, run_server: RunServer):
    with run_server(create_app(store, Settings(batch_limit_lines=2))) as url:
        lines = [body() for _ in range(3)]
        check_problem(httpx.post(f"{url}/api/v1/reports", content=b"\n".join(lines), headers=NDJSON), 413)
        answer = httpx.post(f"{url}/api/v1/reports", content=b"\n".join(lines[:2]), headers=NDJSON)
        assert answer.status_code == 200


def test_a_body_that_does_not_come_ends_with_408(store: Store, run_server: RunServer):
    with run_server(create_app(store, Settings(body_timeout_s=0.2))) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as slow:
            slow.sendall(b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
            slow.sendall(b"Content-Length: 10\r\n\r\n{")
            assert slow.makefile("rb").readline().startswith(b"HTTP/1.1 408")


class FailingWriter:
    """A writer whose submissions end as told."""

    pending = 7

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def submit(self, _submissions: list[Submission]) -> "Future[list[str]]":
        if isinstance(self._error, Busy):
            raise self._error
        future: Future[list[str]] = Future()
        future.set_exception(self._error)
        return future

    def close(self) -> None: ...


@pytest.mark.parametrize("headers", [JSON, NDJSON], ids=["one", "batch"])
@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (Busy("5000 reports wait.", 5), 503, "5"),
        (DatabaseUnavailable("sqlite:////secret/place: disk is full", "Make room."), 503, "10"),
        (RuntimeError("secret\x1b[2J\nforged line"), 500, None),
    ],
)
def test_what_cannot_be_stored_is_not_acknowledged(
    store: Store,
    run_server: RunServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    headers: Mapping[str, str],
    error: Exception,
    status: int,
    retry_after: str | None,
):
    monkeypatch.setattr(collector, "Writer", lambda _store: FailingWriter(error))
    with run_server(create_app(store)) as url, caplog.at_level(logging.INFO):
        answer = httpx.post(f"{url}/api/v1/reports", content=body(), headers=dict(headers))
    check_problem(answer, status)
    assert answer.headers.get("retry-after") == retry_after
    assert "secret" not in answer.text
    if status != 503 or retry_after == "10":
        assert "secret" in caplog.text


def test_too_many_requests_at_once_are_asked_to_come_again(store: Store, run_server: RunServer):
    with run_server(create_app(store, Settings(concurrent_posts=1))) as url, ExitStack() as stack:
        host, port = url.removeprefix("http://").split(":")
        first = stack.enter_context(socket.create_connection((host, int(port)), timeout=20))
        first.sendall(b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        first.sendall(b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert first.recv(100).startswith(b"HTTP/1.1 100")  # it is being read now
        answer = httpx.post(f"{url}/api/v1/reports", content=body(), headers=JSON)
        check_problem(answer, 503)
        assert int(answer.headers["retry-after"]) >= 1
        first.sendall(b"{}")
        assert first.recv(1000).startswith(b"HTTP/1.1 422")


class TokenNeeded:
    """An authorizer of the simplest kind."""

    name = "somebody"

    async def sender(self, caller: Caller) -> Sender:
        if "authorization" not in caller.headers:
            raise Refused(401, "no token", "no_token")
        return self

    def accept(self, submission: Submission) -> Submission:
        if submission.report["glidein"]["entry"] != "Mine":
            raise Refused(403, f"the token is not for {submission.report['glidein']['entry']}", "other_entry")
        return submission

    async def reader(self, caller: Caller) -> None:
        if "authorization" not in caller.headers:
            raise Refused(401, "readers need a token, too", "no_token")


def test_an_authorizer_decides_who_sends_and_what(store: Store, run_server: RunServer):
    with run_server(create_app(store, authorizer=TokenNeeded())) as url:
        reports = f"{url}/api/v1/reports"
        token = {"authorization": "Bearer x"}
        refused = httpx.post(reports, content=body(glidein__entry="Mine"), headers=JSON)
        check_problem(refused, 401)
        assert refused.headers["www-authenticate"] == 'Bearer realm="site-db"'
        check_problem(httpx.post(reports, content=body(), headers={**JSON, **token}), 403)
        assert httpx.post(reports, content=body(glidein__entry="Mine"), headers={**JSON, **token}).status_code == 201
        batch = body() + b"\n" + body(glidein__entry="Mine")
        lines = httpx.post(reports, content=batch, headers={**NDJSON, **token}).content.splitlines()
        assert [orjson.loads(line)["status"] for line in lines] == ["rejected", "new"]
        check_problem(httpx.get(f"{url}/api/v1/sites"), 401)
        check_problem(httpx.get(f"{url}/"), 401)
        assert httpx.get(f"{url}/api/v1/sites", headers=token).status_code == 200


def test_the_open_authorizer_knows_no_strangers():
    stranger = Caller(Headers(), None)
    asyncio.run(OpenAuthorizer().reader(stranger))
    submission = Submission(sample_report(), b"{}", datetime.now(UTC))
    assert asyncio.run(OpenAuthorizer().sender(stranger)).accept(submission) is submission


def test_other_paths_and_methods_are_problems_too(client: httpx.Client):
    check_problem(client.get("/api/v2/reports"), 404)
    refused = client.get("/api/v1/reports")
    check_problem(refused, 405)
    assert refused.headers["allow"] == "POST"


@pytest.mark.parametrize("kind", ["sites", "entries", "nodes"])
def test_an_unknown_name_is_404_and_harmless(client: httpx.Client, kind: str):
    problem = check_problem(client.get(f"/api/v1/{kind}/nobody%1b%E2%80%AE"), 404)
    assert problem["type"].endswith("unknown_name")


def test_health_readiness_and_metrics_tell_the_truth(client: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    post(client, body())
    post(client, b"{")
    content = body()
    client.post("/api/v1/reports", content=content + b"\n" + content + b"\nx", headers=NDJSON)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    answer = client.get("/metrics")
    figures = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if line[0] != "#")
    assert answer.headers["content-type"].startswith("text/plain")
    assert figures["site_db_reports_received_total"] == "5.0"
    assert figures["site_db_reports_stored_total"] == "2.0"
    assert figures["site_db_reports_known_total"] == "1.0"
    assert figures['site_db_refused_total{reason="not_json",status="400"}'] == "2.0"
    assert figures['site_db_requests_total{path="/api/v1/reports",status="201"}'] == "1.0"
    assert float(figures["site_db_disk_free_bytes"]) > 0
    assert float(figures["process_resident_memory_bytes"]) > 0
    assert figures["site_db_queue_reports"] == "0.0"
    assert figures["site_db_commit_seconds_count"] == "2.0"

    def gone(_store: Store) -> None:
        raise DatabaseUnavailable("gone", "start it")

    monkeypatch.setattr(Store, "ping", gone)
    assert check_problem(client.get("/readyz"), 503)["type"].endswith("unavailable")


def test_the_description_is_valid_openapi_and_names_every_route(client: httpx.Client):
    document = client.get("/openapi.json").json()
    openapi_spec_validator.validate(document)
    assert document["openapi"] == "3.1.0"
    assert {"/api/v1/reports", "/api/v1/sites/{name}", "/healthz", "/metrics", "/"} <= document["paths"].keys()
    assert "$defs" not in str(document)
    assert document["paths"]["/api/v1/nodes"]["get"]["parameters"][0]["name"] == "after"


def test_a_stop_finishes_what_is_under_way(store: Store, run_server: RunServer):
    release = threading.Event()
    entered = threading.Event()
    add = Store.add

    class SlowStore(Store):
        def add(self, submissions: Sequence[Submission]) -> list[str]:
            entered.set()
            release.wait(20)
            return add(self, submissions)

    store.__class__ = SlowStore
    with ThreadPoolExecutor(1) as pool:
        with run_server(create_app(store)) as url:
            answer = pool.submit(httpx.post, f"{url}/api/v1/reports", content=body(), headers=JSON, timeout=20)
            assert entered.wait(20)
            threading.Timer(0.1, release.set).start()
        assert answer.result(20).status_code == 201
