import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.safe_text import csv_cell, escaped_json, printable, shorten


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("plain text, ä and 漢字", "plain text, ä and 漢字"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("line\u2028end", "line\\u2028end"),
        ("\x9b31m", "\\x9b31m"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("\ud800", "\\ud800"),
    ],
)
def test_characters_that_steer_a_terminal_become_visible(hostile: str, harmless: str):
    assert printable(hostile) == harmless


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_shortened_text_is_printable_and_short(text: str, length: int):
    short = shorten(text, length)
    assert short.isprintable()
    assert len(short) <= length


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", "' =1"),
        ("\t=1", "\\t=1"),
        ("\uff1d1", "'\uff1d1"),
        ("a=b", "a=b"),
        (-1, -1),
        (0.5, 0.5),
        (None, ""),
        (True, "true"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_no_csv_cell_is_a_formula(value: object, cell: object):
    assert csv_cell(value) == cell


@given(st.dictionaries(st.text(), st.text(), max_size=4))
def test_escaped_json_means_the_same_and_prints(value: dict[str, str]):
    body = escaped_json(orjson.dumps(value))
    assert orjson.loads(body) == value
    assert body.decode().isprintable()
