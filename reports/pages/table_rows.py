"""The rows of tables as HTML: most of what a page is made of.

Written here, because Jinja's macros took three quarters of a page's time for them. What Jinja does by itself is done
here for every text: characters that do not print become visible (`printable`), and markup is escaped.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup, escape

from reports.pages.links import Links
from reports.pages.model import Cell, Column
from reports.safe_text import printable

_LONG = 32
_VALUE_LENGTH = 64
_NAMES = frozenset({"name", "code"})
# Where a name may go on in the next line: after what joins its parts. Escapes (&lt;) have none of these.
_JOINTS = re.compile(r"(?<=[_./@:])(?=[^\W\d])")


def html_rows(rows: Sequence[Sequence[Cell]], columns: Sequence[Column], links: Links) -> Markup:
    """A line of HTML for each row; its first cell names it, unless that is a number."""
    numeric = [column.numeric for column in columns]
    tags = ["td" if numeric[0] else "th", *["td"] * (len(columns) - 1)]
    places = list(zip(tags, numeric, strict=True))
    return Markup("".join(_row(row, places, links) for row in rows))  # noqa: S704 - every text in it is escaped below


def _row(row: Sequence[Cell], places: Sequence[tuple[str, bool]], links: Links) -> str:
    cells = [_cell(cell, tag, numeric, links) for cell, (tag, numeric) in zip(row, places, strict=True)]
    return f"<tr>{''.join(cells)}</tr>\n"


def _cell(cell: Cell, tag: str, numeric: bool, links: Links) -> str:
    value, text, kind, link, note = cell
    kinds = kind + (" number" if numeric else "") + (" long" if len(text) > _LONG else "")
    opening = '<th scope="row"' if tag == "th" else "<td"
    if kinds:
        opening += f' class="{_repeated(kinds.strip())}"'
    if value is not None and (told := str(value)) != text:
        opening += f' data-v="{_repeated(told[:_VALUE_LENGTH])}"'
    shown = _breakable(text) if kind in _NAMES else _repeated(text)
    address = links.to(link) if link else None
    if address:
        shown = f'<a href="{_safe(address)}">{shown}</a>'
    if note:
        shown += f" <small>{_repeated(note)}</small>"
    return f"{opening}>{shown}</{tag}>"


def breakable(text: str) -> Markup:
    """A name as HTML that breaks between its parts rather than in the middle of one."""
    return Markup(_breakable(text))  # noqa: S704 - it is escaped


def _safe(text: str) -> str:
    return str(escape(printable(text)))


# Most cells say what others say, too: yes, 0, 3 h ago. Cells are cut to some hundred characters, so little is kept.
_repeated = lru_cache(maxsize=8192)(_safe)


@lru_cache(maxsize=8192)
def _breakable(text: str) -> str:
    return _JOINTS.sub("<wbr>", _safe(text))
