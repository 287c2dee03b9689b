"""A collector with an inbox: large batches are checked in other processes, and answered as small ones are."""

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
import pytest
import zstandard
from sqlalchemy import func, select

from reports import child, compression
from reports.authorization import Caller, OpenAuthorizer, Sender
from reports.collector import create_app
from reports.gate import Gate
from reports.gate_child import Work
from reports.intake import validate
from reports.receiving import _room_for
from reports.settings import Settings
from reports.tokens.grants import ANY, Grant, Identity, Names
from reports.writing import empty_inbox, inbox_beside, writing
from site_db import tables
from site_db.errors import Busy, DatabaseUnavailable
from site_db.inbox import Inbox
from site_db.known_reports import known_reports
from site_db.segments import Frame
from site_db.store import Store
from site_db.store_process import StoreProcess
from tests.probe.in_a_child import wait_for
from tests.reports.conftest import RunServer
from tests.sample_reports import sample_report

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = Settings(batch_limit_lines=300)
NDJSON = {"content-type": "application/x-ndjson"}


class WithEntry(OpenAuthorizer):
    """Everybody has a token for the entry E at the site S."""

    async def sender(self, _caller: Caller) -> Identity:
        return Identity("somebody", (Grant(ANY, Names.only("E"), Names.only("S")),))


def report(**changes: object) -> dict[str, Any]:
    made = {"created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "report_id": str(uuid.uuid4()), **changes}
    return sample_report(**made)


def padded(lines: list[bytes]) -> bytes:
    """NDJSON that is large as it is sent: blank lines are nothing."""
    return b"\n".join(lines) + b"\n" + b" " * 70_000


@pytest.fixture
def collector(store: Store, tmp_path: Path, run_server: RunServer) -> Iterator[tuple[httpx.Client, Gate]]:
    with writing(store, f"sqlite:///{tmp_path / 'site.db'}", SETTINGS) as (writer, gate):
        assert gate
        app = create_app(store, SETTINGS, writer=writer, gate=gate)
        with run_server(app) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield client, gate


JSON = {"content-type": "application/json"}
GZIPPED = {**JSON, "content-encoding": "gzip"}


def stored(store: Store) -> int:
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(tables.reports)) or 0


