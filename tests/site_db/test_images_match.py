"""The match: what is predicted of a node, what observation changes, where both contradict each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from site_db import tables
from site_db.cuda import compatible_driver, cuda_of_driver, toolkit_driver
from site_db.errors import AmbiguousName, UnknownName
from site_db.images import recording
from site_db.images.matching import Counts, settle, total_of
from site_db.images.model import Fact, Requirements
from site_db.images.needs import Predictions, Question, need_of, predict
from site_db.images.node_kinds import node_kind
from site_db.images.nvidia import Gpu, Truth, WrongRequirement, met, parse_requirement, requirement_texts
from site_db.images.registering import Given, add_image
from site_db.images.selection import WrongCondition, parse_conditions
from site_db.images.views import Wanted, image_matrix, images_at_site, list_images, match_image, pick_images
from site_db.profiles import profile_of
from site_db.store import Store
from tests.sample_reports import gpu_device, image, sample_report
from tests.site_db.submissions import NOW, sample

ON_CVMFS = "/cvmfs/singularity.opensciencegrid.org/htc/rocky:9"
PLAIN = {
    "arch": "x86_64",
    "microarch": "x86_64-v1",
    "kind": "sandbox",
    "kernel": [3, 2, 0],
    "libc": "glibc 2.34",
    "cuda": [],
}


def facts(**changes: object) -> Requirements:
    values = {**PLAIN, **changes}
    return Requirements({name: Fact(value, "read", "test") for name, value in values.items() if value is not None})


def answer(
    reference: str, requirements: Requirements, case: str = "healthy", question: Question = "start", **report: object
):
    profile = profile_of(sample_report(case, **report))
    return predict(need_of(reference, requirements), profile, question)


NODE = {"arch": "host__arch", "level": "host__microarch", "kernel": "host__kernel__version"}


@pytest.mark.parametrize(
    ("image_facts", "case", "node", "expected"),
    [
        ({}, "healthy", {}, ("yes", None)),
        ({}, "no_userns", {}, ("no", "userns_limit_reached")),
        ({}, "deadline", {}, ("unknown", "deadline_reached")),
        ({"arch": "aarch64"}, "healthy", {}, ("no", "image_wrong_arch")),
        ({"arch": "aarch64", "microarch": None}, "healthy", {"arch": "aarch64", "level": None}, ("yes", None)),
        ({"arch": "i686", "microarch": None}, "healthy", {}, ("yes", None)),
        ({"arch": None}, "healthy", {}, ("unknown", "image_not_inspected")),
        ({}, "healthy", {"arch": None}, ("unknown", None)),
        ({"microarch": "x86_64-v3"}, "healthy", {"level": "x86_64-v2"}, ("no", "image_needs_newer_cpu")),
        ({"microarch": "x86_64-v3"}, "healthy", {"level": "x86_64-v3"}, ("yes", None)),
        ({"microarch": "x86_64-v2"}, "healthy", {"level": None}, ("unknown", None)),
        ({"microarch": None}, "healthy", {"level": "x86_64-v4"}, ("yes", None)),
        ({"microarch": None}, "healthy", {"level": "x86_64-v3"}, ("unknown", "image_not_inspected")),
        ({"kernel": [5, 20, 0]}, "healthy", {}, ("no", "image_needs_newer_kernel")),
        ({"kernel": [5, 14, 9]}, "healthy", {}, ("yes", None)),  # a profile has no more than two steps
        ({"kernel": [5, 14, 0]}, "healthy", {"kernel": None}, ("unknown", None)),
        ({"kind": "sif"}, "healthy", {}, ("yes", None)),
    ],
)
def test_what_a_node_says_to_an_image(
    image_facts: Mapping[str, object], case: str, node: Mapping[str, object], expected: tuple[str, str | None]
):
    changes = {NODE[name]: value for name, value in node.items()}
    assert answer(ON_CVMFS, facts(**image_facts), case, **changes)[:2] == expected


def test_a_sif_that_is_unpacked_at_each_start_runs():
    report = sample_report()
    report["singularity"]["features"]["sif"].update(status="fail", reason="sif_converted_to_sandbox")
    need = need_of("/images/a.sif", facts(kind="sif"))
    assert predict(need, profile_of(report), "start").answer == "yes"
    report["singularity"]["features"]["sif"].update(status="fail", reason="fuse_device_denied")
    assert predict(need, profile_of(report), "start")[:2] == ("no", "fuse_device_denied")


def test_its_repository_has_to_give_data():
    oasis = "/cvmfs/oasis.opensciencegrid.org/images/a"
    assert answer(oasis, facts(), "cvmfs_hung")[:2] == ("no", "cvmfs_hung")
    assert answer("/cvmfs/other.example.org/a", facts())[:2] == ("unknown", "not_requested")
    assert answer(ON_CVMFS, facts(), cvmfs__kind="none")[:2] == ("no", "cvmfs_not_mounted")
    assert answer("/local/image", facts(), cvmfs__kind="none").answer == "yes"


@pytest.mark.parametrize(
    ("conditions", "gpu", "expected"),
    [
        (["cuda>=12.4"], {}, ("yes", None, None)),
        (["cuda>=12.6"], {}, ("yes", None, "minor_version_compatibility")),
        (["cuda>=13.0"], {}, ("no", "image_needs_newer_driver", None)),
        (["cuda>=13.0"], {"driver_version": None, "cuda_version": None}, ("unknown", None, None)),
        (["cuda>=12.4"], {"cuda_version": None}, ("yes", None, None)),  # by the table of drivers
        (["cuda>=12.6", "arch>=9.0"], {}, ("no", "image_needs_newer_gpu", None)),  # compatibility helps CUDA only
        (["cuda>=13.0"], {"driver_version": "580.65.06", "cuda_version": "13.0"}, ("yes", None, None)),
        (["cuda>=9.0 brand=tesla"], {"driver_version": "340.10", "cuda_version": "6.5"}, ("unknown", None, None)),
        ([], {}, ("yes", None, None)),
        (None, {}, ("unknown", "image_not_inspected", None)),
        (["cuda>=12.4"], {"driver_libraries_glibc": "2.39"}, ("no", "gpu_library_glibc_too_new", None)),
    ],
)
def test_what_a_gpu_node_says_to_cuda(
    conditions: list[str] | None, gpu: Mapping[str, object], expected: tuple[Any, Any, Any]
):
    changes = {f"gpus__{name}": value for name, value in gpu.items()}
    assert answer(ON_CVMFS, facts(cuda=conditions), "gpu", "gpu", **changes) == expected


@pytest.mark.parametrize(
    ("driver", "api", "model", "capability", "compat", "expected"),
    [
        ("580.65.06", "13.0", "Tesla V100-PCIE-16GB", "7.0", None, ("no", "image_needs_newer_gpu", None)),
        ("535.54.03", "12.2", "NVIDIA A40", "8.6", None, ("no", "image_needs_newer_driver", None)),
        ("535.54.03", "12.2", "NVIDIA A40", "8.6", "580.65.06", ("unknown", "image_needs_newer_driver", None)),
        # Whether these are data-centre models nobody has said: unknown is no "no".
        ("535.54.03", "12.2", "NVIDIA Q1000", "8.6", "580.65.06", ("unknown", "image_needs_newer_driver", None)),
        ("535.54.03", "12.2", None, "8.6", "580.65.06", ("unknown", "image_needs_newer_driver", None)),
        ("535.54.03", "12.2", "NVIDIA A40", "8.6", "550.54.15", ("no", "image_needs_newer_driver", None)),
        ("550.54.15", "12.4", "NVIDIA A40", "8.6", "580.65.06", ("no", "image_needs_newer_driver", None)),
        ("535.54.03", "12.2", "NVIDIA GeForce RTX 3090", "8.6", "580.65.06", ("no", "image_needs_newer_driver", None)),
    ],
)
def test_cuda_13_on_older_gpus_and_drivers(
    driver: str, api: str, model: str | None, capability: str, compat: str | None, expected: tuple[Any, Any, Any]
):
    device = {**gpu_device("a", model), "compute_capability": capability}
    changes = {"gpus__driver_version": driver, "gpus__cuda_version": api, "gpus__devices": [device]}
    needs = facts(cuda=["cuda>=13.0"], cuda_compat=compat)
    assert answer(ON_CVMFS, needs, "gpu", "gpu", **changes) == expected


def test_without_a_gpu_the_image_starts_and_its_cuda_does_not():
    wants = facts(cuda=["cuda>=12.4"])
    assert answer(ON_CVMFS, wants).answer == "yes"
    assert answer(ON_CVMFS, wants, question="gpu")[:2] == ("no", "gpu_none")


# --- NVIDIA's rules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "texts"),
    [
        ({}, []),
        ({"CUDA_VERSION": "11.8.0"}, ["cuda>=11.8"]),
        ({"CUDA_VERSION": "v9"}, ["cuda>=9.0"]),
        ({"CUDA_VERSION": "12.6.0", "NVIDIA_REQUIRE_CUDA": "cuda>=12.6 brand=tesla,driver>=535,driver<536"},
         ["cuda>=12.6 brand=tesla,driver>=535,driver<536"]),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12", "NVIDIA_REQUIRE_DRIVER": "driver>=525"}, ["cuda>=12", "driver>=525"]),
        ({"NVIDIA_REQUIRE_CUDA": "cuda>=12", "NVIDIA_DISABLE_REQUIRE": "true"}, []),
        ({"CUDA_VERSION": "12.1", "NVIDIA_DISABLE_REQUIRE": "1"}, []),
        ({"CUDA_VERSION": "12.1", "NVIDIA_DISABLE_REQUIRE": "maybe"}, ["cuda>=12.1"]),
        ({"NVIDIA_REQUIRE_JETPACK_HOST_MOUNTS": "base-only"}, []),
    ],
)  # fmt: skip
def test_requirements_are_those_of_the_container_toolkit(environment: dict[str, str], texts: list[str]):
    assert requirement_texts(environment) == texts


def test_a_legacy_image_without_a_version_is_refused():
    with pytest.raises(WrongRequirement):
        requirement_texts({"CUDA_VERSION": "latest"})


GPU = Gpu((12, 2), (535, 104, 5), (8, 0), "tesla")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("cuda>=12.2", "yes"),
        ("cuda>=12.10", "no"),
        ("cuda=12.2.0", "yes"),
        ("cuda!=12.2", "no"),
        ("cuda>=12.6 brand=tesla,driver>=535,driver<536", "yes"),
        ("cuda>=12.6 brand=geforce,driver>=535", "no"),
        ("arch>=9.0", "no"),
        ("unknownproperty>=1", "yes"),
        ("unknownproperty>=1 cuda>=13", "no"),
        ("", "yes"),
    ],
)
def test_alternatives_stand_between_blanks_and_commas_join(text: str, answer: str):
    assert met(parse_requirement(text), GPU) == answer


@pytest.mark.parametrize("text", ["cuda", "cuda>=x", "cuda>=", "driver>=1.x", "\x00>=1=", "cuda>=-1"])
def test_a_condition_that_the_toolkit_refuses_is_refused(text: str):
    try:
        requirement = parse_requirement(text)
    except WrongRequirement:
        return
    assert requirement == ()  # a property that is not known


def test_what_is_not_known_of_a_gpu_is_unknown():
    assert met(parse_requirement("cuda>=12 driver>=470"), Gpu(None, None, None)) == "unknown"
    assert met(parse_requirement("cuda>=12,brand=tesla"), Gpu((11, 8), None, None)) == "no"


def test_the_tables_of_drivers_tell_both_minimums_apart():
    assert toolkit_driver((12, 6)) == (560, 28, 3)
    assert compatible_driver((12, 6)) == (525, 60, 13)
    assert compatible_driver((10, 2)) is None
    assert cuda_of_driver((535, 104, 5)) == (12, 2)
    assert cuda_of_driver((300, 0)) is None


# --- observation outweighs prediction ---------------------------------------------------------------------------------------

ANSWERS = st.sampled_from(["yes", "no", "unknown"])


@given(st.integers(0, 50), ANSWERS, st.integers(0, 60), st.integers(0, 60), ANSWERS)
def test_nodes_are_neither_lost_nor_made(nodes: int, start: Truth, yes: int, no: int, gpu: Truth):
    counts = settle(nodes, start, yes, no, gpu)
    assert counts.total == nodes
    assert min(counts) >= 0


@given(st.integers(1, 50), ANSWERS, st.integers(0, 50), st.integers(0, 50))
def test_what_was_observed_counts_and_the_rest_follows_the_prediction(nodes: int, start: Truth, yes: int, no: int):
    yes, no = min(yes, nodes), min(no, nodes - min(yes, nodes))
    counts = settle(nodes, start, yes, no)
    rest = nodes - yes - no
    assert counts == total_of([Counts(yes, no, 0), settle(rest, start)])


def add_nodes(store: Store, site: str, case: str, numbers: range, images: list[Any], **changes: object) -> None:
    names = {"glidein__site": site, "glidein__entry": f"E-{site}", "images": images, **changes}
    store.add([sample(case, node=number, **names) for number in numbers])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Store]:
    """See fill; on SQLite, because a database of PostgreSQL takes a second to make."""
    opened = Store.open(f"sqlite:///{tmp_path / 'site.db'}")
    yield fill(opened)
    opened.close()


def fill(store: Store) -> Store:
    """Good: 4 nodes, 2 of them tried the image. Bad: 3 nodes without user namespaces, one of which ran it. Mixed: both."""
    add_image(store, ON_CVMFS, [Given("inspected", facts(), "test")], NOW)
    add_nodes(store, "Good", "healthy", range(2), [])
    add_nodes(store, "Good", "healthy", range(2, 4), [image(ON_CVMFS)])
    add_nodes(store, "Bad", "no_userns", range(10, 12), [image(ON_CVMFS, "unknown", "prerequisite_failed")])
    add_nodes(store, "Bad", "no_userns", range(12, 13), [image(ON_CVMFS)])
    add_nodes(store, "Mixed", "healthy", range(20, 22), [image(ON_CVMFS, "fail", "image_start_failed")])
    add_nodes(store, "Mixed", "no_userns", range(22, 24), [])
    return store


def test_a_match_tells_predicted_observed_and_why_not(fleet: Store):
    found = match_image(fleet, "htc/rocky:9", NOW)
    by_site = {match.site: match for match in found.sites}
    assert by_site["Good"].start.counts == Counts(4, 0, 0)
    assert by_site["Good"].observed == Counts(2, 0, 0)
    assert by_site["Bad"].start.counts == Counts(1, 2, 0)
    assert by_site["Bad"].predicted == Counts(0, 3, 0)
    assert [(why.reason.code, why.nodes, why.observed) for why in by_site["Bad"].why_not] == [
        ("userns_limit_reached", 2, False)
    ]
    assert by_site["Mixed"].start.counts == Counts(0, 4, 0)
    assert {(why.reason.code, why.observed) for why in by_site["Mixed"].why_not} == {
        ("image_start_failed", True),
        ("userns_limit_reached", False),
    }
    assert found.total.counts == Counts(5, 6, 0)
    assert found.coverage
    assert (found.coverage.nodes, found.coverage.sites, found.coverage.yes, found.coverage.no) == (7, 3, 3, 2)
    assert [(item.site, item.predicted, item.observed, item.nodes, item.of_nodes) for item in found.disagreements] == [
        ("Mixed", "yes", "no", 2, 2),
        ("Bad", "no", "yes", 1, 3),
    ]


def test_the_matrix_says_what_the_match_says(store: Store):
    fleet = fill(store)
    matrix = image_matrix(fleet, NOW, Wanted())
    [row] = matrix.rows
    match = {match.site: match.start.counts for match in match_image(fleet, ON_CVMFS, NOW).sites}
    assert {site: row.counts(position) for position, site in enumerate(matrix.sites)} == match
    assert row.observed == [1, 2, 2]
    assert images_at_site(fleet, "Bad", NOW).images[0].match.start.counts == match["Bad"]


def test_kept_counts_are_those_made_anew(store: Store):
    fleet = fill(store)
    add_nodes(fleet, "Good", "no_userns", range(2, 4), [image(ON_CVMFS, "timeout", "runtime_timeout")])
    add_nodes(fleet, "Moved", "healthy", range(10, 12), [image(ON_CVMFS), image("/other")])
    add_nodes(fleet, "Moved", "healthy", range(10, 12), [image(ON_CVMFS, "fail", "image_missing")], hours_ago=9)
    with fleet.writing() as connection:
        rows = select(tables.image_counts)
        kept = sorted(tuple(row)[:-1] for row in connection.execute(rows))
        recording.rebuild(connection)
        assert sorted(tuple(row)[:-1] for row in connection.execute(rows)) == kept
    assert kept


def test_a_test_that_was_left_out_does_not_undo_what_was_seen(fleet: Store):
    before = match_image(fleet, ON_CVMFS, NOW).coverage
    add_nodes(fleet, "Good", "healthy", range(2, 4), [image(ON_CVMFS, "skipped", "over_budget")], hours_ago=0.5)
    assert match_image(fleet, ON_CVMFS, NOW).coverage == before


def test_an_image_that_nobody_looked_at_is_unknown_not_no(fleet: Store):
    add_image(fleet, "/cvmfs/singularity.opensciencegrid.org/vo/app:1", [], NOW)
    found = match_image(fleet, "vo/app:1", NOW)
    assert {match.site: match.start.answer for match in found.sites} == {"Good": "unknown", "Bad": "no", "Mixed": "no"}
    assert found.sites[-1].start.confidence == "low"


def test_names_are_found_or_asked_back(fleet: Store):
    add_image(fleet, "/elsewhere/htc/rocky:9", [], NOW)
    with pytest.raises(AmbiguousName):
        match_image(fleet, "rocky:9", NOW)
    with pytest.raises(UnknownName) as caught:
        match_image(fleet, "htc/rocky:8", NOW)
    assert caught.value.remedy


def test_a_pick_covers_most_nodes_with_few_images(fleet: Store):
    """One image for x86-64 and one for aarch64 cover all healthy nodes; the third adds nothing."""
    arm = {"host__arch": "aarch64", "host__microarch": None}
    add_nodes(fleet, "Arm", "healthy", range(30, 33), [], **arm)
    for name, changes in (("arm", {"arch": "aarch64", "microarch": None}), ("new", {"microarch": "x86_64-v4"})):
        reference = f"/cvmfs/singularity.opensciencegrid.org/vo/{name}:1"
        add_image(fleet, reference, [Given("inspected", facts(**changes), "test")], NOW)
    found = pick_images(fleet, NOW, Wanted())
    assert [(item.image.rpartition("/")[2], item.adds) for item in found.chosen] == [("rocky:9", 5), ("arm:1", 3)]
    assert found.chosen[-1].covered == 8
    assert [item.image.rpartition("/")[2] for item in found.others] == ["new:1"]
    only = pick_images(fleet, NOW, Wanted(sites=("Good",), conditions=parse_conditions("arch=x86_64,level>=v4")))
    assert (only.images, only.chosen) == (1, ())


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("arch=x86_64", True), ("glibc>=2.28", True), ("glibc>=2.4,glibc<2.35", True), ("glibc>=2.100", False),
        ("level>=v2", False), ("level=x86_64-v1", True), ("name=*rocky*", True), ("name!=*rocky*", False),
        ("cuda>=12", False), ("os=rocky", False), ("libc=glibc", True), ("kernel<=3.2", True), ("label.x=1", False),
    ],
)  # fmt: skip
def test_conditions_on_facts(text: str, holds: bool):
    found = all(condition.holds(ON_CVMFS, (), facts()) for condition in parse_conditions(text))
    assert found is holds


@pytest.mark.parametrize("text", ["", "arch", "size>1", "name>=x", "arch==x", "1=1", "glibc>=2;drop"])
def test_a_condition_that_is_none_is_refused_in_words_or_never_holds(text: str):
    try:
        conditions = parse_conditions(text)
    except WrongCondition as error:
        message = f"{error} {error.remedy}"
        assert "name" in message or "=" in message
        return
    assert not any(condition.holds(ON_CVMFS, (), facts()) for condition in conditions)


def test_every_distinct_need_is_judged_once_and_alike():
    cases = ("healthy", "gpu", "no_userns", "cvmfs_hung", "deadline")
    profiles = {number: profile_of(sample_report(case)) for number, case in enumerate(cases)}
    predictions = Predictions({number: node_kind(profile) for number, profile in profiles.items()})
    for changes in ({}, {"arch": "aarch64"}, {"cuda": ["cuda>=12.6"]}, {"microarch": None}):
        need = need_of(ON_CVMFS, facts(**changes))
        for question in ("start", "gpu"):
            found = predictions.of(need, question)
            assert found == {number: predict(need, profile, question) for number, profile in profiles.items()}


def test_the_list_tells_coverage(fleet: Store):
    [item] = list_images(fleet, NOW).images
    assert item.coverage
    assert item.coverage.nodes == 7
    assert item.requirements["facts"]["arch"] == {"value": "x86_64", "evidence": "read", "source": "test"}
