"""Checks: their shape, their limits, the decisive lines."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import checks, reasons


@pytest.mark.parametrize(
    ("status", "reason"), [("ok", "probe_error"), ("fail", None), ("bad", "probe_error"), ("", None)]
)
def test_a_status_without_its_reason_is_refused(status, reason):
    with pytest.raises(ValueError, match="x"):
        checks.check("x", status, reason)


def test_a_check_has_the_remedies_of_site_and_factory():
    row = checks.check("x", "fail", "runtime_not_found", "m", 0.123456)
    assert row["remedy"] == reasons.remedy("runtime_not_found")
    assert "Factory: " in row["remedy"]
    assert (row["duration_s"], row["evidence"]) == (0.1235, {})


def test_evidence_is_bounded_and_none_is_left_out():
    row = checks.check("x", "ok", None, "m" * 5000, None, a=None, b="y" * 5000, c=["z" * 5000] * 100, d=0, e=False)
    assert len(row["message"]) == len(row["evidence"]["b"]) == checks.TEXT_LIMIT
    assert [len(line) for line in row["evidence"]["c"]] == [checks.TEXT_LIMIT] * checks.LINES_LIMIT
    assert (row["evidence"]["d"], row["evidence"]["e"], "a" in row["evidence"]) == (0, False, False)


@pytest.mark.parametrize(
    ("text", "count", "lines"),
    [
        ("", 6, []),
        ("a\n\n b \n", 6, ["a", "b"]),
        ("a\nb\nc\n", 2, ["b", "c"]),
        ("\x1b[31mFATAL:   \x1b[0mx\x1b(B\n", 6, ["FATAL:   x"]),
        ("a\r\nb\r\n", 6, ["a", "b"]),
    ],
)
def test_decisive_lines_are_the_last_that_say_something(text, count, lines):
    assert checks.decisive_lines(text, count) == lines


@given(st.text(st.characters(exclude_categories=[])))
def test_no_text_breaks_the_decisive_lines(text: str):
    assert all(line.strip() == line and line for line in checks.decisive_lines(text))
