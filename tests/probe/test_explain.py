"""Reports told to people: harmless to a terminal, complete, with remedies."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import explain, messages, reasons
from tests.sample_reports import CASES, sample_report

MARKS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@given(st.text(st.characters(exclude_categories=[])))
def test_no_text_moves_the_cursor_or_turns_the_direction(text: str):
    shown = messages.printable(text)
    assert len(shown) == len(text)
    assert all(character.isprintable() and character not in MARKS for character in shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain ä 日本", "plain ä 日本"),
        ("\x1b]0;title\x07", "?]0;title?"),
        ("a\r\nb", "a??b"),
        ("x\u202ey", "x?y"),
        (None, "None"),
        (5, "5"),
    ],
)
def test_printable(value, shown):
    assert messages.printable(value) == shown


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("render", [explain.render_text, explain.render_explanation])
def test_every_sample_can_be_told(case: str, render):
    text = render(sample_report(case))
    assert text.endswith("\n")
    assert sample_report(case)["host"]["hostname"] in text.splitlines()[0]


def test_a_good_node_says_so_first():
    report = sample_report("healthy")
    first = explain.render_explanation(report).splitlines()[0]
    assert "containers work" in first
    assert report["singularity"]["version"] in first


def test_each_reason_is_told_with_title_and_remedy():
    report = sample_report("no_userns")
    text = " ".join(explain.render_explanation(report).split())
    failed = {row["reason"] for row in report["checks"] if row["status"] == "fail"} - explain.ABSENT
    assert failed
    for code in failed:
        row = reasons.rows()[code]
        assert row["title"] in text
        assert f"({code})" in text
        for field in ("site_remedy", "factory_remedy"):
            assert " ".join((row[field] or "").split()) in text


def test_an_alternative_that_was_tried_and_works_is_told():
    assert "It works with: SINGULARITY_DISABLE_PID_NAMESPACES=1" in explain.render_explanation(
        sample_report("pid_masked")
    )


def test_a_variable_that_has_to_go_is_told_as_such():
    report = sample_report("healthy")
    good = report["checks"][0] | {"status": "ok"}
    report["singularity"]["alternatives"] = [{"change": {"A": None, "B": "1"}, "check": good}]
    assert "It works with: A unset, B=1 (tried here)" in explain.render_explanation(report)


def test_the_short_form_has_a_line_for_each_check_that_was_tried():
    report = sample_report("no_userns")
    lines = explain.render_text(report).splitlines()
    tried = [row for row in report["checks"] if row["status"] != "skipped"]
    assert len(lines) == 2 + len(tried)
    assert {line[0] for line in lines[2:]} <= set(explain.MARKS.values())


@given(st.text(st.characters(exclude_categories=[])))
def test_hostile_text_in_a_report_does_not_reach_the_terminal(hostile: str):
    report = sample_report(
        "no_userns",
        host__hostname=hostile or "x",
        singularity__message=hostile,
        singularity__version=hostile,
        singularity__path=hostile,
        singularity__reason=hostile,
        singularity__mode=hostile,
    )
    for row in report["checks"]:
        row.update(id=hostile, message=hostile, reason=hostile if row["reason"] else None)
    for render in (explain.render_text, explain.render_explanation):
        for line in render(report).split("\n"):
            assert all(character.isprintable() and character not in MARKS for character in line)
