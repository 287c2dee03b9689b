"""What fails at a site, an entry or a node as Markdown, ready to paste into a ticket to the site's admins.

By cause, because that is what somebody can mend: what it takes away, where, since when, the decisive lines, the remedy.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from reports.markdown import prose
from reports.output import Answer, Markdown
from reports.safe_text import code_block, code_span, shorten
from site_db.causes import Cause, Loss
from site_db.reasons import Reason, explain_reason
from site_db.site_reports import EntryReport, Example, ImageVerdict, NodeReport, SiteReport

_LINES_SHOWN, _LINE_LENGTH = 12, 300
_IMAGES_SHOWN = 20
_TOLD_ALREADY = ("id", "status", "usable", "reason", "remedy")
_NO_REASON = "The probe gave no reason"


def site(found: SiteReport, causes: Sequence[Cause]) -> Answer:
    """A ticket about one site."""
    return _ticket(f"Containers on worker nodes of {code_span(found.name)}", _basis(found), found, causes)


def entry(found: EntryReport, causes: Sequence[Cause]) -> Answer:
    """A ticket about one entry."""
    title = f"Containers on worker nodes of {code_span(found.site)}, entry {code_span(found.name)}"
    factory = f"Factory {code_span(found.factory)}, resource {code_span(found.resource)}."
    return _ticket(title, f"{factory} {_basis(found)}", found, causes)


def node(found: NodeReport, causes: Sequence[Cause]) -> Answer:
    """A ticket about one worker node."""
    newest = max(seen.newest for seen in found.seen)
    entries = ", ".join(f"{code_span(seen.entry)} ({code_span(seen.site)})" for seen in found.seen)
    basis = f"Its newest report was made at {_time(newest)}. Seen under {entries}."
    return _ticket(f"Containers on the worker node {code_span(found.hostname)}", basis, found, causes)


def _basis(found: SiteReport | EntryReport) -> str:
    newest = found.freshness.newest
    latest = f"; the newest report is of {_time(newest)}" if newest else ""
    nodes = found.freshness.nodes_recent
    return f"{nodes} node{'' if nodes == 1 else 's'} reported in the last {found.window_days} days{latest}."


def _ticket(title: str, basis: str, found: SiteReport | EntryReport | NodeReport, causes: Sequence[Cause]) -> Answer:
    parts = [
        f"# {title}",
        f"Jobs of the grid run in Singularity (Apptainer) containers. singularity-probe tries on the worker nodes what "
        f"these jobs need. {basis}",
        *_causes([cause for cause in causes if cause.main]),
        *_others([cause for cause in causes if not cause.main]),
        *_images(found.images),
        "## To check by hand",
        "On a worker node, as an ordinary user (the file needs Python 3.6 or later and nothing else):",
        code_block("./singularity-probe run | ./singularity-probe explain"),
        f"Written at {_time(found.generated_at)} by `site-db`. What the reports say is quoted as code.",
    ]
    return Answer(found.to_dict(), [Markdown("\n\n".join(parts))])


def _causes(causes: Sequence[Cause]) -> Iterator[str]:
    if not causes:
        yield "Nothing that jobs usually need was seen to fail."
        return
    yield "\n".join(
        f"{number}. {_title(cause.reason)}: {cause.nodes} of {_nodes(cause.of_nodes)}"
        for number, cause in enumerate(causes, 1)
    )
    for number, cause in enumerate(causes, 1):
        yield f"## {number}. {_title(cause.reason)}"
        yield "\n".join(f"- {line}" for line in _facts(cause))
        if lines := list(_said(cause.examples)):
            report = next((example.evidence.report_id for example in cause.examples), None)
            yield f"Evidence{f', from report {code_span(report)}' if report else ''}:"
            yield code_block("\n".join(lines[:_LINES_SHOWN]))


def _facts(cause: Cause) -> Iterator[str]:
    code = f", reason code {code_span(cause.reason.code)}" if cause.reason else ""
    yield f"Where: {cause.nodes} of {_nodes(cause.of_nodes)}{code}"
    more = ", ..." if cause.nodes > len(cause.hosts) else ""
    yield f"Nodes: {', '.join(map(code_span, cause.hosts))}{more}"
    yield _since(cause)
    yield f"What does not work there: {_losses(cause)}"
    yield from _remedies(cause.reason)


def _since(cause: Cause) -> str:
    if cause.since is None:
        return f"Since: not known, no change was seen; last seen {_time(cause.newest)}"
    first = f" on {code_span(cause.first_node)}" if cause.first_node else ""
    return f"Since: {_time(cause.since)}, when some of this was first missing{first}; last seen {_time(cause.newest)}"


def _losses(cause: Cause) -> str:
    return "; ".join(_loss(loss, cause) for loss in cause.losses)


def _loss(loss: Loss, cause: Cause) -> str:
    # A family's title holds the name that a report gave.
    name = code_span(loss.capability) if ":" in loss.capability else prose(loss.title)
    return name if loss.nodes == cause.nodes else f"{name} on {_nodes(loss.nodes)}"


def _remedies(reason: Reason | None) -> Iterator[str]:
    if reason and reason.jobs:
        yield f"For jobs: {prose(reason.jobs)}"
    if reason and reason.site_remedy:
        yield f"What the site can do: {prose(reason.site_remedy)}"
    if reason and reason.factory_remedy:
        yield f"What the factory can do: {prose(reason.factory_remedy)}"


def _others(causes: Sequence[Cause]) -> Iterator[str]:
    if not causes:
        return
    yield "## Not available either"
    yield "This may be on purpose, and many jobs do without."
    lines = []
    for cause in causes:
        code = f" ({code_span(cause.reason.code)})" if cause.reason else ""
        remedy = f" {prose(cause.reason.site_remedy)}" if cause.reason and cause.reason.site_remedy else ""
        lines.append(
            f"- {_title(cause.reason)}{code}, {cause.nodes} of {_nodes(cause.of_nodes)}: {_losses(cause)}.{remedy}"
        )
    yield "\n".join(lines)


def _images(images: Iterable[ImageVerdict]) -> Iterator[str]:
    failing = [image for image in images if image.nodes_no]
    if not failing:
        return
    yield "## Images that did not start"
    lines = []
    for image in failing[:_IMAGES_SHOWN]:
        tried = image.nodes_yes + image.nodes_no
        lines.append(f"- {code_span(image.ref)}: not on {image.nodes_no} of {_nodes(tried)} that tried it")
        for row in image.reasons:
            reason = explain_reason(row.code) if row.code else None
            remedy = f" {prose(reason.site_remedy)}" if reason and reason.site_remedy else ""
            lines.append(f"    - {_title(reason)}, {_nodes(row.nodes)}.{remedy}")
    yield "\n".join(lines)


def _title(reason: Reason | None) -> str:
    if reason is None:
        return _NO_REASON
    return prose(reason.title) if reason.title else code_span(reason.code)


def _said(examples: Sequence[Example]) -> Iterator[str]:
    """The decisive lines of the reports, each once: what was said, and the command that was run."""
    lines: dict[str, None] = {}
    for example in examples:
        check = dict(example.check or {})
        inner = check.pop("evidence", None)
        told = {**check, **(inner if isinstance(inner, dict) else {})}
        for name, value in told.items():
            if value is not None and name not in _TOLD_ALREADY:
                lines.update(dict.fromkeys(_lines(name, value)))
    return iter(lines)


def _lines(name: str, value: Any) -> list[str]:  # noqa: ANN401 - any JSON value of a report
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    first, *others = text[: _LINE_LENGTH * _LINES_SHOWN].split("\n")
    return [shorten(f"{name}: {first}", _LINE_LENGTH), *(shorten(f"  {line}", _LINE_LENGTH) for line in others)]


def _nodes(count: int) -> str:
    return f"{count} node" if count == 1 else f"{count} nodes"


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
