"""GPUs in configuration: what GLIDEIN_Resource_Slots claims, what is proposed, what disagrees; also on real files."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_db.configuration.catalogue import Configured, Measured
from site_db.configuration.drift import find_drift
from site_db.configuration.drift_rules import default_drift_rules
from site_db.configuration.importing import Beside, read_configuration
from site_db.configuration.model import Entry, Setting
from site_db.configuration.present import against
from site_db.configuration.resource_slots import gpu_claim, with_gpus
from site_db.proposals import derive_proposals
from site_db.rules import default_rules
from site_db.verdicts import NodeGroup
from tests.sample_reports import Report, check, sample_report
from tests.shared_data import shared_data
from tests.site_db.groups import group

RULES = default_rules()
SLOTS, REQUEST = "GLIDEIN_Resource_Slots", "Request_GPUs"


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [
        ("GPUs,1,type=main", "GPUs,1,type=main", 1),
        ("GPUs,type=main", "GPUs,type=main", None),
        ("GPUs", "GPUs", None),
        ("gpus, 8 ,1024", "gpus, 8 ,1024", 8),
        ("ioslot,4,512; GPUs,2,type=main", "GPUs,2,type=main", 2),
        ("GPUs,type=main,number=4", "GPUs,type=main,number=4", 4),
        ("GPUs,type=main,2", "GPUs,type=main,2", 2),
        ("GPUs,0", "GPUs,0", 0),
        ("GPUs,all", "GPUs,all", None),
        ("GPUs,99999999999", "GPUs,99999999999", None),
    ],
)
def test_a_claim_is_read(value: str, text: str, number: int | None) -> None:
    assert gpu_claim(value) == (text, number)


@pytest.mark.parametrize("value", [None, "", ";", "ioslot,4", "GPUsomething,1", "Disks,1,type=GPUs"])
def test_other_resources_are_no_claim(value: str | None) -> None:
    assert gpu_claim(value) is None


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ("", "GPUs,2,type=main"),
        ("ioslot,4", "ioslot,4;GPUs,2,type=main"),
        ("ioslot,4; ", "ioslot,4;GPUs,2,type=main"),
        ("GPUs,1,type=main", "GPUs,2,type=main"),
        ("GPUs,2,4096,type=static", "GPUs,2,4096,type=static"),
        ("GPUs,1,4096,type=static;ioslot,1", "GPUs,2,4096,type=static;ioslot,1"),
        ("GPUs,type=main,number=1", "GPUs,type=main,number=2"),
        ("GPUs,type=main", "GPUs,type=main"),
    ],
)
def test_a_new_claim_leaves_everything_else(present: str, expected: str) -> None:
    assert with_gpus(present, "GPUs,2,type=main") == expected


@given(value=st.text(alphabet="GPUsgpu,;=012 mainumbert", max_size=40), number=st.integers(1, 64))
def test_after_a_proposal_there_is_nothing_left_to_change(value: str, number: int) -> None:
    wanted = f"GPUs,{number},type=main"
    after = with_gpus(value, wanted)
    claim = gpu_claim(after)
    assert claim is not None
    assert claim.number in (None, number)
    assert with_gpus(after, wanted) == after


UNSAID = object()


def _node(nodes: int = 1, case: str = "gpu", sees: object = UNSAID, **changes: object) -> NodeGroup:
    report = sample_report(case, **changes)
    if sees is not UNSAID:
        report["gpus"]["visible_count"] = sees
    return group(report, nodes)


def _broken(nodes: int, **changes: object) -> NodeGroup:
    return _node(nodes, gpus__status="fail", gpus__reason="gpu_driver_mismatch", **changes)


def _proposed(found: list[NodeGroup]) -> str | None:
    values = {item.attribute: item.value for item in derive_proposals(found, RULES).proposals}
    return values.get(SLOTS)


NOT_INSIDE = check("gpus.container", "fail", "gpu_container_failed")


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([_node(4)], "GPUs,2,type=main"),
        ([_node(19), _broken(1)], "GPUs,2,type=main"),
        ([_node(8), _broken(2)], None),
        ([_node(19), _node(1, "healthy")], None),
        ([_node(19), _node(1, gpus__status="timeout", gpus__reason="gpu_timeout")], "GPUs,2,type=main"),
        ([_node(4), _node(1, "deadline", gpus__status="unknown", gpus__reason="deadline_reached")], "GPUs,2,type=main"),
        ([_node(19), _node(1, sees=1)], None),
        ([_node(4, gpus__visible=["na"], sees=0)], None),
        ([_node(4, sees=None)], None),
        ([_node(19), _node(1, gpus__container=NOT_INSIDE)], "GPUs,2,type=main"),
        ([_node(4), _node(1, gpus__container=NOT_INSIDE)], None),
        ([_node(4, "healthy")], None),
        ([_broken(4)], None),
    ],
)
def test_gpus_are_proposed_where_nodes_are_of_one_kind_and_most_work(
    nodes: list[NodeGroup], expected: str | None
) -> None:
    assert _proposed(nodes) == expected


def test_nodes_of_two_kinds_are_a_note_that_tells_both_numbers() -> None:
    notes = derive_proposals([_node(19), _node(1, "healthy")], RULES).notes
    assert any("19 of 20" in note and "1 have none" in note for note in notes)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({}, "GPUs,2,type=main"),
        ({SLOTS: "ioslot,4"}, "ioslot,4;GPUs,2,type=main"),
        ({SLOTS: "GPUs,1,type=main"}, "GPUs,2,type=main"),
        ({SLOTS: "GPUs,2,type=main"}, None),
        ({SLOTS: "GPUs,type=main"}, None),
    ],
)
def test_a_proposal_takes_no_other_resource_away(present: Mapping[str, str], expected: str | None) -> None:
    changes = against(derive_proposals([_node(8)], RULES), present)
    assert {item.attribute: item.value for item in changes.proposals}.get(SLOTS) == expected
    assert any(note.startswith(f"{SLOTS}=") for note in changes.notes) == (present.get(SLOTS) == "GPUs,type=main")


def _entry(slots: str | None, request: str | None, gridtype: str) -> Entry:
    attrs = {} if slots is None else {SLOTS: Setting(SLOTS, slots)}
    submit = {} if request is None else {REQUEST: Setting(REQUEST, request)}
    return Entry("E", 1, True, "ce", gridtype, attrs, submit)


def _gpu_drift(entry: Entry, *reports: Report) -> dict[str, tuple[int, int]]:
    measured = Measured([group(report) for report in reports], "entry")
    found = find_drift(Configured(entry, "f", "f.xml"), measured, default_drift_rules(), RULES, {}.get)
    return {item.rule: (item.nodes_affected, item.nodes_measured) for item in found if "gpu" in item.rule}


NONE, WORKS = sample_report(), sample_report("gpu")
HUNG = sample_report("gpu", gpus__status="timeout", gpus__reason="gpu_timeout")
INSIDE = sample_report("gpu", gpus__container=NOT_INSIDE)
LATE = sample_report("gpu", gpus__status="unknown", gpus__reason="deadline_reached")


@pytest.mark.parametrize(
    ("slots", "request_gpus", "gridtype", "reports", "expected"),
    [
        ("GPUs,2,type=main", "2", "condor", [WORKS], {}),
        (
            "GPUs,2,type=main",
            "2",
            "condor",
            [NONE],
            {"gpus_where_none_are": (1, 1), "requested_gpus_not_given": (1, 1)},
        ),
        ("GPUs,2,type=main", None, "condor", [NONE], {"gpus_where_none_are": (1, 1), "gpus_not_requested": (1, 1)}),
        ("GPUs,2,type=main", "0", "condor", [NONE], {"gpus_where_none_are": (1, 1), "gpus_not_requested": (1, 1)}),
        ("GPUs,2,type=main", None, "arc", [NONE], {"gpus_where_none_are": (1, 1)}),
        ("GPUs,2,type=main", None, "condor", [WORKS], {}),
        ("gpus,type=main", None, "condor", [WORKS, HUNG], {"gpus_where_none_are": (1, 2)}),
        ("GPUs,0", None, "condor", [NONE], {}),
        ("GPUs,4;ioslot,1", "4", "condor", [WORKS], {"wrong_gpu_count": (1, 1), "requested_gpus_not_given": (1, 1)}),
        ("ioslot,1;GPUs,number=4", None, "condor", [WORKS], {"wrong_gpu_count": (1, 1)}),
        ("ioslot,4;GPUs,2,type=main", None, "condor", [WORKS], {}),
        ("GPUs,2", None, "condor", [INSIDE, WORKS], {"gpus_not_inside": (1, 2)}),
        ("GPUs,2", "2", "condor", [LATE], {}),
        (None, None, "condor", [WORKS], {"gpus_not_configured": (1, 1)}),
        ("ioslot,4", None, "condor", [WORKS, NONE], {"gpus_not_configured": (1, 2)}),
        (None, None, "condor", [WORKS, NONE, HUNG], {}),
        (None, None, "condor", [NONE], {}),
    ],
)
def test_what_disagrees_about_gpus(
    slots: str | None,
    request_gpus: str | None,
    gridtype: str,
    reports: list[Report],
    expected: dict[str, tuple[int, int]],
) -> None:
    assert _gpu_drift(_entry(slots, request_gpus, gridtype), *reports) == expected


def test_a_finding_about_a_submit_attribute_says_what_to_add() -> None:
    entry = _entry("GPUs,1,type=main", None, "condor")
    measured = Measured([group(NONE)], "entry")
    found = find_drift(Configured(entry, "f", "f.xml"), measured, default_drift_rules(), RULES, {}.get)
    [item] = [item for item in found if item.rule == "gpus_not_requested"]
    assert (item.attribute, item.configured) == (REQUEST, None)
    assert f'<submit_attr name="{REQUEST}"' in item.remedy


FILES = ("10-noncms-osg.xml", "15-noncms-arc.xml", "OSG_autoconf/10-hosted-ces.auto.yml")


def _real_entries() -> list[Entry]:
    return [entry for name in FILES for entry in read_configuration(shared_data("factory", name), Beside())[1].entries]


def test_every_claim_of_the_real_files_is_read() -> None:
    """All that say GPUs, counted by another way of reading: the text between commas."""
    values = [entry.value(SLOTS) or "" for entry in _real_entries()]
    saying = [value for value in values if "gpu" in value.lower()]
    claims = [gpu_claim(value) for value in values]
    assert len(saying) >= 35
    assert Counter(claim.number for claim in claims if claim) == Counter(
        int(value.split(",")[1]) if value.split(",")[1].isdigit() else None for value in saying
    )
    assert all(with_gpus(value, gpu_claim(value).text) == value for value in saying)  # type: ignore[union-attr]  # they claim


def test_on_the_real_files_a_node_without_gpus_contradicts_exactly_the_claims() -> None:
    for entry in _real_entries():
        claim = gpu_claim(entry.value(SLOTS))
        found = _gpu_drift(entry, NONE)
        assert ("gpus_where_none_are" in found) == (claim is not None and claim.number != 0)
        offered = _gpu_drift(entry, WORKS)
        assert ("gpus_not_configured" in offered) == (claim is None)
        assert ("wrong_gpu_count" in offered) == (claim is not None and claim.number not in (None, 2))
