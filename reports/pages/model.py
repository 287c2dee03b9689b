"""The parts that pages are made of. A page is data: what it says, not how it looks; links are named, not spelt.

The server, the exported folder and the single file render the same pages; only their links differ (links.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar, overload

Item = TypeVar("Item")
UNKNOWN = "\u2013"  # a dash: what is not known, or not there


class Target(NamedTuple):
    """Where a link leads: a kind of page (links.PATHS), the name of what it shows, and the state it opens in."""

    kind: str
    name: str | None = None
    query: tuple[tuple[str, str], ...] = ()


class Cell(NamedTuple):
    """One cell of a table: `value` for programs and sorting (None: unknown), `text` for people.

    `kind` is one of a fixed set of words that the style sheet knows; `note` is small print beside the text.
    """

    value: object
    text: str
    kind: str = ""
    link: Target | None = None
    note: str = ""


class Column(NamedTuple):
    """A column: `key` for programs, `title` for people; `about` explains the title; `numeric` aligns to the right."""

    key: str
    title: str
    about: str = ""
    numeric: bool = False


class RowsOf(Sequence[Sequence[Cell]]):
    """The rows of these items, each made when it is looked at: a page shows a hundred of a thousand."""

    def __init__(self, items: Sequence[Item], row_of: Callable[[Item], Sequence[Cell]]) -> None:
        self._items: Sequence[Any] = items
        self._row_of: Callable[[Any], Sequence[Cell]] = row_of

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, place: int) -> Sequence[Cell]: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Sequence[Cell]]: ...

    def __getitem__(self, place: int | slice) -> Sequence[Cell] | Sequence[Sequence[Cell]]:
        if isinstance(place, slice):
            return list(map(self._row_of, self._items[place]))
        return self._row_of(self._items[place])


@dataclass(frozen=True)
class Grid:
    """A table. The first cell of a row names the row. The one that is `main` on its page sorts and pages by the address."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    main: bool = False
    empty: str = "Nothing."
    shape: str = "grid"


@dataclass(frozen=True)
class Figure:
    """A plot with its data. `form`: lines, stacked, bars or box; `series` name -> one value for each of `labels`.

    For a box the values of a series are all its measurements. `unit` is written at the axis; shares are 0 to 1.
    """

    name: str
    caption: str
    form: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    grid: Grid
    unit: str = ""
    query: tuple[tuple[str, str], ...] = ()
    shape: str = "figure"


@dataclass(frozen=True)
class Facts:
    """Terms and what is known of them."""

    heading: str
    rows: Sequence[tuple[str, Cell]]
    shape: str = "facts"


class Point(NamedTuple):
    """One labelled sentence or, as `code`, one line to copy."""

    label: str
    text: str
    code: bool = False


@dataclass(frozen=True)
class Notice:
    """Something to know or do: `kind` no, mixed, unknown, yes or "" decides its colour; `points` follow the title."""

    title: Cell
    points: Sequence[Point]
    kind: str = ""
    shape: str = "notice"


@dataclass(frozen=True)
class Group:
    """Notices under one heading. `empty`: what is said where there are none; without it the heading stays away."""

    name: str
    heading: str
    notices: Sequence[Notice]
    empty: str = ""
    more: Cell | None = None
    shape: str = "group"


@dataclass(frozen=True)
class Code:
    """Text to copy as it is. `language` diff colours its lines."""

    heading: str
    text: str
    language: str = ""
    shape: str = "code"


class Choice(NamedTuple):
    """A field of a form: with `options` (value, text) a list to choose from, else a text."""

    name: str
    title: str
    options: Sequence[tuple[str, str]] = ()
    hint: str = ""
    default: str = ""


@dataclass(frozen=True)
class Form:
    """What may be asked of this page; its state is in the address. Not part of exports."""

    choices: Sequence[Choice]
    button: str = "Show"
    shape: str = "form"


Block = Grid | Figure | Facts | Group | Code | Form


@dataclass(frozen=True)
class Page:
    """One page. `section` is the item of the navigation that it belongs to."""

    title: str
    section: str
    generated_at: datetime
    blocks: Sequence[Block]
    lead: Sequence[str] = ()
    status: int = 200
    trail: Sequence[Cell] = field(default_factory=tuple)

    def grids(self) -> dict[str, Grid]:
        """All tables by name, those of plots too."""
        found = {block.name: block for block in self.blocks if isinstance(block, Grid)}
        return found | {block.name: block.grid for block in self.blocks if isinstance(block, Figure)}
