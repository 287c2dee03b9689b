"""Configuration against measurement: findings, proposals as changes, policy, and the edited file."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from site_db.configuration.applying import edit, plan
from site_db.configuration.catalogue import Configured, Measured
from site_db.configuration.drift import check_drift, find_drift
from site_db.configuration.drift_rules import default_drift_rules
from site_db.configuration.editing import Change
from site_db.configuration.factory_xml import parse_factory_xml
from site_db.configuration.importing import Beside, import_files, read_configuration
from site_db.configuration.model import BrokenFile
from site_db.configuration.present import propose_against_configuration
from site_db.errors import UnknownName
from site_db.rules import default_rules
from site_db.store import Store
from tests.sample_reports import Report, check, runtime, sample_report
from tests.site_db.factory_files import ENTRY, SITE, factory_xml, write_factory, write_policy
from tests.site_db.groups import group
from tests.site_db.submissions import NOW, sample, submission

REQUIRE, SLOTS, NO_PID = "GLIDEIN_SINGULARITY_REQUIRE", "GLIDEIN_Resource_Slots", "SINGULARITY_DISABLE_PID_NAMESPACES"
OPTIONS = "GLIDEIN_SINGULARITY_OPTS"
USERNS = {"change": {"--userns": None}, "check": check("a")}
ARM_DICT = "default:/cvmfs/x/el9:aarch64"


def _found(attrs: Mapping[str, str], *reports: Report, joined_by: str = "entry") -> dict[str, tuple[int, int]]:
    [entry] = parse_factory_xml(factory_xml({ENTRY: attrs}).encode(), "f.xml").entries
    by_id = {report["report_id"]: report for report in reports}
    measured = Measured([group(report) for report in reports], joined_by)  # type: ignore[arg-type]  # of a table
    found = find_drift(Configured(entry, "f", "f.xml"), measured, default_drift_rules(), default_rules(), by_id.get)
    return {item.rule: (item.nodes_affected, item.nodes_measured) for item in found}


def _with(case: str = "healthy", **changes: object) -> Report:
    return sample_report(case, **changes)


def _no_cvmfs() -> Report:
    return _with(cvmfs__kind="none")


def _sif(status: str, reason: str | None, mode: str = "unprivileged") -> Report:
    report = _no_cvmfs()
    report["singularity"]["features"]["sif"] = check("singularity.features.sif", status, reason)
    report["singularity"]["mode"] = mode
    return report


def _from(place: str) -> Report:
    return _with(runtimes=[{**runtime(), "found_by": place}])


@pytest.mark.parametrize(
    ("attrs", "reports", "expected"),
    [
        ({}, [_with()], {}),
        ({REQUIRE: "REQUIRED"}, [_with(), _with("no_runtime")], {"requires_what_fails": (1, 2)}),
        ({REQUIRE: "REQUIRED"}, [_with("deadline")], {}),
        ({REQUIRE: "OPTIONAL"}, [_with("no_runtime")], {}),
        ({REQUIRE: "NEVER"}, [_with()], {"forbids_what_works": (1, 1)}),
        ({REQUIRE: "NEVER"}, [_with(), _with("no_runtime"), _with("no_userns")], {}),
        ({SLOTS: "GPUs,2,type=main"}, [_with("gpu")], {}),
        ({SLOTS: "GPUs,4,type=main"}, [_with("gpu")], {"wrong_gpu_count": (1, 1)}),
        ({SLOTS: "GPUs,type=main"}, [_with(), _with("gpu")], {"gpus_where_none_are": (1, 2)}),
        ({}, [_with("gpu")], {"gpus_not_configured": (1, 1)}),
        ({SLOTS: "Disks,1"}, [_with("gpu")], {"gpus_not_configured": (1, 1)}),
        ({}, [_with("gpu"), _with(), _with("privileged")], {}),
        ({}, [_with("pid_masked")], {"pid_switch_missing": (1, 1)}),
        ({NO_PID: "0"}, [_with("pid_masked")], {"pid_switch_missing": (1, 1)}),
        ({}, [_with("no_runtime")], {}),
        ({NO_PID: "1"}, [_with()], {"pid_switch_needless": (1, 1)}),
        ({NO_PID: "1"}, [_with(), _with("pid_masked")], {}),
        ({"SINGULARITY_IMAGES_DICT": ARM_DICT}, [_with()], {"images_of_other_architecture": (1, 1)}),
        ({"SINGULARITY_IMAGES_DICT": ARM_DICT}, [_with(host__arch="aarch64")], {}),
        ({}, [_with(host__arch="aarch64")], {"images_not_of_architecture": (1, 1)}),
        ({"SINGULARITY_IMAGES_DICT": "default:/x"}, [_with(host__arch="aarch64")], {"images_not_of_architecture": (1, 1)}),
        ({}, [_no_cvmfs()], {"cvmfsexec_needed": (1, 1)}),
        ({}, [_no_cvmfs(), _sif("fail", "fuse_device_missing")], {"cvmfsexec_needed": (1, 2)}),
        ({}, [_no_cvmfs(), _sif("fail", "sif_converted_to_sandbox")], {"cvmfsexec_needed": (1, 2)}),
        ({}, [_sif("skipped", "over_budget")], {}),
        ({}, [_sif("fail", "sif_disallowed_by_config")], {}),
        ({}, [_sif("fail", "squashfuse_missing")], {}),
        ({}, [_sif("unknown", None)], {}),
        ({}, [_sif("ok", None, "privileged")], {}),
        ({"GLIDEIN_USE_CVMFSEXEC": "1"}, [_with()], {"cvmfsexec_needless": (1, 1)}),
        ({"GLIDEIN_USE_CVMFSEXEC": "1"}, [_no_cvmfs()], {}),
        ({"GLIDEIN_CVMFS": "REQUIRED", "GLIDEIN_USE_CVMFSEXEC": "1"}, [_no_cvmfs()], {"cvmfs_claimed": (1, 1)}),
        ({"GLIDEIN_REQUIRED_OS": "any"}, [_with()], {}),
        ({"GLIDEIN_REQUIRED_OS": "rhel9"}, [_with(host__os__id="almalinux", host__os__version_id="9.4")], {}),
        (
            {"GLIDEIN_REQUIRED_OS": "rhel7"},
            [_with(host__os__id="almalinux", host__os__version_id="9.4")],
            {"other_os_than_required": (1, 1)},
        ),
        ({"GLIDEIN_REQUIRED_OS": "rhel7"}, [_with(host__os__id="plan9", host__os__version_id="4")], {}),
        (
            {"CONDOR_OS": "ubuntu20"},
            [_with(host__os__id="ubuntu", host__os__version_id="22.04")],
            {"condor_of_other_os": (1, 1)},
        ),
        ({"SINGULARITY_BIN": "/opt/x"}, [_from("PATH")], {"binary_folder_missing": (1, 1)}),
        ({"SINGULARITY_BIN": "/opt/x"}, [_from("SINGULARITY_BIN")], {}),
        ({"SINGULARITY_BIN": "OSG"}, [_from("SINGULARITY_BIN:OSG")], {}),
        ({"SINGULARITY_BIN": "/opt/x"}, [_with(probe__trigger="manual")], {}),
        (
            {"GLIDEIN_SINGULARITY_BINARY_OVERRIDE": "/opt/x/apptainer"},
            [_with()],
            {"binary_override_missing": (1, 1)},
        ),
    ],
)
def test_what_disagrees_is_found(
    attrs: Mapping[str, str], reports: list[Report], expected: Mapping[str, tuple[int, int]]
) -> None:
    assert _found(attrs, *reports) == expected


def test_nodes_of_neighbours_tell_about_the_system_but_not_about_gpus() -> None:
    attrs = {REQUIRE: "REQUIRED", SLOTS: "GPUs,1,type=main"}
    assert set(_found(attrs, _with("no_runtime"), joined_by="resource")) == {"requires_what_fails"}


def _import(store: Store, folder: Path, attrs: Mapping[str, str], **more: str) -> Path:
    path = write_factory(folder, {ENTRY: attrs}, **more)
    import_files(store, [folder], "", NOW)
    return path


def test_a_finding_says_what_it_costs_where_and_on_what_evidence(store: Store, tmp_path: Path) -> None:
    path = _import(store, tmp_path, {REQUIRE: "REQUIRED"})
    store.add([sample("no_runtime", node=n) for n in range(1, 4)] + [sample(node=9)])
    found = check_drift(store, NOW)
    [item] = found.findings
    assert (item.nodes_affected, item.nodes_measured, item.share, item.joined_by) == (3, 4, 0.75, "entry")
    assert item.place == f"{path}:3"
    assert "3 of 4" in item.sentence
    assert item.report_ids
    assert (found.entries_enabled, found.entries_measured, found.at_least("error")) == (1, 1, 1)
    assert check_drift(store, NOW, ENTRY).findings == found.findings


def test_an_entry_without_reports_is_joined_by_its_resource(store: Store, tmp_path: Path) -> None:
    write_factory(tmp_path, {"Other": {REQUIRE: "REQUIRED"}})
    import_files(store, [tmp_path], "", NOW)
    store.add([sample("no_runtime")])
    assert [(item.entry, item.joined_by) for item in check_drift(store, NOW).findings] == [("Other", "resource")]


def test_a_disabled_entry_is_checked_only_by_name(store: Store, tmp_path: Path) -> None:
    _import(store, tmp_path, {REQUIRE: "REQUIRED"}, enabled="False")
    store.add([sample("no_runtime")])
    assert check_drift(store, NOW).findings == ()
    assert check_drift(store, NOW, ENTRY).findings


def test_an_entry_that_is_not_configured_is_unknown(store: Store) -> None:
    with pytest.raises(UnknownName):
        check_drift(store, NOW, "nobody")


@pytest.mark.parametrize(("action", "target"), [("disable_site", SITE), ("pin_entry", ENTRY)])
def test_policy_mutes_a_finding_until_it_expires(store: Store, tmp_path: Path, action: str, target: str) -> None:
    write_policy(tmp_path, action, target)
    _import(store, tmp_path, {REQUIRE: "REQUIRED"})
    store.add([sample("no_runtime")])
    found = check_drift(store, NOW)
    assert "ticket 4711" in (found.findings[0].policy or "")
    assert found.at_least("note") == 0
    write_policy(tmp_path, action, target, expires="2026-11-19")
    import_files(store, [tmp_path], "", NOW)
    expired = check_drift(store, NOW)
    assert expired.at_least("error") == 1
    assert target in expired.policy_expired[0]


def test_a_site_is_disabled_also_by_the_name_that_its_reports_have(store: Store, tmp_path: Path) -> None:
    path = write_factory(tmp_path, {ENTRY: {"GLIDEIN_Site": "another-name", REQUIRE: "REQUIRED"}})
    store.add([sample("no_runtime")])
    assert plan(store, path, NOW, min_confidence="low").applied.changes
    write_policy(tmp_path, "disable_site", SITE)
    import_files(store, [tmp_path], "", NOW)
    assert check_drift(store, NOW).at_least("note") == 0
    assert plan(store, path, NOW, min_confidence="low").applied.changes == ()


def _proposed(store: Store) -> dict[str, str]:
    return {item.attribute: item.value for item in propose_against_configuration(store, ENTRY, NOW).proposals}


@pytest.mark.parametrize(
    ("present", "case", "expected"),
    [
        ({}, "healthy", {REQUIRE: "PREFERRED"}),
        ({REQUIRE: "PREFERRED"}, "healthy", {}),
        ({REQUIRE: "REQUIRED"}, "healthy", {}),
        ({REQUIRE: "REQUIRED"}, "no_runtime", {REQUIRE: "NEVER"}),
        ({NO_PID: "1"}, "pid_masked", {REQUIRE: "PREFERRED"}),
    ],
)
def test_what_is_configured_is_not_proposed(
    store: Store, tmp_path: Path, present: Mapping[str, str], case: str, expected: Mapping[str, str]
) -> None:
    _import(store, tmp_path, present)
    store.add([sample(case)])
    assert _proposed(store) == expected


def test_options_are_added_to_those_that_are_there(store: Store, tmp_path: Path) -> None:
    report = sample_report("pid_masked", created_at="2026-11-20T17:00:00Z")
    report["singularity"]["alternatives"] = [{"change": {"--userns": None}, "check": check("a")}]
    store.add([submission(report)])
    _import(store, tmp_path, {"GLIDEIN_SINGULARITY_OPTS": "--bind /data --no-home"})
    assert _proposed(store)["GLIDEIN_SINGULARITY_OPTS"] == "--bind /data --no-home --userns"
    _import(store, tmp_path, {"GLIDEIN_SINGULARITY_OPTS": "--userns"})
    assert "GLIDEIN_SINGULARITY_OPTS" not in _proposed(store)


def test_policy_withholds_a_proposal_and_says_so(store: Store, tmp_path: Path) -> None:
    write_policy(tmp_path, "keep_attribute", REQUIRE)
    _import(store, tmp_path, {})
    store.add([sample("pid_masked")])
    found = propose_against_configuration(store, ENTRY, NOW)
    assert [item.attribute for item in found.proposals] == [NO_PID]
    assert any("ticket 4711" in note for note in found.notes)


def _applied(store: Store, tmp_path: Path) -> dict[str, tuple[str, str]]:
    edited = plan(store, write_factory(tmp_path, {ENTRY: {}}), NOW)
    return {each.proposal.attribute: (each.proposal.value, each.proposal.confidence) for each in edited.applied.changes}


def test_what_rests_on_a_change_that_policy_forbids_is_derived_without_it(store: Store, tmp_path: Path) -> None:
    store.add([sample("pid_masked", node=n) for n in range(1, 31)])
    import_files(store, [write_policy(tmp_path, "keep_attribute", NO_PID)], "", NOW)
    assert _applied(store, tmp_path) == {REQUIRE: ("NEVER", "high")}
    assert [item.value for item in propose_against_configuration(store, ENTRY, NOW).proposals] == ["NEVER"]


def test_what_rests_on_a_change_that_is_not_sure_enough_is_derived_without_it(store: Store, tmp_path: Path) -> None:
    store.add([sample("pid_masked" if n < 4 else "healthy", node=n) for n in range(1, 31)])
    assert _applied(store, tmp_path) == {REQUIRE: ("OPTIONAL", "high")}
    low = propose_against_configuration(store, ENTRY, NOW).proposals
    assert [(item.attribute, item.value, item.confidence) for item in low] == [
        (REQUIRE, "PREFERRED", "low"),
        (NO_PID, "1", "low"),
    ]
    assert low[0].needs == (NO_PID,)


def test_a_change_that_is_configured_already_is_nothing_to_leave_out(store: Store, tmp_path: Path) -> None:
    store.add([sample("pid_masked")])
    _import(store, tmp_path, {NO_PID: "1"})
    import_files(store, [write_policy(tmp_path, "keep_attribute", NO_PID)], "", NOW)
    assert _proposed(store) == {REQUIRE: "PREFERRED"}


def test_another_change_is_taken_where_policy_forbids_the_first(store: Store, tmp_path: Path) -> None:
    report = sample_report("pid_masked", created_at="2026-11-20T17:00:00Z")
    changes = [{NO_PID: "1"}, {NO_PID: "1", "--no-home": None}, {"--userns": None}]
    report["singularity"]["alternatives"] = [{"change": change, "check": check("a")} for change in changes]
    store.add([submission(report)])
    import_files(store, [write_policy(tmp_path, "keep_attribute", NO_PID)], "", NOW)
    assert _proposed(store) == {REQUIRE: "PREFERRED", "GLIDEIN_SINGULARITY_OPTS": "--userns"}


def test_a_file_is_edited_as_proposed_and_then_there_is_nothing_to_do(store: Store, tmp_path: Path) -> None:
    store.add([sample("pid_masked", node=n) for n in range(1, 9)])
    path = write_factory(tmp_path, {"Other": {}, ENTRY: {REQUIRE: "NEVER"}})
    edited = plan(store, path, NOW)
    assert {(change.entry, change.proposal.attribute) for change in edited.applied.changes} == {
        (ENTRY, REQUIRE),
        (ENTRY, NO_PID),
    }
    removed = [line for line in edited.applied.diff.splitlines() if line.startswith("-") and not line.startswith("---")]
    assert len(removed) == 1
    path.write_bytes(edited.after)
    assert plan(store, path, NOW).after == edited.after
    assert [entry.values()[NO_PID] for entry in parse_factory_xml(edited.after, "f").entries if entry.name == ENTRY] == ["1"]


@pytest.mark.parametrize(("nodes", "minimum", "count"), [(1, "medium", 0), (1, "low", 1), (8, "medium", 1), (8, "high", 0)])
def test_nothing_below_the_confidence_asked_for_is_applied(
    store: Store, tmp_path: Path, nodes: int, minimum: str, count: int
) -> None:
    store.add([sample(node=n) for n in range(1, nodes + 1)])
    edited = plan(store, write_factory(tmp_path, {ENTRY: {}}), NOW, min_confidence=minimum)
    assert len(edited.applied.changes) == count
    assert (edited.after != edited.before) == bool(count)


def test_neighbours_never_change_a_file(store: Store, tmp_path: Path) -> None:
    store.add([sample("pid_masked", node=n) for n in range(1, 9)])
    edited = plan(store, write_factory(tmp_path, {"Other": {}}), NOW)
    assert edited.after == edited.before


@pytest.mark.parametrize("kind", ["expr", "int"])
def test_an_attribute_of_another_type_is_left_alone_and_named(store: Store, tmp_path: Path, kind: str) -> None:
    store.add([sample("pid_masked", node=n) for n in range(1, 9)])
    path = write_factory(tmp_path, {ENTRY: {REQUIRE: "ifThenElse(a, b, c)"}})
    path.write_text(path.read_text().replace('type="string" value="ifThen', f'type="{kind}" value="ifThen'))
    applied = plan(store, path, NOW).applied
    assert [change.proposal.attribute for change in applied.changes] == [NO_PID]
    assert any(f"is of type {kind}, not string" in note for note in applied.notes)
    import_files(store, [path], "", NOW)
    assert _proposed(store) == {NO_PID: "1"}
    [attribute] = [item for item in default_rules().attributes.values() if item.name == REQUIRE]
    before, parsed = read_configuration(path, Beside())
    with pytest.raises(BrokenFile, match="would not say what was proposed"):
        edit(before, [Change(ENTRY, attribute, "NEVER")], path, parsed, Beside())


def _with_common(path: Path, attr: str) -> Path:
    path.write_text(path.read_text().replace("<glidein>", f"<glidein><attrs>{attr}</attrs>"))
    return path


def test_an_option_is_added_to_those_that_the_factory_sets_for_all_entries(store: Store, tmp_path: Path) -> None:
    store.add([sample("pid_masked", node=n, singularity__alternatives=[USERNS]) for n in range(1, 9)])
    path = _with_common(write_factory(tmp_path, {ENTRY: {}}), f'<attr name="{OPTIONS}" value="--bind /data"/>')
    edited = plan(store, path, NOW)
    found = {change.proposal.attribute: change.proposal for change in edited.applied.changes}
    assert (found[OPTIONS].present, found[OPTIONS].value) == ("--bind /data", "--bind /data --userns")
    [entry] = parse_factory_xml(edited.after, "f").entries
    assert entry.value(OPTIONS) == "--bind /data --userns"
    assert b'value="--bind /data"/>' in edited.after


@pytest.mark.parametrize(("const", "changed"), [("True", True), ("False", False)])
def test_an_attribute_that_is_not_constant_for_all_entries_is_left_to_people(
    store: Store, tmp_path: Path, const: str, changed: bool
) -> None:
    store.add([sample(node=n) for n in range(1, 9)])
    attr = f'<attr name="{REQUIRE}" const="{const}" value="NEVER"/>'
    applied = plan(store, _with_common(write_factory(tmp_path, {ENTRY: {}}), attr), NOW).applied
    assert bool(applied.changes) == bool(applied.diff) == changed
    assert any("set for all entries" in note for note in applied.notes) != changed


def test_only_the_entries_asked_for_are_edited(store: Store, tmp_path: Path) -> None:
    store.add([sample(node=n) for n in range(1, 9)])
    path = write_factory(tmp_path, {ENTRY: {}, "Other": {}})
    assert plan(store, path, NOW, only=["Other"]).applied.changes == ()
    with pytest.raises(UnknownName, match="nobody"):
        plan(store, path, NOW, only=["nobody"])


def test_a_change_that_another_file_replaces_is_noted(store: Store, tmp_path: Path) -> None:
    store.add([sample(node=n) for n in range(1, 9)])
    first, second = (write_factory(tmp_path, {ENTRY: {}}, name) for name in ("10.xml", "20.xml"))
    import_files(store, [first, second], "", NOW)
    assert any(str(second) in note for note in plan(store, first, NOW).applied.notes)
    assert not plan(store, second, NOW).applied.notes


def _changes(store: Store, path: Path, factory: str | None = None) -> dict[str, str]:
    changes = plan(store, path, NOW, factory=factory).applied.changes
    return {item.proposal.attribute: item.proposal.value for item in changes}


def test_only_the_reports_of_its_own_factory_change_a_file(store: Store, tmp_path: Path) -> None:
    store.add([sample("pid_masked", node=n, glidein__factory="Other") for n in range(1, 31)])
    path = write_factory(tmp_path, {ENTRY: {}})
    assert _changes(store, path) == {REQUIRE: "PREFERRED", NO_PID: "1"}  # the only factory that reported the name
    store.add([sample(node=n, glidein__factory="Mine") for n in range(101, 107)])
    assert _changes(store, path) == {}
    assert "say --factory" in plan(store, path, NOW).applied.notes[0]
    assert _changes(store, path, factory="Mine") == {REQUIRE: "PREFERRED"}
    import_files(store, [path], "Mine", NOW)
    assert _changes(store, path) == {REQUIRE: "PREFERRED"}
    assert _changes(store, path, factory="Third") == {}
    assert "not Third" in plan(store, path, NOW, factory="Third").applied.notes[0]


def test_drift_tells_factories_with_one_name_apart(store: Store, tmp_path: Path) -> None:
    store.add([sample("no_runtime", node=n, glidein__factory="Bad") for n in range(1, 4)])
    store.add([sample(node=n, glidein__factory="Good") for n in range(11, 14)])
    for factory in ("Bad", "Good"):
        (tmp_path / factory).mkdir()
        import_files(store, [write_factory(tmp_path / factory, {ENTRY: {REQUIRE: "REQUIRED"}})], factory, NOW)
    found = check_drift(store, NOW)
    assert [(item.factory, item.rule, item.nodes_affected) for item in found.findings] == [("Bad", "requires_what_fails", 3)]
    assert found.entries_measured == 2


def test_a_name_of_two_factories_at_two_resources_is_joined_with_its_own(store: Store, tmp_path: Path) -> None:
    store.add([sample("no_runtime", glidein__entry="Other", glidein__resource="R2")])
    for factory, resource in (("A", "R1"), ("B", "R2")):
        (tmp_path / factory).mkdir()
        attrs = {REQUIRE: "REQUIRED", "GLIDEIN_ResourceName": resource}
        import_files(store, [write_factory(tmp_path / factory, {"X": attrs})], factory, NOW)
    assert [(item.factory, item.joined_by) for item in check_drift(store, NOW).findings] == [("B", "resource")]


def test_a_file_without_entries_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="holds no entries"):
        plan(store, write_policy(tmp_path, "pin_entry", "E"), NOW)
