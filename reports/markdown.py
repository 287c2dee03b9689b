"""An answer as Markdown, to paste into a ticket or a page: tables, and everything that is not ours as code."""

import re
from collections.abc import Sequence

from reports.output import Markdown, Table
from reports.safe_text import code_block, code_span

_PLAIN = re.compile(r"[A-Za-z0-9 /?%-]*")
_MARKUP = re.compile(r"[\\`*\[\]<>|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def document(blocks: Sequence[str | Table]) -> str:
    """The blocks as one Markdown document. Only a block that is Markdown already may hold markup."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def prose(text: str) -> str:
    """Our own words, from data files of this release, with what Markdown would take for markup escaped."""
    return _MARKUP.sub(r"\\\g<0>", text)


def _block(block: str | Table) -> str:
    if isinstance(block, Table):
        return _table(block)
    return block.rstrip("\n") if isinstance(block, Markdown) else code_block(block.rstrip("\n"))


def _table(table: Table) -> str:
    title = [_name(table.title) + ":", ""] if table.title else []
    if not table.rows:
        return "\n".join([*title, "(none)"])
    rows = [
        [_name(column) for column in table.columns],
        ["---"] * len(table.columns),
        *([_cell(value) for value in row] for row in table.rows),
    ]
    return "\n".join([*title, *(f"| {' | '.join(row)} |" for row in rows)])


def _name(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else code_span(text)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, tuple):
        return ", ".join(_name(text) for text in value) or "-"
    return _name(str(value)) or "-"