def send(client: httpx.Client, body: bytes, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/api/v1/reports", content=body, headers={**NDJSON, **named})


def test_a_single_report_is_there_for_who_asks_next(collector: tuple[httpx.Client, Gate]):
    client, _ = collector
    one = report(glidein__entry="Entry_1", glidein__site="Site_1")
    for status, word in ((201, "new"), (200, "known")):
        answer = client.post("/api/v1/reports", content=orjson.dumps(one), headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["status"]) == (status, word)
        assert client.get("/api/v1/entries/Entry_1").status_code == 200


def test_what_an_inbox_holds_is_not_left_behind_by_a_queue(tmp_path: Path):
    class Away:
        place = "a database that is away"

        def record(self, _group: Sequence[Frame]) -> None:
            raise DatabaseUnavailable("away", "")

    url = f"sqlite:///{tmp_path / 'site.db'}"
    with closing(Store.open(url)) as store:
        folder = inbox_beside(store)
        assert folder
        inbox = Inbox(folder, Away(), lambda _ids: set())
        one = validate(orjson.dumps(report()))
        assert inbox.submit([one]).result(20) == ["new"]
        empty_inbox(store, url, SETTINGS)  # somebody else is at work: left to them
        assert known_reports(store, [uuid.UUID(one.report["report_id"]).bytes]) == set()
        inbox.close()
        empty_inbox(store, url, SETTINGS)
        assert known_reports(store, [uuid.UUID(one.report["report_id"]).bytes])
        assert not list(folder.glob("*.reports"))


def test_many_single_reports_are_answered_each_for_itself(collector: tuple[httpx.Client, Gate], store: Store):
    """At once, so that they go together: new, sent again, with an escape (looked at in full), and no report."""
    client, gate = collector
    good = [orjson.dumps(report()) for _ in range(30)]
    escaped = orjson.dumps(report(report_id=str(uuid.uuid4()))).replace(b'"host":', b'"\\u0068ost":')
    assert b"\\u0068" in escaped
    bodies = [*good, good[0], escaped, b'{"report_id": 1}']
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(
            pool.map(lambda body: client.post("/api/v1/reports", content=gzip.compress(body), headers=GZIPPED), bodies)
        )
    ids = [answer.json()["report_id"] for answer in answers[:-1]]
    assert ids == [orjson.loads(body)["report_id"] for body in bodies[:-1]]
    assert sorted([answers[0].status_code, answers[30].status_code]) == [200, 201]
    assert {answer.status_code for answer in [*answers[1:30], answers[31]]} == {201}
    assert (answers[-1].status_code, answers[-1].json()["type"].rpartition(":")[2]) == (422, "version")
    assert gate.pids
    wait_for(lambda: stored(store) == 31)


def test_a_single_report_waits_for_no_child_that_died(collector: tuple[httpx.Client, Gate], store: Store):
    client, gate = collector
    first, second = orjson.dumps(report()), orjson.dumps(report())
    assert client.post("/api/v1/reports", content=first, headers=JSON).status_code == 201
    for pid in gate.pids:
        os.kill(pid, signal.SIGKILL)
    answers = [client.post("/api/v1/reports", content=second, headers=JSON) for _ in range(2)]
    if answers[0].status_code == 503:  # the collector did not know yet
        assert answers[0].headers["retry-after"]
        del answers[0]
    assert answers[0].status_code == 201
    assert stored(store) == 2


def test_a_child_that_does_not_answer_is_given_up(
    collector: tuple[httpx.Client, Gate], store: Store, monkeypatch: pytest.MonkeyPatch
):
    client, gate = collector
    assert client.post("/api/v1/reports", content=orjson.dumps(report()), headers=JSON).status_code == 201
    monkeypatch.setattr(child, "ANSWER_LIMIT_S", 0.5)
    for pid in gate.pids:
        os.kill(pid, signal.SIGSTOP)
    second = orjson.dumps(report())
    assert client.post("/api/v1/reports", content=second, headers=JSON).status_code == 503
    monkeypatch.setattr(child, "ANSWER_LIMIT_S", 60.0)
    assert client.post("/api/v1/reports", content=second, headers=JSON).status_code == 201
    assert stored(store) == 2
    assert 'site_db_posts 0.0' in client.get("/metrics").text


def test_a_child_that_does_not_end_is_killed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "ENDING_S", 0.5)
    sender = asyncio.run(OpenAuthorizer().sender(Caller({}, None)))
    with (
        closing(StoreProcess(f"sqlite:///{tmp_path / 'site.db'}", store.place)) as stores,
        closing(Inbox(tmp_path / "inbox", stores, partial(known_reports, store))) as inbox,
    ):
        gate = Gate(inbox, SETTINGS, f"sqlite:///{tmp_path / 'site.db'}", children=1)
        assert gate.check(Work(orjson.dumps(report()), "identity", sender)).outcomes == ["new"]
        [pid] = gate.pids
        os.kill(pid, signal.SIGSTOP)
        gate.close()
    assert not Path(f"/proc/{pid}").exists()


class Unsendable(OpenAuthorizer):
    """Senders of which the second cannot be put into a message."""

    def __init__(self) -> None:
        self.asked = 0

    async def sender(self, caller: Caller) -> Sender:
        self.asked += 1
        found = await super().sender(caller)
        if self.asked != 2:
            return found

        class Local(type(found)):  # type: ignore[misc]  # pickle finds no class of a function
            pass

        return cast("Sender", Local())


def test_what_cannot_be_sent_to_a_child_concerns_nobody_else(store: Store, tmp_path: Path, run_server: RunServer):
    with writing(store, f"sqlite:///{tmp_path / 'site.db'}", SETTINGS) as (writer, gate):
        app = create_app(store, SETTINGS, Unsendable(), writer=writer, gate=gate)
        with run_server(app) as url:
            made = [report() for _ in range(4)]
            answers = [httpx.post(f"{url}/api/v1/reports", content=orjson.dumps(one), headers=JSON) for one in made]
    assert [answer.status_code for answer in answers] == [201, 500, 201, 201]
    assert [answer.json().get("report_id") for answer in answers[2:]] == [one["report_id"] for one in made[2:]]


