"""ClassAd lines, read back by HTCondor's own parser with the startd's rules."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import classad
from tests.sample_reports import CASES, sample_report

classad2 = pytest.importorskip("classad2")


def read(line: str) -> object:
    """What HTCondor makes of one line, in the syntax that the startd reads from a cron job."""
    return classad2.parseOne(line)["A"]


NASTY = [
    "plain",
    'a "quoted" word',
    "back\\slash",
    "\\",
    "ends with \\",
    "two \\\\",
    '\\"',
    'a\\"b',
    "\\n",
    "$(HOME)",
    "a;b=c",
    "[x]",
    "{1,2}",
    "# no comment",
    "- dash",
    "it's",
    "/* c */ // d",
    "undefined",
    "true",
    "1.4.5",
    "äöü €",
    "日本",
    "  leading",
    "%s",
]


@pytest.mark.parametrize("text", NASTY)
def test_a_string_comes_back_equal_but_for_a_blank_after_a_last_backslash(text: str):
    expected = text + " " if text.endswith("\\") else text
    assert read("A = " + classad.expression(text)) == expected


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines", "two?lines"),
        ("a\r\nb", "a??b"),
        ("tab\there", "tab?here"),
        ("nul\0", "nul?"),
        ("\x1b[31mred", "?[31mred"),
        ("right\u202eleft", "right?left"),
        ("line\u2028separator", "line?separator"),
        ("\ud800", "?"),
        ("trailing blanks   ", "trailing blanks"),
        ("", ""),
    ],
)
def test_what_breaks_lines_terminals_or_readers_is_replaced(text: str, shown: str):
    assert read("A = " + classad.expression(text)) == shown


def test_a_long_string_is_cut_far_below_what_the_startd_loses():
    line = "A = " + classad.expression("x" * 10240)
    assert read(line) == "x" * classad.STRING_LIMIT


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (["a", "b"], "a,b"),
        (["x" * 996, "yyy"], "x" * 996 + ",yyy"),
        (["x" * 996, "yyyy"], "x" * 996 + ",..."),
        (["x" * 997, "y"], "x" * 997 + ",y"),
        (["x" * 998, "yy"], "..."),
        (["x" * 1001], "..."),
        ([f"repository-{number:03d}.example.org" for number in range(60)], None),
    ],
)
def test_a_list_is_cut_between_names_and_says_so(names: list[str], expected: str | None):
    text = classad.listed(names)
    assert len(text) <= classad.STRING_LIMIT
    if expected is None:
        *whole, dots = text.split(",")
        assert (whole, dots) == (names[: len(whole)], "...")
    else:
        assert text == expected


def test_a_report_with_more_repositories_than_fit_names_whole_ones():
    report = sample_report("healthy")
    names = [f"repository-{number:03d}.example.org" for number in range(60)]
    row = {"reason": "cvmfs_hung", "revision": None}
    rows = [dict(row, name=name, status=status) for name in names for status in ("ok", "timeout")]
    report["cvmfs"]["repositories"] = rows
    found = classad.attributes(report)
    assert set(str(found["PROBE_CVMFS_OK"]).split(",")) <= {*names, "..."}
    assert set(str(found["PROBE_CVMFS_FAILED"]).split(",")) <= {*(name + ":cvmfs_hung" for name in names), "..."}


@given(st.text(st.characters(exclude_categories=[])))
def test_any_string_is_one_good_line(text: str):
    line = "A = " + classad.quote(text)
    line.encode("utf-8")
    assert len(line.splitlines()) == 1
    value = read(line)
    assert isinstance(value, str)
    assert value.strip() == "".join(c if c.isprintable() else "?" for c in text[: classad.STRING_LIMIT]).strip()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (False, False), (0, 0), (-5, -5), (2**40, 2**40), (None, classad2.Value.Undefined)],
)
def test_values_keep_their_types(value, expected):
    found = read("A = " + classad.expression(value))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("case", CASES)
def test_a_report_becomes_an_ad_with_the_types_of_the_table(case: str):
    text = classad.render(sample_report(case))
    ad = classad2.parseOne(text)
    types = {"string": str, "integer": int, "boolean": bool}
    assert set(ad) <= set(classad.ATTRIBUTES)
    assert len(ad) == len(text.splitlines())
    for name in ad:
        assert type(ad[name]) is types[classad.ATTRIBUTES[name][0]], name


def test_what_is_unknown_is_undefined_never_false_or_zero():
    report = sample_report("no_runtime", gpus__status="unknown", gpus__reason="probe_error", gpus__devices=[])
    names = {line.split(" = ")[0] for line in classad.render(report).splitlines()}
    assert not names & {"PROBE_GPUS", "PROBE_SINGULARITY_MODE", "PROBE_SINGULARITY_VERSION"}


def test_a_node_without_gpus_has_zero_of_them():
    assert "PROBE_GPUS = 0" in classad.render(sample_report("healthy")).splitlines()


def test_no_line_begins_with_a_dash_which_would_end_the_ad():
    assert not any(line.startswith("-") for line in classad.render(sample_report("healthy")).splitlines())
