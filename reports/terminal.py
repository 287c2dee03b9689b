"""An answer as text for people: tables that fit the width, colours on a terminal only."""

import os
import textwrap
from collections.abc import Sequence
from typing import IO

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from reports.output import Table, Verbatim
from reports.safe_text import printable

_PIPED_COLUMNS = 100
_PADDING = 3  # between two columns
_GOOD, _BAD, _DOUBTFUL = "green", "bold red", "yellow"
# Words that mean the same wherever they stand as a cell of their own.
_STYLES = {"yes": _GOOD, "ok": _GOOD, "no": _BAD, "fail": _BAD, "unknown": _DOUBTFUL, "warning": _DOUBTFUL}


def write_text(blocks: Sequence[str | Table], stream: IO[str]) -> None:
    """Write the blocks, an empty line between them."""
    console = console_for(stream)
    for number, block in enumerate(blocks):
        if number:
            console.print()
        if isinstance(block, Table):
            _print_table(console, block)
        else:
            for line in _wrapped(block, console.width):
                console.print(Text(line), soft_wrap=True)


def _wrapped(block: str, width: int) -> list[str]:
    """The printable lines of a text; continued lines are indented below their first."""
    lines = [printable(line) for line in block.rstrip("\n").split("\n")]
    if isinstance(block, Verbatim):
        return lines
    wrapped = []
    for line in lines:
        indent = line[: len(line) - len(line.lstrip())]
        wrapped += textwrap.wrap(line, max(width, 20), subsequent_indent=indent + "  ") or [""]
    return wrapped


def console_for(stream: IO[str]) -> Console:
    """A console on a stream: colours only on a terminal, its width there, COLUMNS or 100 columns elsewhere."""
    width = None if stream.isatty() else int(os.environ.get("COLUMNS") or _PIPED_COLUMNS)
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _print_table(console: Console, table: Table) -> None:
    if table.title:
        console.print(Text(printable(table.title), style="bold"))
    if not table.rows:
        console.print("  (none)")
        return
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    widths = _widths(table, console.width)
    for number, name in enumerate(table.columns):
        numeric = all(isinstance(row[number], int | float) for row in table.rows)
        drawn.add_column(Text(name), justify="right" if numeric else "left", overflow="fold", max_width=widths[number])
    for row in table.rows:
        drawn.add_row(*(_cell(value) for value in row))
    console.print(drawn)


def _widths(table: Table, width: int) -> list[int]:
    """How wide each column may be: words stay whole where there is room for them, and narrow columns before wide ones."""
    columns = list(zip(table.columns, *table.rows, strict=True))
    needed = [max(map(_width, column)) for column in columns]
    least = [max(map(_longest_word, column)) for column in columns]
    room = width - _PADDING * (len(columns) - 1) - sum(least)
    if room < 0:
        room, least = room + sum(least), [0] * len(columns)
    widths = dict(enumerate(least))
    by_want = sorted(widths, key=lambda number: needed[number] - least[number])
    for position, number in enumerate(by_want):
        more = min(needed[number] - least[number], room // (len(by_want) - position))
        widths[number] += more
        room -= more
    return [max(each, 1) for each in widths.values()]


def _texts(value: object) -> tuple[str, ...]:
    """A cell's texts: one line each for people."""
    if isinstance(value, tuple):
        return value
    return () if value is None else (str(value),)


def _width(value: object) -> int:
    return max(map(len, _texts(value)), default=1)


def _longest_word(value: object) -> int:
    return max((len(word) for text in _texts(value) for word in text.split()), default=1)


def _cell(value: object) -> Text:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    text = "\n".join(map(printable, _texts(value))) or "-"
    return Text(text, style=_STYLES.get(text, ""))
