"""What one client can take from a collector: time, connections, memory, room and rate all have an end."""

import gzip
import itertools
import logging
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import orjson
import pytest
import zstandard
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reports.authorization import Anyone, Caller
from reports.collector import create_app
from reports.disk import Disk
from reports.logs import Budget, JsonFormatter
from reports.metrics import Metrics
from reports.rates import Rates
from reports.settings import Settings
from site_db.store import Store
from tests.reports.conftest import RunServer
from tests.reports.test_collector import JSON, NDJSON, body, check_problem
from tests.sample_reports import sample_report


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One database for all: no test here counts what is in it."""
    opened = Store.open(f"sqlite:///{tmp_path_factory.mktemp('limits') / 'site.db'}")
    yield opened
    opened.close()


@contextmanager
def connected(url: str, receive_bytes: int = 0) -> Iterator[socket.socket]:
    """A bare connection to a collector; `receive_bytes` makes its window small."""
    host, port = url.removeprefix("http://").split(":")
    with socket.socket() as client:
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(20)
        client.connect((host, int(port)))
        yield client


def dribble_until_end(client: socket.socket, pieces: Iterator[bytes], limit_s: float = 10) -> bytes:
    """Send a piece now and then until the server ends the connection; everything that it said."""
    client.settimeout(0.02)
    said = b""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            client.sendall(next(pieces, b""))
            piece = client.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            return said
        if not piece:
            return said
        said += piece
    raise AssertionError("the server did not end the connection")


# --- slow clients ---


@pytest.mark.parametrize(
    "opening",
    [b"", b"GET / HTTP/1.1\r\nX: ", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nX: "],
    ids=["from the first byte", "in the headers", "in the second request"],
)
def test_headers_that_come_byte_by_byte_end_with_408(store: Store, run_server: RunServer, opening: bytes):
    with run_server(create_app(store, Settings(header_timeout_s=0.3))) as url, connected(url) as client:
        client.sendall(opening)
        began = time.monotonic()
        said = dribble_until_end(client, itertools.repeat(b"x"))
        assert time.monotonic() - began < 5
        assert b"HTTP/1.1 408 " in said
        assert b"application/problem+json" in said
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_body_that_nobody_asked_for_does_not_hold_the_connection(store: Store, run_server: RunServer):
    with run_server(create_app(store, Settings(header_timeout_s=0.3))) as url, connected(url) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert b"200 OK" in dribble_until_end(client, itertools.repeat(b"x"))


def test_a_request_that_takes_too_long_is_cut(store: Store, run_server: RunServer):
    with run_server(create_app(store, Settings(request_timeout_s=0.3))) as url, connected(url) as client:
        client.sendall(b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        client.sendall(b"Content-Length: 100000\r\n\r\n")
        dribble_until_end(client, itertools.repeat(b" "))
        assert 'site_db_refused_total{reason="slow",status="408"} 1.0' in httpx.get(f"{url}/metrics").text


def test_a_client_that_does_not_take_its_answer_is_cut(run_server: RunServer):
    async def answer_at_length(_request: Request) -> Response:
        return Response(bytes(50_000_000))

    app = Starlette(routes=[Route("/", answer_at_length)])
    app.state.settings, app.state.metrics = Settings(request_timeout_s=0.3), Metrics()
    with run_server(app) as url, connected(url, 4096) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        refused = app.state.metrics.refused.labels("408", "slow")
        end = time.monotonic() + 20
        while refused._value.get() == 0:
            assert time.monotonic() < end
            time.sleep(0.02)


# --- connections ---


def test_connections_beyond_the_limit_are_told_so_and_far_beyond_it_ended(store: Store, run_server: RunServer):
    with run_server(create_app(store, Settings(connections=2))) as url, ExitStack() as stack:
        clients = [stack.enter_context(connected(url)) for _ in range(4)]
        time.sleep(0.1)
        clients[2].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        said = clients[2].makefile("rb").read()
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in said.lower()
        assert b"problem:connections" in said
        [_, beyond] = [stack.enter_context(connected(url)) for _ in range(2)]
        assert dribble_until_end(beyond, iter([])) in (b"", said)
        clients[0].sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert clients[0].recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nX",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 70_000,
        b"POST /api/v1/reports HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["tls", "no request", "negative", "two hosts", "two lengths", "huge", "bad chunk", "bad chunk after head"],
)
def test_what_is_no_http_is_answered_with_a_problem_or_ended(
    store: Store, run_server: RunServer, caplog: pytest.LogCaptureFixture, sent: bytes
):
    with run_server(create_app(store, Settings(header_timeout_s=1))) as url, connected(url) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        said = dribble_until_end(client, iter([]))
        assert not said or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 200"))
        assert b"text/plain" not in said
        assert httpx.get(f"{url}/healthz").status_code == 200
    assert "Traceback" not in caplog.text


# --- room ---


def test_a_full_disk_refuses_reports_before_they_are_read(store: Store, run_server: RunServer, tmp_path: Path):
    free = [100]
    disk = Disk([tmp_path], 1000, lambda _folder: free[0])
    with run_server(create_app(store, disk=disk)) as url:
        answer = httpx.post(f"{url}/api/v1/reports", content=body(), headers=JSON)
        assert check_problem(answer, 503)["type"].endswith(":disk")
        assert answer.headers["retry-after"] == "60"
        assert check_problem(httpx.get(f"{url}/readyz"), 503)["type"].endswith(":disk")
        free[0] = 2000
        disk._looked_at = float("-inf")
        assert httpx.post(f"{url}/api/v1/reports", content=body(), headers=JSON).status_code == 201
        assert httpx.get(f"{url}/readyz").status_code == 200


def test_the_fullest_folder_counts_and_a_lost_one_is_full(tmp_path: Path):
    assert Disk([tmp_path], 1).free_bytes > 0
    assert Disk([tmp_path, tmp_path / "gone"], 1).is_short
    assert not Disk([tmp_path / "gone"], 0).is_short


def test_a_body_that_cannot_be_kept_is_asked_for_later(
    store: Store, run_server: RunServer, monkeypatch: pytest.MonkeyPatch
):
    class Full(tempfile.SpooledTemporaryFile):  # type: ignore[type-arg]  # of bytes
        def write(self, _data: object) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", Full)
    with run_server(create_app(store)) as url:
        # Of a length that nobody told: what is small is not put into a file.
        answer = httpx.post(f"{url}/api/v1/reports", content=iter([body()]), headers=JSON)
    assert check_problem(answer, 503)["type"].endswith(":disk")


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", lambda: gzip.compress(b"[" * 100_000_000, 1)),
        ("zstd", lambda: zstandard.ZstdCompressor().compress(b"\n" * 300_000_000)),
    ],
    ids=["gzip", "zstd"],
)
def test_a_bomb_costs_no_memory(client: httpx.Client, encoding: str, bomb: Callable[[], bytes]):
    content = bomb()

    def resident() -> float:
        text = client.get("/metrics").text
        return float(next(line for line in text.splitlines() if line.startswith("process_resident")).split()[1])

    before = resident()
    for kind in (JSON, NDJSON):
        answer = client.post("/api/v1/reports", content=content, headers={**kind, "content-encoding": encoding})
        assert answer.status_code in (200, 413)
    assert resident() - before < 60_000_000


# --- dates ---


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (timedelta(days=-91), "91 days ago"),
        (timedelta(days=1, minutes=5), "in the future"),
        (timedelta(days=900_000), "in"),
    ],
)
def test_a_report_from_another_time_is_refused(store: Store, run_server: RunServer, offset: timedelta, words: str):
    made = (datetime.now(UTC) + offset).strftime("%Y-%m-%dT%H:%M:%SZ")
    content = orjson.dumps(sample_report(created_at=made))
    with run_server(create_app(store)) as url:
        problem = check_problem(httpx.post(f"{url}/api/v1/reports", content=content, headers=JSON), 422)
        assert problem["type"].endswith(":date")
        assert problem["errors"][0]["pointer"] == "/created_at"
        assert words in problem["errors"][0]["detail"]
        batch = httpx.post(f"{url}/api/v1/reports", content=content + b"\n" + body(), headers=NDJSON)
        assert [orjson.loads(line)["status"] for line in batch.content.splitlines()] == ["rejected", "new"]


@pytest.mark.parametrize("offset", [timedelta(days=-89), timedelta(hours=23)])
def test_a_spooled_report_and_a_wrong_clock_are_taken(store: Store, run_server: RunServer, offset: timedelta):
    made = (datetime.now(UTC) + offset).strftime("%Y-%m-%dT%H:%M:%SZ")
    with run_server(create_app(store)) as url:
        assert httpx.post(f"{url}/api/v1/reports", content=body(created_at=made), headers=JSON).status_code == 201


# --- rate ---


class Named(Anyone):
    """An authorizer whose senders are called as their User-Agent."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    async def sender(self, caller: Caller) -> "Named":
        return Named(caller.headers["user-agent"])

    async def reader(self, caller: Caller) -> None: ...


