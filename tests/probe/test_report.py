"""The report as a document: clean values, capabilities, JSON."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import report as reports
from probe.checks import check
from probe.engine import Run
from probe.registry import DETECTORS
from tests.probe.samples import SCHEMA, settings
from tests.sample_reports import sample_report

NASTY = st.text(st.characters(exclude_categories=[]))  # lone surrogates among them
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NASTY,
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(NASTY, inner, max_size=4),
    max_leaves=12,
)


def strings_of(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in strings_of(item)]
    return [text for item in value for text in strings_of(item)] if isinstance(value, list) else []


@given(JSON_LIKE)
def test_a_cleaned_value_can_be_encoded_and_holds_nothing_that_others_choke_on(value: object):
    cleaned = reports.clean(value)
    assert json.loads(json.dumps(cleaned, allow_nan=False)) == cleaned
    for text in strings_of(cleaned):
        assert "\0" not in text
        text.encode("utf-8")


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=12,
    )
)
def test_a_value_without_such_things_stays_as_it_is(value: object):
    assert reports.clean(value) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1700000000.9999, "2023-11-14T22:13:20.999Z"),
        (1700000000.0005, "2023-11-14T22:13:20.000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(seconds, text):
    assert reports.timestamp(seconds) == text
    assert datetime.fromisoformat(text).utcoffset() is not None


CASES = [
    ("healthy", "singularity", "ok"),
    ("no_runtime", "singularity", "fail"),
    ("healthy", "sandbox", "ok"),
    ("healthy", "user_namespaces", "ok"),
    ("no_userns", "user_namespaces", "fail"),
    ("healthy", "nonsense", None),
    ("healthy", "cvmfs:no.such.repository", "unknown"),
    ("healthy", "", None),
]


@pytest.mark.parametrize(("case", "name", "status"), CASES)
def test_a_capability_has_a_status_by_its_name(case: str, name: str, status: str | None):
    assert reports.capability(sample_report(case), name) == status


def test_every_capability_of_the_table_can_be_asked_of_every_report():
    for name in reports.CAPABILITIES:
        assert reports.capability(sample_report("no_runtime"), name) in ("ok", "fail", "unknown", "timeout", "skipped")


def test_cvmfs_is_ok_only_where_every_repository_is():
    report = sample_report("cvmfs_hung")
    assert reports.capability(report, "cvmfs") == "fail"
    report["cvmfs"]["repositories"] = []
    assert reports.capability(report, "cvmfs") == "unknown"


def test_an_image_that_was_pulled_and_ran_decides_on_registries():
    row = check("singularity.features.registry", "ok", duration_s=1.5)
    data = {"rows": [], "coverage": None, "features": {"registry": row}}
    run = Run({"images": {"data": data, "checks": [row]}}, True, False, [])
    report = reports.compose(settings(), DETECTORS, run, 0.0, 0.0)
    assert reports.capability(report, "registry") == "ok"
    assert report["singularity"]["features"]["registry"] == row
    assert [item["status"] for item in report["checks"] if item["id"] == row["id"]] == ["ok"]


def test_a_report_of_a_run_in_which_nothing_answered_fits_the_schema():
    from jsonschema import Draft202012Validator

    report = reports.compose(settings(), DETECTORS, Run({}, False, True, []), 0.0, 0.0)
    assert [error.message for error in Draft202012Validator(SCHEMA).iter_errors(report)] == []
    assert report["complete"] is False
    assert report["singularity"]["usable"] is None


def test_json_is_one_line_of_ascii():
    text = reports.to_json(sample_report(host__hostname="né\n"))
    assert text.isascii()
    assert "\n" not in text
