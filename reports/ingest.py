"""Storing what `reading` finds: in batches, each durable before the next. What is refused is named and can be kept."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reports.contract import Problem
from reports.intake import Rejected, validate
from reports.reading import Found, Place, Unreadable
from reports.safe_text import printable
from site_db.errors import SiteDbError
from site_db.store import Submission

_BATCH_REPORTS = 200
_BATCH_BYTES = 16 * 1024 * 1024


class CannotKeep(SiteDbError):
    """A refused text cannot be written to the folder for refused texts."""


class Rejection(NamedTuple):
    """One text or file that was not stored. `kind` is a kind of Rejected, or "unreadable"."""

    place: str
    kind: str
    problems: list[Problem]
    remedy: str

    def lines(self) -> list[str]:
        """What is wrong, one line a problem, each beginning with the place."""
        return [f"{self.place}: {problem.pointer or 'report'}: {problem.detail}" for problem in self.problems]


@dataclass
class Summary:
    """What became of everything that was found."""

    new: int = 0
    known: int = 0
    rejected: list[Rejection] = field(default_factory=list)


class Ingest:
    """One run. `add` stores a batch durably (Store.add); `rejects` is a folder for what is refused, or None."""

    def __init__(
        self,
        add: Callable[[list[Submission]], list[str]],
        limit_bytes: int,
        rejects: Path | None = None,
        progress: Callable[[Summary], None] = lambda _summary: None,
    ) -> None:
        self._add = add
        self._limit_bytes = limit_bytes
        self._rejects = rejects
        self._progress = progress
        self._batch: list[Submission] = []
        self._batch_bytes = 0
        self._summary = Summary()

    def run(self, items: Iterable[Found | Unreadable]) -> Summary:
        """Take everything. Raises what `add` raises (earlier batches are stored then), and CannotKeep."""
        for item in items:
            if isinstance(item, Unreadable):
                rejection = Rejection(str(item.place), "unreadable", [Problem("", item.detail)], "")
                self._refuse(rejection, item.place, b"")
            else:
                self._take(item)
            self._progress(self._summary)
        self._store()
        return self._summary

    def _take(self, found: Found) -> None:
        try:
            if found.size_bytes > len(found.raw):
                detail = f"is longer than the {self._limit_bytes} bytes that are taken"
                raise Rejected("too_large", [Problem("", detail)])
            submission = validate(found.raw, self._limit_bytes)
        except Rejected as rejected:
            rejection = Rejection(str(found.place), rejected.kind, rejected.problems, rejected.remedy)
            self._refuse(rejection, found.place, found.raw)
            return
        self._batch.append(submission)
        self._batch_bytes += len(found.raw)
        if len(self._batch) >= _BATCH_REPORTS or self._batch_bytes >= _BATCH_BYTES:
            self._store()

    def _store(self) -> None:
        if not self._batch:
            return
        outcomes = self._add(self._batch)
        self._summary.new += outcomes.count("new")
        self._summary.known += outcomes.count("known")
        self._batch, self._batch_bytes = [], 0

    def _refuse(self, rejection: Rejection, place: Place, raw: bytes) -> None:
        self._summary.rejected.append(rejection)
        if self._rejects is not None:
            keep(self._rejects, rejection, place, raw)


def keep(folder: Path, rejection: Rejection, place: Place, raw: bytes) -> None:
    """Keep a refused text as NAME.json, and why as NAME.reason.txt; the same text again is the same name."""
    name = hashlib.sha256(raw or repr(place).encode()).hexdigest()[:16]
    reason = [*rejection.lines(), rejection.remedy]
    if rejection.kind == "too_large":
        reason.append(f"only the first {len(raw)} bytes are kept here")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if raw:
            (folder / f"{name}.json").write_bytes(raw)
        (folder / f"{name}.reason.txt").write_text("\n".join(filter(None, reason)) + "\n", encoding="utf-8")
    except OSError as error:
        message = f"{printable(str(folder))}: cannot keep a refused report: {error.strerror}."
        raise CannotKeep(message, "Give --rejects a folder that can be written; then run the same again.") from error