def test_who_comes_after_the_stop_is_asked_to_come_again(store: Store, tmp_path: Path):
    with writing(store, f"sqlite:///{tmp_path / 'site.db'}", SETTINGS) as (_, gate):
        assert gate

        async def asked() -> None:
            assert gate
            work = Work(orjson.dumps(report()), "identity", await OpenAuthorizer().sender(Caller({}, None)))
            found = await gate.found(work)
            assert found
            assert found[1] == "new"
            await gate.stop()
            with pytest.raises(Busy):
                await gate.found(work)

        asyncio.run(asked())


def test_a_length_that_does_not_count_says_nothing_of_the_room():
    small = {"content-length": "100"}
    assert isinstance(_room_for(small), BytesIO)
    for headers in (
        {}, {"content-length": "2000000"}, {"content-length": "1" * 5000}, {"content-length": "-1"},
        {**small, "transfer-encoding": "chunked"},
    ):  # fmt: skip
        with _room_for(headers) as room:
            assert not isinstance(room, BytesIO)


def zstd(body: bytes, **options: Any) -> bytes:  # noqa: ANN401 - zstandard's
    return zstandard.ZstdCompressor(**options).compress(body)


SMALL = b"x" * 1000
FULL = b"x" * compression.PIECE_BYTES


BODIES = {
    "as it is": ("identity", SMALL, SMALL),
    "as it is, too large": ("identity", FULL + b"x", None),
    "gzip": ("gzip", gzip.compress(SMALL), SMALL),
    "gzip of all that is allowed": ("gzip", gzip.compress(FULL), FULL),
    "gzip of more": ("gzip", gzip.compress(FULL + b"x"), None),
    "gzip torn": ("gzip", gzip.compress(SMALL)[:-1], None),
    "gzip twice": ("gzip", gzip.compress(SMALL) * 2, None),
    "no gzip": ("gzip", b"no gzip", None),
    "empty gzip": ("gzip", b"", None),
    "zstd": ("zstd", zstd(SMALL), SMALL),
    "zstd of all that is allowed": ("zstd", zstd(FULL), FULL),
    "zstd of more": ("zstd", zstd(FULL + b"x"), None),
    "zstd of untold size": ("zstd", zstd(SMALL, write_content_size=False), None),
    "zstd torn": ("zstd", zstd(SMALL)[:-1], None),
    "zstd twice": ("zstd", zstd(SMALL) * 2, None),
    "no zstd": ("zstd", b"no zstd", None),
    "empty zstd": ("zstd", b"", None),
}


@pytest.mark.parametrize(("encoding", "body", "expected"), BODIES.values(), ids=BODIES.keys())
def test_only_what_is_plainly_small_is_unfolded_at_once(encoding: str, body: bytes, expected: bytes | None):
    assert compression.small(body, encoding) == expected


def test_a_large_batch_is_answered_line_by_line(collector: tuple[httpx.Client, Gate]):
    client, _ = collector
    good = [orjson.dumps(report()) for _ in range(5)]
    old = orjson.dumps(report(created_at="2020-01-01T00:00:00Z"))
    written_otherwise = json.dumps(report(glidein__site="Zürich\u2028"), indent=None).encode()
    answer = send(client, padded([*good, b"", b"{", old, good[0], written_otherwise]))
    assert answer.status_code == 200
    found = [orjson.loads(line) for line in answer.content.splitlines()]
    assert [(line["line"], line["status"]) for line in found] == [
        *((number, "new") for number in range(1, 6)), (7, "rejected"), (8, "rejected"), (9, "known"), (10, "new"),
    ]  # fmt: skip
    assert [line["problems"][0]["pointer"] for line in found[5:7]] == ["", "/created_at"]
    assert found[0]["report_id"] == orjson.loads(good[0])["report_id"]
    assert send(client, padded(good)).text.count('"known"') == 5
    metrics = client.get("/metrics").text
    assert "site_db_reports_stored_total 6.0" in metrics
    assert 'site_db_refused_total{reason="date",status="422"} 1.0' in metrics


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_large_batch_may_be_packed(collector: tuple[httpx.Client, Gate], encoding: str):
    client, _ = collector
    body = b"\n".join([orjson.dumps(report()), os.urandom(100_000).replace(b"\n", b"")])
    packed = gzip.compress(body) if encoding == "gzip" else zstandard.ZstdCompressor().compress(body)
    assert [orjson.loads(line)["status"] for line in send(client, packed, content_encoding=encoding).content.splitlines()] == [
        "new", "rejected",
    ]  # fmt: skip


