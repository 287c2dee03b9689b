"""Whose reports a harvest takes: what a report says of its glidein, held against what is known of where it was found.

A log or an ad is written by the node: without this any node could speak for every entry. A token does the same for what
comes over the network.
"""

from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import PurePath
from typing import Any

import orjson

from reports.reading import Found, Unreadable

# The factory keeps the logs of an entry in client/user_USER/glidein_INSTANCE/entry_NAME, which no job can write to.
_ENTRY_FOLDER = "entry_"

# The names that may stand under these members of `glidein`; none: nothing is known.
Known = Mapping[str, Set[str]]


def entries_of_log(path: str) -> frozenset[str]:
    """The entry whose log this is, by the folder that it lies in."""
    folders = [part for part in PurePath(path).parts[:-1] if part.startswith(_ENTRY_FOLDER)]
    return frozenset(folder.removeprefix(_ENTRY_FOLDER) for folder in folders[-1:])


def pinned(factory: str | None, site: str | None) -> Known:
    """What the caller vouches for."""
    return {"factory": {factory} if factory else set(), "site": {site} if site else set()}


def of_logs(items: Iterable[Found | Unreadable], pins: Known) -> Iterator[Found | Unreadable]:
    """The reports of a harvest of logs that are of the entries whose logs they lie in."""
    for item in items:
        if isinstance(item, Found):
            yield held_to(item, {**pins, "entry": entries_of_log(item.place.path)})
        else:
            yield item


def held_to(found: Found, known: Known) -> Found | Unreadable:
    """The report, with names filled in that it leaves open; or why it is another's. What is no report is left to others."""
    report = _report(found.raw)
    if report is None:
        return found
    glidein, open_names = report["glidein"], {}
    for member, names in known.items():
        said = glidein.get(member)
        if said is None and len(names) == 1:
            open_names[member] = next(iter(names))
        elif isinstance(said, str) and names and said not in names:
            of = " or ".join(map(ascii, sorted(names)))
            return Unreadable(found.place, f"the report says {member} {said!a}, but is from {of}: not stored")
    if not open_names:
        return found
    raw = orjson.dumps({**report, "glidein": {**glidein, **open_names}})
    return Found(found.place, raw, len(raw))


def _report(raw: bytes) -> dict[str, Any] | None:
    try:
        report = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    is_report = isinstance(report, dict) and isinstance(report.get("glidein"), dict)
    return report if is_report else None
