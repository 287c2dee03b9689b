"""The sample reports are what they claim to be: reports."""

import json
from pathlib import Path

import jsonschema
import pytest

from tests.sample_reports import CASES, sample_report

SCHEMA = json.loads((Path(__file__).parents[1] / "reports/schema/report-1.0.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES)
def test_sample_report_fits_the_schema(case: str) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert [error.message for error in validator.iter_errors(sample_report(case))] == []


def test_changes_are_set_by_path_and_unknown_paths_are_refused() -> None:
    assert sample_report(glidein__entry="E2")["glidein"]["entry"] == "E2"
    with pytest.raises(KeyError, match="glidein__entri"):
        sample_report(glidein__entri="E2")
