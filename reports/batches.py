"""Bodies on their way to submissions: unpacked within bounds, cut into lines, each checked. Also in processes of their own."""

from collections.abc import Iterator
from datetime import timedelta
from typing import IO, NamedTuple

from reports import compression, quick_contract
from reports.authorization import Refused, Sender
from reports.contract import Problem
from reports.intake import Period, Rejected, check_date, utc_now, validate
from reports.problems import STATUS_OF_KIND, HttpProblem
from reports.reading import Line, lines
from reports.safe_text import printable
from reports.settings import Settings
from site_db.store import Submission

_CHUNK_LINES = 500
_CHUNK_BYTES = 8 * 1024 * 1024


class Checked(NamedTuple):
    """One line of a batch after validation: a submission, or the refusal."""

    number: int
    submission: Submission | None
    status: int
    reason: str
    problems: list[Problem]


class Bodies:
    """Reads bodies by the limits of a collector.

    `quickly`: what is plainly a report is parsed no further than it has to be; `report` of its submission then holds no more
    than `report_id`, `created_at` and `glidein`, for who stores the text (`raw`).
    """

    def __init__(self, settings: Settings, *, quickly: bool = False) -> None:
        self._settings = settings
        self._quickly = quickly
        past, future = timedelta(days=settings.report_age_limit_days), timedelta(seconds=settings.report_future_limit_s)
        self._period = Period(past, future)

    def decoded(self, body: IO[bytes], encoding: str) -> Iterator[bytes]:
        """The decoded body, ended by HttpProblem when it is broken or unfolds beyond the limit."""
        limit, size = self._settings.decoded_limit_bytes, 0
        try:
            for piece in compression.pieces(body, encoding):
                size += len(piece)
                if size > limit:
                    raise HttpProblem(413, f"the decompressed body is larger than {limit} bytes", "too_large")
                yield piece
        except compression.Damaged as error:
            raise HttpProblem(400, f"the body cannot be decompressed: {error}", "damaged") from error

    def lines(self, body: IO[bytes], encoding: str) -> Iterator[Line]:
        """The lines of a batch, blank ones too. Raises as decoded."""
        return lines(self.decoded(body, encoding), self._settings.report_limit_bytes)

    def next_chunk(self, rest: Iterator[Line], sender: Sender) -> list[Checked] | None:
        """The next lines, validated, without the blank ones; None at the end. Raises HttpProblem for too many."""
        chunk: list[Line] = []
        size = 0
        for line in rest:
            chunk.append(line)
            size += len(line.raw)
            if len(chunk) >= _CHUNK_LINES or size >= _CHUNK_BYTES:
                break
        limit = self._settings.batch_limit_lines
        if chunk and chunk[-1].number > limit:
            raise HttpProblem(413, f"more than {limit} lines in one batch; send the rest in another", "too_large")
        return [self._checked(line, sender) for line in chunk if line.raw.strip()] if chunk else None

    def quick(self, raw: bytes, sender: Sender) -> Submission | None:
        """The submission of what is plainly a report that this sender may send as it is; None for all else."""
        found = quick_contract.plain(raw) if self._quickly and len(raw) <= self._settings.report_limit_bytes else None
        if found is None:
            return None
        submission = Submission(found._asdict(), raw, utc_now())
        try:
            check_date(submission, self._period)
            # A sender who changes something has to see all of it.
            return submission if sender.accept(submission) is submission else None
        except (Refused, Rejected):
            return None

    def accepted(self, raw: bytes, sender: Sender) -> Submission:
        """The submission of one text. Raises Rejected, Refused."""
        return self.quick(raw, sender) or sender.accept(
            validate(raw, self._settings.report_limit_bytes, period=self._period)
        )

    def _checked(self, line: Line, sender: Sender) -> Checked:
        limit = self._settings.report_limit_bytes
        try:
            if line.size_bytes > limit:
                problem = Problem("", f"is {line.size_bytes} bytes long, at most {limit} are taken")
                raise Rejected("too_large", [problem])
            return Checked(line.number, self.accepted(line.raw, sender), 200, "", [])
        except Rejected as rejected:
            return Checked(line.number, None, STATUS_OF_KIND[rejected.kind], rejected.kind, rejected.problems)
        except Refused as refused:
            problem = Problem("", printable(str(refused)))
            return Checked(line.number, None, refused.status, refused.reason, [problem])
