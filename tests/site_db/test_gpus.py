"""GPUs at the centre: how new a CUDA runs, what a profile keeps, what is said of sites and entries."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_db import cuda
from site_db.configuration.importing import import_files
from site_db.cuda_reach import all_data_center, dotted, is_data_center, reach
from site_db.errors import AmbiguousName, UnknownName
from site_db.gpu_nodes import Devices, GpuNodes, gpu_nodes, span
from site_db.gpus import Gpus, gpus_of, list_gpus
from site_db.profiles import fingerprint, profile_of
from site_db.store import Store
from tests.sample_reports import check, gpu_device, sample_report
from tests.site_db.factory_files import write_factory
from tests.site_db.submissions import NOW, sample
from tests.site_db.test_fleet import END, feed, simulate

V = cuda.parse_version


@pytest.mark.parametrize(
    ("driver", "own", "capability", "data_center", "expected"),
    [
        # The builds that toolkits come with, and those just below.
        ("595.45.04", None, "9.0", True, ("13.2", "13.2", "13.4")),
        ("590.48.01", None, "8.0", True, ("13.1", "13.2", "13.4")),
        ("580.65.06", None, "8.0", True, ("13.0", "13.2", "13.4")),
        ("580.65.05", None, "8.0", True, ("12.9", "13.2", "13.4")),
        ("575.57.08", None, "8.6", True, ("12.9", "12.9", None)),
        ("570.26", None, "8.6", True, ("12.8", "12.9", "13.4")),
        ("570.25", None, "8.6", True, ("12.6", "12.9", "13.4")),
        ("565.57.01", "12.7", "8.6", False, ("12.7", "12.9", None)),
        ("550.54.15", "12.4", "8.6", True, ("12.4", "12.9", None)),
        ("550.54.13", None, "8.6", False, ("12.3", "12.9", None)),
        ("535.54.03", "12.2", "8.0", True, ("12.2", "12.9", "13.4")),
        ("535.54.03", "12.2", "8.0", False, ("12.2", "12.9", None)),
        ("535.54.03", "12.2", "8.0", None, ("12.2", "12.9", None)),
        ("525.60.13", "12.0", "8.0", True, ("12.0", "12.9", None)),
        ("525.60.12", None, "8.0", False, ("11.8", "11.8", None)),
        ("470.82.01", "11.4", "8.6", False, ("11.4", "11.8", None)),
        ("450.80.02", "11.0", "7.0", False, ("11.0", "11.8", None)),
        ("450.51.06", "11.0", "7.0", False, ("11.0", "11.0", None)),
        # No minor-version compatibility before 11.
        ("440.33", "10.2", "7.0", False, ("10.2", "10.2", None)),
        ("390.46", "9.1", "3.5", False, ("9.1", "9.1", None)),
        ("340.108", None, "3.5", False, (None, None, None)),
        # The GPU is the limit: CUDA 13 has dropped what is older than Turing, 12 Kepler.
        ("580.65.06", "13.0", "7.0", True, ("12.9", "12.9", None)),
        ("580.65.06", "13.0", "7.5", True, ("13.0", "13.2", "13.4")),
        ("535.54.03", "12.2", "7.0", True, ("12.2", "12.9", "12.9")),
        ("470.82.01", "11.4", "3.7", True, ("11.4", "11.8", None)),
        ("535.54.03", "12.2", "3.7", False, ("11.8", "11.8", None)),
        ("450.80.02", "11.0", "3.0", False, ("10.2", "10.2", None)),
        # A driver newer than the table tells its own.
        ("610.10.01", "13.3", "9.0", True, ("13.3", "13.3", "13.4")),
        ("550.54.15", None, None, False, ("12.4", "12.9", None)),
    ],
)
def test_what_a_driver_runs(
    driver: str, own: str | None, capability: str | None, data_center: bool | None, expected: tuple[str | None, ...]
) -> None:
    found = reach(V(driver) or (), V(own), V(capability), data_center)
    assert tuple(map(dotted, found)) == expected


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([], None),
        ([None], None),
        (["NVIDIA A40"], True),
        (["NVIDIA A40", None], None),
        (["NVIDIA A40", "NVIDIA Q1000"], None),
        (["NVIDIA Q1000", "NVIDIA GeForce RTX 3090"], False),
    ],
)
def test_gpus_are_data_center_models_if_all_are_known_to_be(models: list[str | None], expected: bool | None) -> None:
    assert all_data_center(models) is expected


@given(
    driver=st.tuples(st.integers(300, 620), st.integers(0, 200), st.integers(0, 20)),
    capability=st.sampled_from([None, (3, 0), (3, 5), (5, 2), (7, 0), (7, 5), (9, 0)]),
)
def test_the_ways_of_running_cuda_are_ordered(driver: cuda.Version, capability: cuda.Version | None) -> None:
    found = reach(driver, None, capability, True)
    newer = reach((driver[0] + 1, *driver[1:]), None, capability, True)
    assert (found.full or ()) <= (found.minor or ())
    assert (found.full or ()) <= (newer.full or ())
    assert (found.minor or ()) <= (newer.minor or ())


def test_every_release_runs_in_full_on_its_own_driver_and_not_on_an_older_one() -> None:
    for release in cuda.releases():
        own = cuda.toolkit_driver(release)
        assert own is not None
        assert reach(own).full == release
        assert (reach((own[0] - 1, 999)).full or ()) < release
        least = cuda.compatible_driver(release)
        assert least is None or release <= (reach(least).minor or ())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("NVIDIA A100-SXM4-40GB", True),
        ("NVIDIA A100 80GB PCIe", True),
        ("NVIDIA H100 80GB HBM3", True),
        ("Tesla T4", True),
        ("Tesla V100-SXM2-32GB", True),
        ("NVIDIA L40S", True),
        ("NVIDIA GeForce RTX 3090", False),
        ("GeForce GTX 1080 Ti", False),
        ("NVIDIA RTX A6000", False),
        ("Quadro RTX 8000", False),
        ("NVIDIA A4000", None),
        ("AMD Instinct MI210", None),
        ("", None),
        (None, None),
    ],
)
def test_data_centre_gpus_are_told_by_their_name(model: str | None, expected: bool | None) -> None:
    assert is_data_center(model) is expected


def _mig(uuids: str) -> dict[str, Any]:
    instances = [
        {"uuid": f"MIG-{uuid}", "model": "1g.5gb", "memory_bytes": 5 << 30, "gpu_instance": n, "compute_instance": 0}
        for n, uuid in enumerate(uuids)
    ]
    device = gpu_device("GPU-" + uuids, "NVIDIA A100-SXM4-40GB")
    return {**device, "mig": "enabled", "instances": instances}


def test_neither_uuids_nor_their_order_make_a_profile() -> None:
    prints = {
        fingerprint(
            profile_of(sample_report("gpu", gpus__devices=[_mig(uuids), gpu_device(uuids)], gpus__visible=[uuids]))
        )
        for uuids in ("ab", "cd", "dc")
    }
    assert len(prints) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"rocm_version": "6.1"},
        {"visible_count": 1},
        {"visible_count": None},
        {"devices": [_mig("a"), _mig("b")]},
        {"devices": [{**gpu_device(uuid), "mig": "disabled"} for uuid in "ab"]},
        {"devices": [{**gpu_device("a"), "error": 15}, gpu_device("b")]},
    ],
)
def test_what_a_job_gets_of_gpus_is_in_the_profile(change: dict[str, object]) -> None:
    report, other = sample_report("gpu"), sample_report("gpu")
    other["gpus"].update(change)
    assert fingerprint(profile_of(other)) != fingerprint(profile_of(report))


def test_the_probes_own_count_of_visible_devices_is_taken() -> None:
    report = sample_report("gpu", gpus__visible=["0", "7", "1"])
    assert profile_of(report)["gpus"]["visible_count"] == 3
    report["gpus"]["visible_count"] = 1
    assert profile_of(report)["gpus"]["visible_count"] == 1


def _nodes(**changes: object) -> GpuNodes:
    return gpu_nodes(profile_of(sample_report("gpu", **changes)))


def test_the_three_versions_are_told_apart() -> None:
    found = _nodes()
    assert (found.nvidia_driver, found.driver_cuda_api) == ("550.54.15", "12.4")
    assert (found.cuda_full, found.cuda_minor, found.cuda_forward) == ("12.4", "12.9", None)


def test_the_weakest_gpu_of_a_node_limits_cuda() -> None:
    devices = [gpu_device("a"), {**gpu_device("b", "Tesla V100-PCIE-16GB"), "compute_capability": "7.0"}]
    found = _nodes(gpus__driver_version="580.65.06", gpus__cuda_version="13.0", gpus__devices=devices)
    assert (found.cuda_full, found.cuda_minor) == ("12.9", "12.9")


@pytest.mark.parametrize("driver", [None, "", "six", "1" * 64, "-1", "5.5.5.5.5.5.5.5"])
def test_a_driver_of_no_known_version_runs_nothing_that_is_known(driver: str | None) -> None:
    found = _nodes(gpus__driver_version=driver, gpus__cuda_version=None)
    assert (found.cuda_full, found.cuda_minor, found.cuda_forward) == (None, None, None)


def test_amds_gpus_have_no_cuda() -> None:
    device = {**gpu_device("a", "Instinct MI210"), "vendor": "amd", "compute_capability": "gfx90a"}
    found = _nodes(gpus__driver_version="6.7.0", gpus__cuda_version=None, gpus__devices=[device])
    assert (found.nvidia_driver, found.cuda_full, found.cuda_minor) == (None, None, None)


def test_a_profile_of_an_older_release_is_read() -> None:
    profile = profile_of(sample_report("gpu"))
    del profile["gpus"]["rocm_version"]
    for device in profile["gpus"]["devices"]:
        for name in ("mig", "error", "instances"):
            del device[name]
    [device] = gpu_nodes(profile).devices
    assert device == Devices("nvidia", "NVIDIA A40", 48305799168, "8.6", None, (), None, True, 2)


def test_a_span_compares_numbers_and_keeps_the_drivers_own_words() -> None:
    found = span(["550.54.15", None, "535.129.03", "nonsense", "90.1"])
    assert (found.everywhere, found.anywhere) == ("90.1", "550.54.15")


OLD = {
    "gpus__driver_version": "535.129.03",
    "gpus__cuda_version": "12.2",
    "gpus__devices": [gpu_device("u", "NVIDIA A100-SXM4-40GB", 40 << 30)],
    "gpus__container": check("gpus.container", "fail", "gpu_container_failed"),
}
BROKEN = {"gpus__status": "fail", "gpus__reason": "gpu_driver_mismatch"}


def _fill(store: Store) -> None:
    cases: list[tuple[str, str, str, dict[str, Any]]] = [
        *(("S", "S_gpu", "gpu", {}) for _ in range(6)),
        *(("S", "S_gpu", "gpu", OLD) for _ in range(3)),
        ("S", "S_gpu", "gpu", BROKEN),
        ("S", "S_gpu", "deadline", {"gpus__status": "unknown", "gpus__reason": "deadline_reached"}),
        *(("S", "S_cpu", "healthy", {}) for _ in range(5)),
        ("T", "T_cpu", "healthy", {}),
    ]
    store.add(
        [
            sample(case, node=node, glidein__site=site, glidein__entry=entry, **changes)
            for node, (site, entry, case, changes) in enumerate(cases, 1)
        ]
    )


def _counts(place: Gpus) -> tuple[int, int, int]:
    return place.works.nodes_yes, place.works.nodes_no, place.works.nodes_unknown


def test_a_site_tells_models_drivers_cuda_and_container_access(store: Store) -> None:
    _fill(store)
    found = list_gpus(store, NOW)
    [place] = found.places
    assert (found.name, found.left_out, place.site, place.entry, place.nodes) == (None, 1, "S", None, 16)
    assert _counts(place) == (9, 6, 1)
    assert place.works.share == 9 / 15
    assert (place.inside.nodes_yes, place.inside.nodes_no, place.inside.nodes_unknown) == (6, 3, 0)
    assert [(model.model, model.nodes, model.devices) for model in place.models] == [
        ("NVIDIA A40", 7, 14),
        ("NVIDIA A100-SXM4-40GB", 3, 3),
    ]
    assert (place.nvidia_driver.everywhere, place.nvidia_driver.anywhere) == ("535.129.03", "550.54.15")
    assert (place.cuda_full.everywhere, place.cuda_full.anywhere) == ("12.2", "12.4")
    assert place.cuda_forward.anywhere == "13.4"
    assert [(kind.nodes, kind.status) for kind in place.kinds] == [(6, "ok"), (3, "ok"), (1, "fail")]


def test_a_claim_of_another_factory_is_not_the_entrys(store: Store, tmp_path: Path) -> None:
    _fill(store)
    path = write_factory(tmp_path, {"S_gpu": {"GLIDEIN_Resource_Slots": "GPUs,8,type=main"}})
    import_files(store, [path], "another.example.org", NOW)
    assert gpus_of(store, "S_gpu", NOW).places[0].claim is None
    import_files(store, [path], "factory.example.org", NOW)
    claim = gpus_of(store, "S_gpu", NOW).places[0].claim
    assert claim is not None
    assert claim.resource_slots == "GPUs,8,type=main"


def test_a_site_by_name_has_its_entries_and_what_they_claim(store: Store, tmp_path: Path) -> None:
    _fill(store)
    path = write_factory(tmp_path, {"S_gpu": {}, "S_cpu": {"GLIDEIN_Resource_Slots": "ioslot,1;GPUs,1,type=main"}})
    import_files(store, [path], "", NOW)
    found = gpus_of(store, "S", NOW)
    assert [place.entry for place in found.places] == [None, "S_cpu", "S_gpu"]
    assert [place.claim and place.claim.resource_slots for place in found.places] == [None, "GPUs,1,type=main", None]
    assert [_counts(place) for place in found.places] == [(9, 6, 1), (0, 5, 0), (9, 1, 1)]
    [entry] = gpus_of(store, "S_gpu", NOW).places
    assert (_counts(entry), entry.models, entry.claim) == (
        _counts(found.places[2]),
        found.places[2].models,
        found.places[2].claim,
    )


def test_what_is_asked_for_by_name_is_shown_also_without_gpus(store: Store) -> None:
    _fill(store)
    [place] = gpus_of(store, "T", NOW).places
    assert (_counts(place), place.models, place.kinds) == ((0, 1, 0), (), ())
    assert place.works.reasons[0].code == "gpu_none"


def test_names_that_are_not_there_or_of_several(store: Store) -> None:
    _fill(store)
    with pytest.raises(UnknownName, match="site or entry"):
        gpus_of(store, "nobody", NOW)
    store.add([sample("gpu", node=99, glidein__site="S", glidein__entry="S_gpu", glidein__factory="other")])
    with pytest.raises(AmbiguousName):
        gpus_of(store, "S_gpu", NOW)
    [place] = gpus_of(store, "S_gpu@other", NOW).places
    assert (place.factory, _counts(place)) == ("other", (1, 0, 0))


def test_a_driver_that_hangs_is_a_no_and_old_reports_do_not_count(store: Store) -> None:
    store.add([sample("gpu", node=1, gpus__status="timeout", gpus__reason="gpu_timeout")])
    store.add([sample("gpu", node=2, hours_ago=24 * 30)])
    [place] = list_gpus(store, NOW).places
    assert _counts(place) == (0, 1, 0)


def test_the_report_is_plain_json(store: Store) -> None:
    _fill(store)
    data = gpus_of(store, "S_gpu", NOW).to_dict()
    [place] = data["places"]
    assert set(place["kinds"][0]) >= {"nvidia_driver", "driver_cuda_api", "cuda_full", "cuda_minor", "cuda_forward"}
    assert "GPU-" not in str(data)


def test_a_simulated_fleet_has_the_gpus_that_its_truth_says(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'fleet.db'}")
    options = {"entries": 18, "most_nodes": 15, "days": 3, "noise": 0, "seed": 4}
    reports, truth = simulate(tmp_path, **options)
    feed(store, reports)
    compared = 0
    for name, entry in truth["entries"].items():
        if any(report["glidein"]["entry"] == name for report in reports):
            [place] = gpus_of(store, name, datetime.fromisoformat(END)).places
            there = place.works.nodes_yes + sum(kind.nodes for kind in place.kinds if kind.status == "fail")
            share = place.works.nodes_yes / there if there else None
            assert share == entry["shares"]["gpu"], name
            compared += there > 0
    store.close()
    assert compared >= 2