def test_a_token_that_sends_too_fast_is_asked_to_wait(store: Store, run_server: RunServer):
    settings = Settings(rate_per_s=0.1, rate_burst=3)
    with run_server(create_app(store, settings, Named())) as url:

        def send(content: bytes, name: str = "a", kind: dict[str, str] = JSON) -> httpx.Response:
            return httpx.post(f"{url}/api/v1/reports", content=content, headers={**kind, "user-agent": name})

        assert [send(body()).status_code for _ in range(4)] == [201, 201, 201, 429]
        answer = send(body())
        assert check_problem(answer, 429)["type"].endswith(":rate")
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert send(body(), "b").status_code == 201
        assert send(b"\n".join(body() for _ in range(9)), "c", NDJSON).status_code == 200
        answer = send(body(), "c")
        assert check_problem(answer, 429)
        assert 60 <= int(answer.headers["retry-after"]) <= 70
        assert 'site_db_refused_total{reason="rate",status="429"} 3.0' in httpx.get(f"{url}/metrics").text


def test_the_bucket_fills_again_and_forgets_the_oldest():
    now = [0.0]
    rates = Rates(per_s=2, burst=4, clock=lambda: now[0])
    rates.charge("a", 10)
    assert rates.wait_s("a") == 3.5
    now[0] += 3.5
    assert rates.wait_s("a") == 0
    now[0] += 1000
    rates.charge("a", 4)
    assert rates.wait_s("a") > 0
    for number in range(20_000):
        rates.charge(str(number), 1)
    assert len(rates._left) == 20_000
    rates.charge("", 1000)
    assert rates.wait_s("") == 0
    assert Rates(0, 1).wait_s("a") == 0


