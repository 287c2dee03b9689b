"""The one gate of a report: from bytes of any origin to a Submission, or Rejected with the reasons.

Decisions taken here, beyond the schema's:

- A member given twice in one object is refused: two readers would disagree about which one counts.
- NaN, infinities, lone surrogates, a byte order mark and more than 1024 levels are refused by the parser (orjson).
- NUL in a text is refused: PostgreSQL cannot store it.
- An integer beyond 64 bits becomes a floating point number; the schema bounds every number but those in `evidence`.
- `created_at` must be a moment that exists.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import orjson

from reports import contract
from reports.contract import Problem, value_text
from reports.safe_text import shorten
from site_db.store import Submission

REPORT_LIMIT_BYTES = 4 * 1024 * 1024
# What to do about each kind of refusal.
REMEDIES = {
    "not_json": "send one whole JSON document in UTF-8; a report that was cut short must be sent again by its probe",
    "too_large": "run the probe with fewer images or repositories, or raise the limit of this collector",
    "version": "use the same version of singularity-probe and site-db",
    "schema": "use an unchanged singularity-probe; reports/schema/report-1.0.json says what a report is",
    "date": "set the node's clock; store old reports with `site-db ingest`, which takes them at any age",
}


class Rejected(Exception):
    """Bytes that are not a report, with the kind (a key of REMEDIES) and at least one problem."""

    def __init__(self, kind: str, problems: list[Problem]) -> None:
        super().__init__("; ".join(f"{problem.pointer or 'report'}: {problem.detail}" for problem in problems))
        self.kind = kind
        self.problems = problems

    @property
    def remedy(self) -> str:
        """What the sender can do about it."""
        return REMEDIES[self.kind]


def utc_now() -> datetime:
    """The present moment, UTC and aware."""
    return datetime.now(UTC)


class Period(NamedTuple):
    """When a report may have been made, seen from the moment it comes."""

    past: timedelta
    future: timedelta


def validate(
    raw: bytes,
    limit_bytes: int = REPORT_LIMIT_BYTES,
    now: Callable[[], datetime] = utc_now,
    period: Period | None = None,
) -> Submission:
    """The Submission of one JSON text. Raises Rejected, and nothing else, for whatever else the bytes may be.

    Without `period` a report may be of any age.
    """
    if len(raw) > limit_bytes:
        raise Rejected("too_large", [Problem("", f"is {len(raw)} bytes long, at most {limit_bytes} are taken")])
    document = _parsed(raw)
    _check_version(document)
    if not contract.fits(document):
        raise Rejected("schema", contract.explain(document, len(raw)))
    problems = [*_repeated_members(raw, document), *_nul_texts(raw, document), *_impossible_times(document)]
    if problems:
        raise Rejected("schema", problems[: contract.MAX_PROBLEMS])
    submission = Submission(report=document, raw=raw, received_at=now())
    if period:
        check_date(submission, period)
    return submission


def _parsed(raw: bytes) -> Any:  # noqa: ANN401 - any JSON value, until the schema has spoken
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        detail = f"is not JSON: {shorten(str(error), 200)} of {len(raw)} bytes"
        raise Rejected("not_json", [Problem("", detail)]) from error


def _check_version(document: Any) -> None:  # noqa: ANN401 - any JSON value, until the schema has spoken
    if not isinstance(document, dict):
        raise Rejected("schema", [Problem("", f"a report is a JSON object, this is {value_text(document)}")])
    version = document.get("schema_version")
    if version == contract.VERSION:
        return
    pointer = "/schema_version"
    if "schema_version" not in document:
        detail = f"this report does not say its version, this collector reads {contract.VERSION}"
        raise Rejected("version", [Problem(pointer, detail)])
    detail = f"this report is version {value_text(version)}, this collector reads {contract.VERSION}; "
    raise Rejected("version", [Problem(pointer, detail + _who_updates(version))])


def _who_updates(version: object) -> str:
    if not isinstance(version, str) or not all(part.isdecimal() and len(part) < 6 for part in version.split(".")):
        return "update the program that made it"
    ours = [int(part) for part in contract.VERSION.split(".")]
    theirs = [int(part) for part in version.split(".")]
    return "update this collector (site-db)" if theirs > ours else "update the probe (singularity-probe) that made it"


def _repeated_members(raw: bytes, document: Any) -> Iterator[Problem]:  # noqa: ANN401 - likewise
    """Members given twice, of which the parser has kept the last.

    The same text when written again is proof, and so are as many quotes: a dropped member takes those of its name with
    it, and no text has others then, but where one was written as \\u0022.
    """
    again = orjson.dumps(document)
    if again == raw or (b"\\u0022" not in raw and raw.count(b'"') == again.count(b'"')):
        return
    repeated: list[str] = []

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            names = [name for name, _ in pairs]
            repeated.extend(name for name in members if names.count(name) > 1)
        return members

    try:
        json.loads(raw, object_pairs_hook=note)
    except RecursionError:  # only in a member that was dropped: what was kept fits the schema
        repeated.append("a member with very deep contents")
    for name in repeated:
        yield Problem("", f'has the member "{shorten(name, 60)}" twice in one object')


def _nul_texts(raw: bytes, document: Any) -> Iterator[Problem]:  # noqa: ANN401 - likewise
    if b"\\" not in raw or b"\\u0000" not in raw:  # unescaped control characters are not JSON
        return
    for steps, text in _texts(document, ()):
        if "\0" in text:
            yield Problem(contract.pointer_of(steps), f"has a NUL character: {value_text(text)}")


def _texts(value: Any, steps: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:  # noqa: ANN401 - likewise
    """Every text of a document that fits the schema, so of bounded depth; names cannot hold a NUL there."""
    if isinstance(value, str):
        yield steps, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _texts(member, (*steps, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*steps, index))


def _impossible_times(document: Any) -> Iterator[Problem]:  # noqa: ANN401 - likewise
    created_at = document["created_at"]
    try:
        datetime.fromisoformat(created_at)
    except ValueError:
        yield Problem("/created_at", f"is {value_text(created_at)}, which is no moment in time")


def check_date(submission: Submission, period: Period) -> None:
    """Raise Rejected for a report that was made outside this period."""
    created_at = datetime.fromisoformat(submission.report["created_at"])
    age = submission.received_at - (created_at if created_at.tzinfo else created_at.replace(tzinfo=UTC))
    if -period.future <= age <= period.past:
        return
    where = f"{-age} in the future" if age < timedelta(0) else f"{age.days} days ago"
    taken = f"at most {period.past.days} days ago, or {period.future} in the future, are taken"
    detail = f"is {value_text(submission.report['created_at'])}, {where}; reports made {taken}"
    raise Rejected("date", [Problem("/created_at", detail)])
