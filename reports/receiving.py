"""`POST /api/v1/reports`: one report or a batch, durable before it is answered.

The body is first taken as it comes (beyond 1 MiB into a file without name), then decoded and validated in a thread,
chunk by chunk, and each chunk is committed before the next is read: a slow database slows its senders down.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from io import BytesIO
from typing import IO, Protocol

import orjson
from anyio.to_thread import run_sync
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from reports.authorization import Authorizer, Caller, Refused, Sender
from reports.awaiting import Awaiting
from reports.batches import Bodies, Checked
from reports.contract import Problem
from reports.disk import Disk
from reports.gate import Outcome
from reports.gate_child import LineResult, Work
from reports.intake import Rejected
from reports.metrics import Metrics
from reports.problems import HttpProblem
from reports.rates import Rates
from reports.reading import Line
from reports.safe_text import printable
from reports.settings import Settings
from reports.singles import Found
from site_db.errors import Busy, SiteDbError
from site_db.store import Submission

LOG = logging.getLogger("site_db.collector")
BATCH_TYPES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
SINGLE_TYPE = "application/json"
_ENCODINGS = {"": "identity", "identity": "identity", "gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
_IN_MEMORY_BYTES = 1024 * 1024
# Packed. Smaller ones are checked here, and their senders find them in the database at once.
_LARGE_BYTES = 64 * 1024


class Accepting(Protocol):
    """What takes submissions: site_db.writer.Writer."""

    @property
    def pending(self) -> int:
        """Reports that wait or are being stored."""

    def close(self) -> None:
        """Take nothing more, and store what waits."""

    def submit(self, submissions: list[Submission]) -> "Future[list[str]]":
        """A concurrent Future of "new" or "known" for each, done after the commit. Raises Busy."""


class Checking(Protocol):
    """What checks large batches and small reports, and keeps them: reports.gate.Gate."""

    def check(self, work: Work) -> Outcome:
        """Check a batch and make what is good of it durable. Blocks. Raises Busy, DatabaseUnavailable."""

    async def start(self) -> None:
        """Make ready for single reports."""

    async def found(self, work: Work) -> Found:
        """A single report's id with "new" or "known", None for what is not plainly a report. Raises Busy,
        DatabaseUnavailable."""

    async def stop(self) -> None:
        """Take no single reports any more."""


class Receiver:
    """Takes reports over HTTP. At most `settings.concurrent_posts` requests at a time; the rest are asked to retry."""

    def __init__(
        self,
        writer: Accepting,
        authorizer: Authorizer,
        settings: Settings,
        metrics: Metrics,
        disk: Disk,
        gate: Checking | None = None,
    ) -> None:
        self._writer = writer
        self._authorizer = authorizer
        self._settings = settings
        self._metrics = metrics
        self._disk = disk
        self._rates = Rates(settings.rate_per_s, settings.rate_burst)
        self._gate = gate
        self._awaiting = Awaiting()
        # With a gate reports are stored as the texts that came.
        self._bodies = Bodies(settings, quickly=gate is not None)
        self.present = 0

    async def post(self, request: Request) -> Response:
        """Answer one POST. Raises HttpProblem."""
        try:
            sender = await self._sender(request)
            self.present += 1
            try:
                return await self._post(request, sender)
            finally:
                self.present -= 1
        except HttpProblem as problem:
            self._metrics.refused.labels(str(problem.status), problem.kind).inc()
            client = request.client.host if request.client else None
            about = {"event": "refused", "status": problem.status, "reason": problem.kind, "client": client}
            LOG.info("refused %d to %s: %s", problem.status, client, problem.detail, extra={"about": about})
            raise

    async def _post(self, request: Request, sender: Sender) -> Response:
        self._check_room(sender)
        media_type = _media_type(request.headers)
        encoding = _encoding(request.headers)
        with _room_for(request.headers) as body:
            await self._take_body(request, body)
            size = body.tell()
            body.seek(0)
            if media_type == SINGLE_TYPE:
                self._metrics.received.inc()
                self._rates.charge(sender.name, 1)
                if self._gate and size <= _LARGE_BYTES:
                    if found := await self._kept(self._gate, Work(body.read(), encoding, sender)):
                        return _single_answer(*found)
                    body.seek(0)
                return await self._one(self._bodies.decoded(body, encoding), sender)
            if self._gate and size > _LARGE_BYTES:
                return await self._large_batch(self._gate, Work(body.read(), encoding, sender))
            return await self._batch(self._bodies.lines(body, encoding), sender)

    async def _sender(self, request: Request) -> Sender:
        try:
            return await self._authorizer.sender(caller_of(request))
        except Refused as refused:
            raise HttpProblem.of_refused(refused) from refused

    def _check_room(self, sender: Sender) -> None:
        """Refuse, before the body is read, what could not be taken."""
        if self.present > self._settings.concurrent_posts:
            raise HttpProblem.try_again("busy", "too many reports are arriving at once", 2)
        if self._disk.is_short:
            raise HttpProblem.try_again("disk", "there is too little free space to take reports", 60)
        if wait_s := self._rates.wait_s(sender.name):
            detail = f"this token has sent more than {self._settings.rate_per_s:g} reports a second for too long"
            raise HttpProblem.try_again("rate", detail, wait_s, status=429)

    async def _take_body(self, request: Request, body: IO[bytes]) -> None:
        limit = self._settings.body_limit_bytes
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared[:20]) > limit:
            raise _body_too_large(limit)
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                async for piece in request.stream():
                    body.write(piece)
                    if body.tell() > limit:
                        raise _body_too_large(limit)
        except TimeoutError as error:
            detail = f"the body did not arrive within {self._settings.body_timeout_s:g} s"
            raise HttpProblem(408, detail, "slow") from error
        except ClientDisconnect as error:
            raise HttpProblem(400, "the connection ended before the body did", "cut_short") from error
        except OSError as error:  # of the file that the body goes to: a full disk, above all
            LOG.error("a body cannot be kept: %s", error)
            raise HttpProblem.try_again("disk", "there is no room to take this body", 60) from error

    async def _one(self, decoded: Iterator[bytes], sender: Sender) -> Response:
        try:
            submission = await run_sync(self._validated, decoded, sender)
        except Rejected as rejected:
            raise HttpProblem.of_rejected(rejected) from rejected
        except Refused as refused:
            raise HttpProblem.of_refused(refused) from refused
        [status] = await self._stored([submission])
        return _single_answer(submission.report["report_id"], status)

    async def _kept(self, gate: Checking, work: Work) -> Found:
        began = time.monotonic()
        try:
            found = await gate.found(work)
        except SiteDbError as error:
            raise self._not_stored(error) from error
        if found:
            self._metrics.commit_seconds.observe(time.monotonic() - began)
            self._count([found[1]])
        return found

    def _validated(self, decoded: Iterator[bytes], sender: Sender) -> Submission:
        limit = self._settings.report_limit_bytes
        raw = bytearray()
        for piece in decoded:
            raw += piece
            if len(raw) > limit:
                break
        if len(raw) > limit:
            raise Rejected("too_large", [Problem("", f"is longer than {limit} bytes")])
        return self._bodies.accepted(bytes(raw), sender)

    async def _large_batch(self, gate: Checking, work: Work) -> Response:
        try:
            found = await run_sync(gate.check, work)
        except SiteDbError as error:
            raise self._not_stored(error) from error
        self._metrics.received.inc(len(found.lines))
        self._rates.charge(work.sender.name, len(found.lines))
        self._count(found.outcomes)
        if found.problem:
            raise found.problem
        rest = iter(found.outcomes)
        answers = [
            self._line_answer(line, line.report_id, next(rest) if line.report_id else "rejected")
            for line in found.lines
        ]
        return Response(b"".join(answers), 200, media_type=BATCH_TYPES[0])

    async def _batch(self, rest: Iterator[Line], sender: Sender) -> Response:
        answers: list[bytes] = []
        while (chunk := await run_sync(self._bodies.next_chunk, rest, sender)) is not None:
            self._rates.charge(sender.name, len(chunk))
            answers += await self._chunk_answers(chunk)
        return Response(b"".join(answers), 200, media_type=BATCH_TYPES[0])

    async def _chunk_answers(self, chunk: list[Checked]) -> list[bytes]:
        self._metrics.received.inc(len(chunk))
        submissions = [item.submission for item in chunk if item.submission]
        stored = iter(await self._stored(submissions) if submissions else [])
        return [
            self._line_answer(item, item.submission.report["report_id"], next(stored))
            if item.submission
            else self._line_answer(item, None, "rejected")
            for item in chunk
        ]

    def _line_answer(self, item: Checked | LineResult, report_id: str | None, status: str) -> bytes:
        if report_id is None:
            self._metrics.refused.labels(str(item.status), item.reason).inc()
        answer = {
            "line": item.number,
            "report_id": report_id,
            "status": status,
            "problems": [problem._asdict() for problem in item.problems],
        }
        return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)

    async def _stored(self, submissions: list[Submission]) -> list[str]:
        began = time.monotonic()
        try:
            outcomes: list[str] = await self._awaiting.result(self._writer.submit(submissions))
        except SiteDbError as error:
            raise self._not_stored(error) from error
        self._metrics.commit_seconds.observe(time.monotonic() - began)
        self._count(outcomes)
        return outcomes

    def _not_stored(self, error: SiteDbError) -> HttpProblem:
        if isinstance(error, Busy):
            return HttpProblem.try_again("busy", str(error), error.retry_after_s)
        LOG.error("not stored: %s", error)
        detail = "the report could not be stored; nothing was acknowledged, send it again later"
        return HttpProblem.try_again("unavailable", detail, self._settings.retry_after_s)

    def _count(self, outcomes: list[str]) -> None:
        self._metrics.last_commit.set_to_current_time()
        new = outcomes.count("new")
        self._metrics.stored.inc(new)
        if known := len(outcomes) - new:
            self._metrics.known.inc(known)


def _room_for(headers: Mapping[str, str]) -> IO[bytes]:
    """Where a body is kept: in memory, or in a file without name for one that is large or does not say how large it is."""
    declared = headers.get("content-length", "")
    # h11 goes by the transfer coding where both are there, and the length says nothing.
    is_told = "transfer-encoding" not in headers and len(declared) < 9 and declared.isdecimal()
    is_small = is_told and int(declared) <= _IN_MEMORY_BYTES
    return BytesIO() if is_small else tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)


def caller_of(request: Request) -> Caller:
    """What an Authorizer looks at."""
    return Caller(request.headers, request.client.host if request.client else None)


def _media_type(headers: Mapping[str, str]) -> str:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == SINGLE_TYPE or media_type in BATCH_TYPES:
        return media_type
    said = f'"{printable(media_type)}"' if media_type else "missing"
    accepted = {"Accept-Post": f"{SINGLE_TYPE}, {BATCH_TYPES[0]}"}
    detail = f"the Content-Type is {said}; send {SINGLE_TYPE} for one report, {BATCH_TYPES[0]} for many"
    raise HttpProblem(415, detail, "media_type", headers=accepted)


def _encoding(headers: Mapping[str, str]) -> str:
    said = headers.get("content-encoding", "").strip().lower()
    if said in _ENCODINGS:
        return _ENCODINGS[said]
    detail = f'the Content-Encoding is "{printable(said)}"; send gzip, zstd or none'
    raise HttpProblem(415, detail, "media_type", headers={"Accept-Encoding": "gzip, zstd"})


def _body_too_large(limit: int) -> HttpProblem:
    return HttpProblem(413, f"the body is larger than {limit} bytes; send smaller batches", "too_large")


def _single_answer(report_id: str, status: str) -> Response:
    answer = orjson.dumps({"report_id": report_id, "status": status})
    return Response(answer, 201 if status == "new" else 200, media_type="application/json")
