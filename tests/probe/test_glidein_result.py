"""otrb_output.xml: well-formed whatever the texts are, and its status that of the exit code."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe import glidein_result
from probe.glidein_result import Missing, missing, render
from tests.sample_reports import sample_report


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)


@given(st.text(), st.text())
def test_hostile_texts_stay_texts(message: str, value: str):
    text = render(Missing("sif", "fail", "runtime_failed", message, "<detail>"), {"PROBE_STATUS": value})
    root = parsed(text)
    assert text.isascii()
    assert (root.get("id"), root.findtext("result/status")) == ("singularity-probe", "ERROR")
    assert len(root.findall("detail")) == 1
    # The glidein's awk takes what stands between lines with these words.
    assert [text.count(word) for word in ("<detail>", "</detail>", "<metric ")] == [1, 1, 2]
    assert len(text.splitlines()) == 11


def test_all_is_well_without_an_error():
    root = parsed(render(None, {"PROBE_STATUS": "ok"}))
    assert root.findtext("result/status") == "OK"
    assert root.find("detail") is None
    assert [row.get("uri") for row in root.iter("metric")] == ["local"]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("gpu_none", "WN_Resource"), ("registry_unreachable", "Network"), ("image_missing", "VO_Config"), (None, "WN_Resource")],
)
def test_the_type_is_by_the_reason(reason: str | None, expected: str):
    assert Missing("x", "fail", reason, None, None).error_type == expected


def names(report: dict[str, Any], required: list[str], also_unknown: bool = False) -> list[str]:
    return [row.name for row in missing(report, required, also_unknown)[0]]


def test_what_fails_is_missing_what_is_unknown_only_where_asked():
    report = sample_report("no_runtime")
    assert names(report, ["singularity"]) == ["singularity"]
    told = missing(report, ["singularity"], False)[0][0]
    assert told.reason == "runtime_not_found"
    assert told.remedy is not None
    healthy = sample_report("healthy")
    assert names(healthy, ["singularity", "registry"]) == []
    assert names(healthy, ["singularity", "registry"], True) == ["registry"]
    assert missing(healthy, ["nonsense"], True) == ([], ["nonsense"])


def test_every_type_is_one_of_glideinwms():
    known = {"WN_Resource", "Network", "Config", "VO_Config", "Corruption", "VO_Proxy"}
    assert set(glidein_result.ERROR_TYPES.values()) <= known
