"""Proposals: what follows from which nodes, and that nothing hostile becomes configuration."""

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from site_db.proposals import Proposal, Proposals, derive_proposals
from site_db.render_xml import render_xml, xml_text
from site_db.render_yaml import render_yaml
from site_db.rules import default_rules
from site_db.verdicts import NodeGroup
from tests.sample_reports import check, gpu_device, sample_report
from tests.site_db.groups import group, groups
from tests.site_db.submissions import NOW

RULES = default_rules()
REQUIRE = "GLIDEIN_SINGULARITY_REQUIRE"
NO_PID = "SINGULARITY_DISABLE_PID_NAMESPACES"
SLOTS = "GLIDEIN_Resource_Slots"


def _values(found: list[NodeGroup]) -> dict[str, str]:
    return {item.attribute: item.value for item in derive_proposals(found, RULES).proposals}


@pytest.mark.parametrize(
    ("cases", "expected"),
    [
        ({"healthy": 3}, {REQUIRE: "PREFERRED"}),
        ({"privileged": 1, "healthy": 1}, {REQUIRE: "PREFERRED"}),
        ({"no_runtime": 2}, {REQUIRE: "NEVER"}),
        ({"no_runtime": 2, "healthy": 1}, {REQUIRE: "OPTIONAL"}),
        ({"deadline": 2}, {}),
        ({}, {}),
        ({"pid_masked": 2}, {REQUIRE: "PREFERRED", NO_PID: "1"}),
        ({"pid_masked": 2, "healthy": 1}, {REQUIRE: "PREFERRED", NO_PID: "1"}),
        ({"pid_masked": 2, "no_runtime": 1}, {REQUIRE: "NEVER"}),
        ({"pid_masked": 2, "no_runtime": 1, "healthy": 1}, {REQUIRE: "OPTIONAL"}),
        ({"gpu": 4}, {REQUIRE: "PREFERRED", SLOTS: "GPUs,2,type=main"}),
        ({"gpu": 4, "healthy": 1}, {REQUIRE: "PREFERRED"}),
    ],
)
def test_what_the_nodes_say_is_what_is_proposed(cases: Mapping[str, int], expected: dict[str, str]) -> None:
    assert _values(groups(cases)) == expected


def test_a_proposal_says_why_and_rests_on_reports() -> None:
    found = groups({"pid_masked": 2, "healthy": 1})
    change, require = derive_proposals(found, RULES).proposals
    assert "2 nodes" in change.reason
    assert "proc_masked" in change.reason
    assert "not tried on the 1 node " in change.reason
    assert (change.nodes, change.report_ids) == (2, (found[0].report_id,))
    assert NO_PID in require.reason


def _with_alternatives(*changes: dict[str, str | None], status: str = "ok") -> NodeGroup:
    report = sample_report("pid_masked")
    reason = None if status == "ok" else "proc_masked"
    report["singularity"]["alternatives"] = [
        {"change": change, "check": check("a", status, reason)} for change in changes
    ]
    return group(report)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"--userns": None}, {"GLIDEIN_SINGULARITY_OPTS": "--userns"}),
        ({"--userns": None, "--no-home": None}, {"GLIDEIN_SINGULARITY_OPTS": "--no-home --userns"}),
        ({"SINGULARITY_BIN": "/opt/apptainer/bin"}, {"SINGULARITY_BIN": "/opt/apptainer/bin"}),
        ({"SINGULARITY_BIN": "OSG"}, {"SINGULARITY_BIN": "OSG"}),
        ({NO_PID: "1", "--userns": None}, {NO_PID: "1", "GLIDEIN_SINGULARITY_OPTS": "--userns"}),
    ],
)
def test_a_change_becomes_attributes(change: dict[str, str | None], expected: dict[str, str]) -> None:
    assert _values([_with_alternatives(change)]) == {REQUIRE: "PREFERRED", **expected}


@pytest.mark.parametrize(
    "change",
    [
        {"SINGULARITY_BIN": "/tmp/evil"},
        {"SINGULARITY_BIN": "/usr/../tmp/evil"},
        {"SINGULARITY_BIN": "/usr/bin\n"},
        {"SINGULARITY_BIN": '/usr/bin"/><attr name="x'},
        {"SINGULARITY_BIN": "/usr/$(reboot)"},
        {"SINGULARITY_BIN": "/scratch/glide_aBcDeF/bin"},
        {"SINGULARITY_BIN": "/opt/glide_aBcDeF/bin"},
        {"SINGULARITY_BIN": None},
        {"SINGULARITY_BIN": ""},
        {NO_PID: "0"},
        {NO_PID: "1\n"},
        {"--writable": None},
        {"--userns": "x y"},
        {"--bind": "/:/host"},
        {"-u;reboot": None},
        {"PATH": "/usr/bin"},
        {"GLIDEIN_SINGULARITY_REQUIRE": "NEVER"},
        {"GLIDEIN_Resource_Slots": "GPUs,8,type=main"},
        {NO_PID: "1", "LD_PRELOAD": "/tmp/x"},
    ],
)
def test_what_is_not_on_the_allow_list_is_a_note_and_no_proposal(change: dict[str, str | None]) -> None:
    derived = derive_proposals([_with_alternatives(change)], RULES)
    assert {item.attribute: item.value for item in derived.proposals} == {REQUIRE: "NEVER"}
    assert derived.notes


