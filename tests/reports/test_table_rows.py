"""Rows of tables as HTML: what they say, and that no text in them can be anything but text."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.pages.arranging import arrange
from reports.pages.asked import Asked
from reports.pages.links import ServedLinks
from reports.pages.model import Cell, Column, Grid, RowsOf, Target
from reports.pages.table_rows import html_rows

COLUMNS = [Column("name", "Name"), Column("nodes", "Nodes", numeric=True)]
HOSTILE = '"><script>alert(1)</script>\x1b[2J\u202e&'


def html(*cells: Cell) -> str:
    return str(html_rows([cells], COLUMNS[: len(cells)], ServedLinks("/root")))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (Cell("a", "a"), '<tr><th scope="row">a</th></tr>\n'),
        (Cell(None, "-", "unknown"), '<tr><th scope="row" class="unknown">-</th></tr>\n'),
        (Cell(0.5, "50%", "mixed"), '<tr><th scope="row" class="mixed" data-v="0.5">50%</th></tr>\n'),
        (
            Cell("a/b", "a/b", "name", Target("site", "a/b")),
            '<tr><th scope="row" class="name"><a href="/root/sites/a%2Fb">a/<wbr>b</a></th></tr>\n',
        ),
        (Cell("..", "..", "", Target("site", "..")), '<tr><th scope="row">..</th></tr>\n'),
        (Cell("x", "x", "", None, "1 h ago"), '<tr><th scope="row">x <small>1 h ago</small></th></tr>\n'),
        (Cell("y" * 33, "y" * 33), f'<tr><th scope="row" class="long">{"y" * 33}</th></tr>\n'),
    ],
)
def test_a_cell(cell: Cell, expected: str):
    assert html(cell) == expected


def test_a_number_is_aligned_and_names_no_row():
    assert html(Cell("a", "a"), Cell(1000, "1,000")).endswith('<td class="number" data-v="1000">1,000</td></tr>\n')
    assert str(html_rows([[Cell(1, "1")]], COLUMNS[1:], ServedLinks())) == '<tr><td class="number">1</td></tr>\n'


def test_only_rows_that_are_shown_are_made():
    made: list[int] = []

    def row_of(number: int) -> list[Cell]:
        made.append(number)
        return [Cell(number, str(number))]

    grid = Grid("numbers", "Numbers", COLUMNS[:1], RowsOf(range(1000), row_of), True)
    assert [row[0].value for row in arrange(grid, Asked({"rows": "2", "page": "3"})).rows] == made == [4, 5]
    assert [row[0].value for row in arrange(grid, Asked({"rows": "2", "sort": f"-{COLUMNS[0].key}"})).rows] == [999, 998]


class Parts(HTMLParser):
    """The tags of a piece of HTML, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - HTMLParser gives it
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text() | st.just(HOSTILE), st.text() | st.just(HOSTILE))
def test_whatever_a_cell_says_is_text(said: str, note: str):
    parts = Parts()
    parts.feed(html(Cell(said + "!", said, "name", Target("site", said), note)))
    link = ["a"] if said not in ("", ".", "..") else []
    assert [tag for tag in parts.tags if tag != "wbr"] == ["tr", "th", *link, *(["small"] if note else [])]
    assert parts.text.rstrip("\n").isprintable()
