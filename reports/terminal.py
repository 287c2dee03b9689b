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
# Cells longer than _WHOLE_CELL are always folded, no cell is folded narrower than _FOLDED_CELL while there is room.
_WHOLE_CELL, _FOLDED_CELL, _PADDING = 40, 10, 3
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
    for number, (name, whole) in enumerate(zip(table.columns, _kept_whole(table, console.width), strict=True)):
        numeric = all(isinstance(row[number], int | float) for row in table.rows)
        drawn.add_column(Text(name), justify="right" if numeric else "left", overflow="fold", no_wrap=whole)
    for row in table.rows:
        drawn.add_row(*(_cell(value) for value in row))
    console.print(drawn)


def _kept_whole(table: Table, width: int) -> list[bool]:
    """Which columns are not folded: names and numbers, from the left, as long as the others keep some width."""
    columns = zip(table.columns, *table.rows, strict=True)
    needed = [max(map(_width, column)) + _PADDING for column in columns]
    least = [min(full, _FOLDED_CELL + _PADDING) for full in needed]
    room = width - sum(least)
    whole = []
    for full, folded in zip(needed, least, strict=True):
        whole.append(full <= _WHOLE_CELL + _PADDING and full - folded <= room)
        room -= full - folded if whole[-1] else 0
    return whole


def _texts(value: object) -> tuple[str, ...]:
    """A cell's texts: one line each for people."""
    if isinstance(value, tuple):
        return value
    return () if value is None else (str(value),)


def _width(value: object) -> int:
    return max(map(len, _texts(value)), default=1)


def _cell(value: object) -> Text:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    text = "\n".join(map(printable, _texts(value))) or "-"
    return Text(text, style=_STYLES.get(text, ""))