def test_the_change_that_helps_everywhere_and_changes_least_is_taken() -> None:
    everywhere: dict[str, str | None] = {"--userns": None}
    first = _with_alternatives({NO_PID: "1"}, everywhere, {NO_PID: "1", "--userns": None})
    second = _with_alternatives({NO_PID: "1", "--userns": None}, everywhere, {"SINGULARITY_BIN": "/opt/b"})
    assert _values([first, second]) == {REQUIRE: "PREFERRED", "GLIDEIN_SINGULARITY_OPTS": "--userns"}
    assert _values([first]) == {REQUIRE: "PREFERRED", NO_PID: "1"}


def test_an_alternative_that_failed_is_not_proposed() -> None:
    assert _values([_with_alternatives({NO_PID: "1"}, status="fail")]) == {REQUIRE: "NEVER"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gpus__visible": ["0"]}, "not always the same number"),
        ({"gpus__container": check("c", "fail", "gpu_container_failed")}, "not inside the container"),
        ({"gpus__status": "fail", "gpus__reason": "gpu_driver_mismatch"}, "one resource line"),
    ],
)
def test_gpus_that_are_not_alike_are_a_note(changes: dict[str, Any], words: str) -> None:
    derived = derive_proposals([group(sample_report("gpu")), group(sample_report("gpu", **changes))], RULES)
    assert SLOTS not in {item.attribute for item in derived.proposals}
    assert any(words in note for note in derived.notes)


def test_more_gpus_than_a_node_has_are_not_proposed() -> None:
    many = sample_report("gpu", gpus__visible=None, gpus__devices=[gpu_device(str(number)) for number in range(64)])
    assert _values([group(many)])[SLOTS] == "GPUs,64,type=main"
    none = sample_report("gpu", gpus__visible=[])
    assert SLOTS not in _values([group(none)])


def _proposals(entry: str, values: Mapping[str, str]) -> Proposals:
    items = tuple(Proposal(name, value, "string", "because", "high", 1, ()) for name, value in values.items())
    return Proposals(entry, "f", "s", NOW, items, ())


def test_the_xml_looks_like_the_factorys_own() -> None:
    text = render_xml(_proposals("E", {NO_PID: "1", SLOTS: "GPUs,1,type=main"}))
    assert text.splitlines()[2:4] == [
        f'            <attr name="{SLOTS}" const="True" glidein_publish="True" job_publish="False" parameter="True"'
        ' publish="True" type="string" value="GPUs,1,type=main"/>',
        f'            <attr name="{NO_PID}" const="True" glidein_publish="True" job_publish="False" parameter="True"'
        ' publish="True" type="string" value="1"/>',
    ]


def test_the_yaml_is_nested_as_autoconf_wants() -> None:
    text = render_yaml(_proposals("E", {REQUIRE: "NEVER"}))
    assert text == f'"E":\n  attrs:\n    {REQUIRE}:\n      value: "NEVER"\n'


@given(entry=st.text(max_size=30), value=st.text(max_size=60))
def test_hostile_text_comes_back_from_xml_as_text(entry: str, value: str) -> None:
    element = ET.fromstring(render_xml(_proposals(entry, {"SINGULARITY_BIN": value, REQUIRE: "NEVER"})))
    assert element.get("name") == xml_text(entry)
    attrs = element.findall("attrs/attr")
    assert [attr.get("name") for attr in attrs] == [REQUIRE, "SINGULARITY_BIN"]
    assert attrs[1].get("value") == xml_text(value)


@given(
    entry=st.text(max_size=30) | st.sampled_from(["NO", "on", "~", "1_0", "12:30:45", "1e3", "- a", "a: b", "#", "<<"]),
    value=st.text(max_size=60) | st.sampled_from(["yes", "null", "0x10", "&a", "*a", "!x", '"', "a\n--- b", "{", "%Y"]),
)
def test_hostile_text_comes_back_from_yaml_as_text_and_from_the_xml_made_of_it(entry: str, value: str) -> None:
    text = render_yaml(_proposals(entry, {"SINGULARITY_BIN": value}))
    for version in ((1, 1), (1, 2)):  # the factory's reader knows 1.1
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version  # type: ignore[assignment]  # takes a pair
        ((name, found),) = yaml.load(text).items()
        assert name == xml_text(entry)
        pasted = found["attrs"]["SINGULARITY_BIN"]["value"]
        assert ET.fromstring(f'<attr value="{pasted}"/>').get("value") == xml_text(value)
