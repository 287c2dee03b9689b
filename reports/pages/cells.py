"""Cells as most tables have them: names with links, counts, shares, times with their age."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from reports.answers import age
from reports.pages.model import UNKNOWN, Cell, Target
from reports.safe_text import shorten
from site_db.times import format_time
from site_db.verdicts import ReasonCount, Verdict

_LONGEST_NAME = 160
_LONGEST_TEXT = 400


def name(text: str, kind: str, of: str | None = None) -> Cell:
    """The name of something that has a page of this kind; `of`: what the page is asked for, if not by this text."""
    return Cell(text, shorten(text, _LONGEST_NAME), "name", Target(kind, text if of is None else of))


def entry(text: str, factory: str) -> Cell:
    """The name of an entry. Its link names the factory, so that it holds when another has an entry of that name."""
    return name(text, "entry", f"{text}@{factory}")


def text(value: str | None, kind: str = "") -> Cell:
    """A text, or that none is known."""
    return Cell(value, UNKNOWN if value is None else shorten(value, _LONGEST_TEXT), kind)


def count(number: int | None, kind: str = "") -> Cell:
    """A whole number with thousands apart."""
    return Cell(number, UNKNOWN if number is None else f"{number:,}", kind)


def listed(names: Sequence[str], most: int) -> str:
    """Names in a sentence; of many the first, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names) if rest <= 1 else f"{', '.join(names[:most])} and {rest} more"


def so_many_nodes(number: int) -> str:
    """A number of nodes in words for a sentence."""
    return "1 node" if number == 1 else f"{number:,} nodes"


def percent(share: float | None) -> str:
    """A share for people: one that is not all or nothing never reads so."""
    if share is None:
        return UNKNOWN
    rounded = f"{share:.0%}"
    return {"100%": ">99%", "0%": "<1%"}.get(rounded, rounded) if 0 < share < 1 else rounded


def part(number: int, whole: int) -> Cell:
    """A part of a whole as a share."""
    value = number / whole if whole else None
    return Cell(None if value is None else round(value, 4), percent(value))


def share(answer: str, value: float | None, note: str = "", link: Target | None = None) -> Cell:
    """An answer with its share of yes: mixed shows the share, and a tenth of a bar in colour."""
    shown = percent(value) if answer == "mixed" else answer
    kind = f"mixed s{round((value or 0) * 10)}" if answer == "mixed" else answer
    return Cell(None if value is None else round(value, 4), shown, kind, link, note)


def verdict(found: Verdict | None, link: Target | None = None) -> Cell:
    """A verdict in a matrix; small print: how many nodes said yes, of those that could tell."""
    if found is None:
        return Cell(None, "unknown", "unknown")
    note = f"{found.nodes_yes:,} of {found.nodes_measured:,}" if found.answer == "mixed" else ""
    return share(found.answer, found.share, note, link)


def when(moment: datetime | None, now: datetime) -> Cell:
    """A time in UTC with its age."""
    if moment is None:
        return Cell(None, "never", "time")
    ago = age(moment, now)
    told = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
    return Cell(format_time(moment), told, "time", None, ago if ago == "now" else f"{ago} ago")


def code(reason: str | None) -> Cell:
    """A reason code with the page that explains it."""
    return Cell(None, UNKNOWN) if reason is None else Cell(reason, shorten(reason, 64), "code", Target("reason", reason))


def first_code(reasons: Iterable[ReasonCount]) -> Cell:
    """The most frequent reason that was given."""
    return code(next((reason.code for reason in reasons if reason.code), None))
