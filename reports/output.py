"""What a command says, in one of four forms: text for people, one stable JSON envelope, CSV for spreadsheets, Markdown.

A command returns an Answer; this is the only place that renders one.
"""

import csv
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import IO, Any, NamedTuple

import orjson

from reports.safe_text import csv_cell, printable
from reports.version import VERSION

FORMATS = ("text", "json", "csv", "markdown")


class Table(NamedTuple):
    """Rows of cells under column names; a cell is text, a number, a boolean, None, or several texts (a tuple)."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""


class Verbatim(str):
    """A block that is printed as it is, never wrapped: configuration to copy."""


class Markdown(str):
    """A block that is Markdown already, whose author has made harmless what is not ours (`reports/ticket.py`)."""


class Answer(NamedTuple):
    """`data` for JSON; `blocks` of text and tables for people; `table` (or the first among the blocks) for CSV.

    `asides` go to stderr in every form, so that stdout stays what was asked for.
    """

    data: Any
    blocks: Sequence[str | Table]
    table: Table | None = None
    asides: Sequence[str] = ()


def show(answer: Answer, output_format: str, command: str, now: datetime) -> None:
    """Write an answer to stdout."""
    for line in answer.asides:
        sys.stderr.write(printable(line) + "\n")
    if output_format == "json":
        sys.stdout.write(json_text(command, answer.data, now) + "\n")
    elif output_format == "csv":
        _write_csv(answer, sys.stdout)
    elif output_format == "markdown":
        from reports.markdown import document

        sys.stdout.write(document(answer.blocks))
    else:
        from reports.terminal import write_text  # rich costs 0.1 s at start; programs that read JSON need none

        write_text(answer.blocks, sys.stdout)


def json_text(command: str, data: object, now: datetime) -> str:
    """The envelope as ASCII: no character of a report can steer the terminal that shows it."""
    envelope = {"command": command, "version": VERSION, "generated_at": now, "data": data}
    plain = json.loads(orjson.dumps(envelope, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS, default=list))
    return json.dumps(plain, indent=2).replace("\x7f", "\\u007f")


def _write_csv(answer: Answer, stream: IO[str]) -> None:
    table = answer.table or next(block for block in answer.blocks if isinstance(block, Table))
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(csv_cell, table.columns))
    for row in table.rows:
        writer.writerow([csv_cell(", ".join(cell) if isinstance(cell, tuple) else cell) for cell in row])
