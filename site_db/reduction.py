"""What of a report goes into the tables: the report reduced to names, times and its profile. Pure.

All its texts are made storable (storable.py); the report itself is kept as the bytes that came.
"""

import hashlib
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import zstandard

from site_db.profiles import canonical_json, fingerprint_of_json, profile_of
from site_db.storable import storable
from site_db.times import microseconds, parse_time

# What stands for a name that the report doesn't give: a run by hand, outside a glidein.
NO_NAME = "(none)"
UNKNOWN_SITE = "(unknown)"

_ZSTD_LEVEL = 3  # 19 saves a tenth more and takes thirty times as long


class Submission(NamedTuple):
    """A report on its way into the store.

    `report` is valid against the schema, `raw` the JSON text it came as, `received_at` aware UTC.
    """

    report: dict[str, Any]
    raw: bytes
    received_at: datetime


@dataclass(frozen=True)
class ImageResult:
    """How one image did on the node."""

    ref: str
    ref_sha256: bytes
    status: str
    reason: str | None
    exec_s: float | None


@dataclass(frozen=True)
class Reduced:
    """A report as the tables see it. Times in microseconds since 1970."""

    report_id: bytes
    site: str
    factory: str
    entry: str
    resource: str
    machine_id: str
    derived: bool
    hostname: str
    created_at: int
    received_at: int
    complete: bool
    fingerprint: str
    document: str
    images: tuple[ImageResult, ...]
    body: bytes = field(repr=False)  # the report as it came, zstd


def reduce_report(submission: Submission) -> Reduced:
    """Reduce one report.

    It counts as made when it says so, but never later than it came: a node whose clock runs ahead can't hold back the
    reports that follow.
    """
    report = submission.report
    glidein = report["glidein"]
    site = storable(glidein["site"] or UNKNOWN_SITE)
    entry = storable(glidein["entry"] or (f"{NO_NAME}@{site}" if glidein["site"] else NO_NAME))
    factory = storable(glidein["factory"] or NO_NAME)
    hostname = storable(report["host"]["hostname"] or NO_NAME)
    machine_id = report["host"]["machine_id"]
    received_at = microseconds(submission.received_at)
    created_at = parse_time(report["created_at"])
    document = canonical_json(profile_of(report))
    return Reduced(
        report_id=uuid.UUID(report["report_id"]).bytes,
        site=site,
        factory=factory,
        entry=entry,
        resource=storable(glidein["resource"] or NO_NAME),
        machine_id=machine_id or _machine_id_of(hostname, factory, entry),
        derived=machine_id is None,
        hostname=hostname,
        created_at=min(microseconds(created_at.astimezone(UTC)), received_at) if created_at else received_at,
        received_at=received_at,
        complete=report["complete"],
        fingerprint=fingerprint_of_json(document),
        document=document,
        images=tuple(_images(report["images"])),
        body=zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(submission.raw),
    )


def _machine_id_of(hostname: str, factory: str, entry: str) -> str:
    # With the entry: two sites may both have a node "wn001".
    return hashlib.sha256("\n".join((hostname, factory, entry)).encode()).hexdigest()[:32]


def _images(images: list[dict[str, Any]]) -> list[ImageResult]:
    results = {}
    for image in images:
        ref = storable(image["ref"])
        ref_sha256 = hashlib.sha256(ref.encode()).digest()
        results[ref_sha256] = ImageResult(ref, ref_sha256, *_outcome(image), image["exec_s"])
    return list(results.values())


def _outcome(image: dict[str, Any]) -> tuple[str, str | None]:
    """Status and reason. That a registry has an image says nothing of the node: only a start has a time."""
    if image["kind"] == "registry" and image["status"] == "ok" and image["exec_s"] is None:
        return "unknown", "not_requested"
    return image["status"], image["reason"]
