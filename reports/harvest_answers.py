"""What `site-db harvest logs` answers."""

from reports import answers
from reports.harvest_logs import Counts
from reports.ingest import Summary
from reports.output import Answer

_SHOWN = 10


def harvested(summary: Summary, counts: Counts) -> Answer:
    """What became of the logs, over what became of the reports in them."""
    ingested = answers.ingested(summary)
    numbers = {name: getattr(counts, name) for name in vars(counts) if name != "unfinished"}
    places = [str(place) for place in counts.unfinished]
    data = {**numbers, "unfinished": places, **ingested.data}
    lines = [
        f"{counts.files} files, {counts.unchanged} of them unchanged; {counts.read_bytes / 1e6:.1f} MB read; "
        f"{counts.blocks} reports found, {counts.damaged} damaged"
    ]
    if counts.unreadable:
        lines.append(f"{counts.unreadable} files or folders could not be read")
    if counts.links:
        lines.append(f"{counts.links} links were not followed")
    if places:
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        lines.append(f"not complete yet, taken by a later harvest: {', '.join(places[:_SHOWN])}{more}")
    return Answer(data, ["\n".join(lines), *ingested.blocks], ingested.table)


def progress_text(counts: Counts, summary: Summary) -> str:
    """The state of a harvest in one line."""
    return f"{counts.files} files, {answers.counts(summary)}"
