"""The rows of a table that one state of a page shows: sorted, and of a long table one portion."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.pages.asked import Asked, WrongQuestion
from reports.pages.model import Cell, Grid

ROWS_A_PAGE = 100
MOST_ROWS = 2000


@dataclass(frozen=True)
class Arranged:
    """A table as a page shows it. `sorted_by`: the key of a column, with a minus for falling; `first` counts from 1."""

    grid: Grid
    rows: Sequence[Sequence[Cell]]
    sorted_by: str
    page: int
    pages: int
    first: int

    @property
    def is_complete(self) -> bool:
        """Whether all rows are there, so that a script may sort them."""
        return len(self.rows) == len(self.grid.rows)


def arrange(grid: Grid, asked: Asked, whole: bool = False) -> Arranged:
    """The portion of the main table that was asked for; any other, and `whole` ones, as they are. Raises WrongQuestion."""
    if whole or not grid.main:
        return Arranged(grid, grid.rows, "", 1, 1, 1)
    rows, sorted_by = in_order(grid, asked), asked.text("sort")
    size = asked.number("rows", ROWS_A_PAGE, most=MOST_ROWS)
    pages = max(1, -(-len(rows) // size))
    page = min(asked.number("page", 1), pages)
    return Arranged(grid, rows[(page - 1) * size : page * size], sorted_by, page, pages, (page - 1) * size + 1)


def in_order(grid: Grid, asked: Asked) -> Sequence[Sequence[Cell]]:
    """All rows in the order that was asked for; what is unknown comes last, whichever way. Raises WrongQuestion."""
    wanted = asked.text("sort")
    key = wanted.removeprefix("-")
    if not (wanted and grid.main):
        return grid.rows
    keys = [column.key for column in grid.columns]
    if key not in keys:
        raise WrongQuestion(f"sort: choose one of {', '.join(keys)}, with a minus for falling order")
    position, rows = keys.index(key), list(grid.rows)
    known = [row for row in rows if row[position].value is not None]
    unknown = [row for row in rows if row[position].value is None]
    return [*sorted(known, key=lambda row: _order(row[position].value), reverse=wanted.startswith("-")), *unknown]


def _order(value: object) -> tuple[int, float, str]:
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value).casefold()