# --- logs ---


def record(message: str, *values: object, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("site_db.x", level, "", 0, message, values, None)


def test_a_flood_of_refusals_fills_no_disk():
    now = [0.0]
    budget = Budget(lambda: now[0])
    assert sum(budget.filter(record("refused %s", number)) for number in range(10_000)) == 50
    assert sum(budget.filter(record("other %s", number)) for number in range(10)) == 10
    assert all(budget.filter(record("broken", level=logging.ERROR)) for _ in range(1000))
    now[0] += 1
    late = record("refused %s", "late")
    assert budget.filter(late)
    assert '"held_back":9950' in JsonFormatter().format(late)
    for number in range(1000):
        budget.filter(record(f"kind {number}"))
    assert len(budget._left) == 200


def test_a_json_record_is_one_line_without_tokens():
    token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJGIn0.c2lnbmF0dXJl"
    hostile = record(f"from %s Bearer {token} \x1b[2J\u202e\n{{}}", f"\r{token}")
    hostile.about = {"event": "refused", "status": 401}
    line = JsonFormatter().format(hostile)
    assert line.isprintable()
    members = orjson.loads(line)
    assert members["message"] == "from \\r[token] [token] \\x1b[2J\\u202e\\n{}"
    assert {"level": "INFO", "event": "refused", "status": 401}.items() <= members.items()
    assert datetime.fromisoformat(members["time"]).tzinfo is not None


def test_a_failure_is_logged_with_its_trace_in_one_line():
    try:
        raise ValueError("secret-looking Bearer abcdefghijkl")
    except ValueError as error:
        failed = logging.LogRecord(
            "site_db.x", logging.ERROR, "", 0, "failed", (), (type(error), error, error.__traceback__)
        )
    members = orjson.loads(JsonFormatter().format(failed))
    assert members["traceback"][-1] == "ValueError: secret-looking [token]"
