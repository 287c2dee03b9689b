"""The shapes of what people and programs get to read: one for each view, versioned, pinned by a test.

Every one has `to_dict()`: plain JSON values, times as RFC 3339, `site_report_version` first. A field may be added
within a version; to take one away or change its meaning makes a new one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from typing import Any

from site_db.kinds import Kinds
from site_db.reasons import Reason
from site_db.times import format_time
from site_db.verdicts import Answer, Evidence, ReasonCount, Verdict

SITE_REPORT_VERSION = "1.0"


class SiteReportPart:
    """A dataclass that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values: dicts, lists, texts, numbers, booleans, None."""
        return {"site_report_version": SITE_REPORT_VERSION, **_plain(self)}


@dataclass(frozen=True)
class Freshness:
    """How much is behind a view. `nodes_recent` reported within the window; the others count all that was ever seen."""

    nodes_recent: int
    nodes_ever: int
    reports: int
    newest: datetime | None


@dataclass(frozen=True)
class SiteSummary(SiteReportPart):
    """One line in the list of sites; `verdicts` those of the rules' overview."""

    name: str
    entries: int
    freshness: Freshness
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class EntrySummary(SiteReportPart):
    """One line in the list of a site's entries."""

    name: str
    factory: str
    site: str
    resource: str
    freshness: Freshness
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class ImageVerdict:
    """On how many nodes that tried the image it ran, did not, or could not be told."""

    ref: str
    answer: Answer
    nodes_yes: int
    nodes_no: int
    nodes_unknown: int
    newest: datetime
    reasons: tuple[ReasonCount, ...]


@dataclass(frozen=True)
class SiteList(SiteReportPart):
    """All sites that ever sent a report, by name."""

    generated_at: datetime
    window_days: int
    sites: tuple[SiteSummary, ...]


@dataclass(frozen=True)
class SiteReport(SiteReportPart):
    """One site: a node counts once, whatever entries it was seen under."""

    name: str
    generated_at: datetime
    window_days: int
    freshness: Freshness
    resources: tuple[str, ...]
    entries: tuple[EntrySummary, ...]
    verdicts: tuple[Verdict, ...]
    heterogeneity: Kinds
    images: tuple[ImageVerdict, ...]


@dataclass(frozen=True)
class EntryReport(SiteReportPart):
    """One entry of one factory."""

    name: str
    factory: str
    site: str
    resource: str
    generated_at: datetime
    window_days: int
    freshness: Freshness
    verdicts: tuple[Verdict, ...]
    heterogeneity: Kinds
    images: tuple[ImageVerdict, ...]


@dataclass(frozen=True)
class NodeSeen:
    """A node under one entry."""

    entry: str
    factory: str
    site: str
    resource: str
    first_seen: datetime
    newest: datetime
    reports: int


@dataclass(frozen=True)
class NodeReport(SiteReportPart):
    """One node as its newest report shows it, however old that is.

    `derived`: the report had no machine_id, this one was made from hostname and entry.
    """

    machine_id: str
    derived: bool
    hostname: str
    generated_at: datetime
    window_days: int
    recent: bool
    report_id: str | None
    seen: tuple[NodeSeen, ...]
    verdicts: tuple[Verdict, ...]
    profile: Mapping[str, Any]
    images: tuple[ImageVerdict, ...]


@dataclass(frozen=True)
class NodeSummary:
    """One line in the list of nodes."""

    machine_id: str
    hostname: str
    entries: int
    reports: int
    newest: datetime


@dataclass(frozen=True)
class NodePage(SiteReportPart):
    """A page of the list of nodes; `next` is the `after` of the page that follows, or None."""

    nodes: tuple[NodeSummary, ...]
    next: str | None


@dataclass(frozen=True)
class ExplainedReason:
    """A reason in words, and on how many nodes it was given."""

    reason: Reason
    nodes: int


@dataclass(frozen=True)
class Example:
    """A piece of evidence with what the report says at that place (None: the raw report is not kept any more)."""

    evidence: Evidence
    check: Mapping[str, Any] | None


@dataclass(frozen=True)
class Explanation(SiteReportPart):
    """Why one verdict is what it is."""

    entry: str
    factory: str
    site: str
    generated_at: datetime
    window_days: int
    verdict: Verdict
    reasons: tuple[ExplainedReason, ...]
    examples: tuple[Example, ...]


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON has no narrower type
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