def test_a_large_batch_that_cannot_be_taken_is_a_problem(collector: tuple[httpx.Client, Gate]):
    client, _ = collector
    damaged = send(client, os.urandom(70_000), content_encoding="gzip")
    assert (damaged.status_code, damaged.json()["type"].rpartition(":")[2]) == (400, "damaged")
    too_many = send(client, padded([b"{}"] * 301))
    assert (too_many.status_code, too_many.json()["type"].rpartition(":")[2]) == (413, "too_large")


def test_a_child_that_dies_is_started_anew(collector: tuple[httpx.Client, Gate]):
    client, gate = collector
    lines = [orjson.dumps(report())]
    assert send(client, padded(lines)).status_code == 200
    for pid in gate.pids:
        os.kill(pid, signal.SIGKILL)
    answers = [send(client, padded(lines)) for _ in range(3)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert all(answer.status_code == 503 and answer.headers["retry-after"] for answer in refused)
    assert answers[-1].status_code == 200
    assert '"known"' in answers[-1].text


def test_a_batch_that_fills_a_segment_is_stored_whole(store: Store, tmp_path: Path):
    """Its first lines end a segment of which all else is in the database already: that must not go with them."""
    settings = Settings(batch_limit_lines=3000)
    sender = asyncio.run(OpenAuthorizer().sender(Caller({}, None)))
    sent = 0
    with (
        closing(StoreProcess(f"sqlite:///{tmp_path / 'site.db'}", store.place)) as stores,
        closing(Inbox(tmp_path / "inbox", stores, partial(known_reports, store))) as inbox,
        closing(Gate(inbox, settings, f"sqlite:///{tmp_path / 'site.db'}", children=1, segment_bytes=9000)) as gate,
    ):
        for count in (1, 1100):
            lines = [orjson.dumps(report()) for _ in range(count)]
            assert set(gate.check(Work(b"\n".join(lines), "identity", sender)).outcomes) == {"new"}
            sent += count
            wait_for(lambda: inbox.pending == 0, 60)
            with store.reading() as connection:
                assert connection.scalar(select(func.count()).select_from(tables.reports)) == sent
    assert [path.name for path in (tmp_path / "inbox").iterdir()] == ["lock"]


def test_names_that_a_token_fills_in_are_stored(store: Store, tmp_path: Path, run_server: RunServer):
    with writing(store, f"sqlite:///{tmp_path / 'site.db'}", SETTINGS) as (writer, gate):
        app = create_app(store, SETTINGS, WithEntry(), writer=writer, gate=gate)
        nameless = report(glidein__entry=None, glidein__site=None)
        with run_server(app) as url, httpx.Client(base_url=url, timeout=60) as client:
            answer = send(client, padded([orjson.dumps(nameless), orjson.dumps(report(glidein__entry="other"))]))
    assert [orjson.loads(line)["status"] for line in answer.content.splitlines()] == ["new", "rejected"]
    raw = store.raw_report(uuid.UUID(nameless["report_id"]).bytes)
    assert raw
    assert orjson.loads(raw) == {**nameless, "glidein": {**nameless["glidein"], "entry": "E", "site": "S"}}


def test_only_a_file_has_an_inbox_beside_it(store: Store, tmp_path: Path):
    assert inbox_beside(store) == tmp_path / "site.db.inbox"


def test_the_bench_measures_a_real_server():
    command = [sys.executable, str(ROOT / "scripts/bench-collector"), "--phases", "single,batch", "--seconds", "0.5"]
    options = ["--connections", "4", "--most-batches", "2", "--lines", "50", "--format", "json"]
    done = subprocess.run([*command, *options], capture_output=True, timeout=120, check=False)
    assert done.returncode in (0, 1), done.stderr.decode()
    figures = {figure["name"]: figure for figure in json.loads(done.stdout)["figures"]}
    assert figures["reports in batches acknowledged"]["value"] > 0
    share = figures["share of those without storing, median"]
    assert 0 < share["value"] < 2
    assert share["kept"] == (share["value"] >= 0.5)
