"""Harmless renderings of hostile text.

Everything a report says was written by a stranger's machine. Each way out has its functions here: terminals and logs
(`printable`, `shorten`), spreadsheets (`csv_cell`), JSON (`escaped_json`), Markdown (`code_span`, `code_block`). HTML is
escaped by Jinja2 (`reports/pages.py`).
"""

import re

ELLIPSIS = "…"
_NOT_ASCII = re.compile(r"[^ -~]")
_BACKQUOTES = re.compile("`+")
# What spreadsheets take for the start of a formula, with the full-width forms that some of them fold.
_FORMULA_STARTS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")


def printable(text: str) -> str:
    """The text with every control, bidi, zero-width, private and line-separating character as a visible escape.

    `str.isprintable` is false for exactly these (Unicode categories Other and Separator, the ASCII space excepted).
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def shorten(text: str, length: int) -> str:
    """`printable` text of at most `length` characters; what is cut shows as an ellipsis."""
    # An escape only lengthens: cutting before escaping as well keeps a text of megabytes cheap.
    clean = printable(text[: length + 1])
    return clean if len(clean) <= length else clean[: length - 1] + ELLIPSIS


def escaped_json(body: bytes) -> bytes:
    """A JSON text whose characters that do not print are written as \\uXXXX, which means the same.

    In JSON nothing but ASCII stands outside of strings, so no parsing is needed.
    """
    text = body.decode()
    if text.isprintable():
        return body
    return _NOT_ASCII.sub(_escape, text).encode()


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable():
        return char
    units = char.encode("utf-16-be").hex()  # four digits, or a surrogate pair of eight
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def csv_cell(value: object) -> object:
    """A value for a CSV cell: text is printable and never a formula; numbers stay numbers; None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return value
    text = printable(str(value))
    return "'" + text if text.lstrip()[:1] in _FORMULA_STARTS else text


def code_span(text: str, length: int = 200) -> str:
    """A text as one code span of Markdown: nothing in it is markup, a link, a @mention or a #reference.

    Backquotes and pipes show as escapes: they would end the span, or the cell of a table around it.
    """
    clean = shorten(text, length).replace("`", "\\x60").replace("|", "\\x7c")
    return f"`{clean}`" if clean.strip() else "`(empty)`"


def code_block(text: str) -> str:
    """Lines as a block of code of Markdown, whose fence is longer than every run of backquotes inside."""
    lines = [printable(line) for line in text.split("\n")]
    longest = max((len(run) for line in lines for run in _BACKQUOTES.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])
