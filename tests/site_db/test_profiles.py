"""The profile: equal for nodes of one kind, different when a verdict differs."""

import copy
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_db.profiles import canonical_json, fingerprint, profile_of
from tests.sample_reports import CASES, gpu_device, repository, runtime, sample_report

Json = Any  # what json.loads gives

STATUSES = ("ok", "fail", "unknown", "timeout", "skipped")


def _print(report: dict[str, Any]) -> str:
    return fingerprint(profile_of(report))


def _shuffled(value: Json, random: Random) -> Json:
    """The same JSON with every object's and list's order changed; lists whose order means something stay."""
    if isinstance(value, dict):
        names = list(value)
        random.shuffle(names)
        return {name: value[name] if name == "version" else _shuffled(value[name], random) for name in names}
    if isinstance(value, list):
        items = [_shuffled(item, random) for item in value]
        random.shuffle(items)
        return items
    return value


@given(case=st.sampled_from(sorted(CASES)), random=st.randoms(use_true_random=False), text=st.text(max_size=20))
def test_names_times_order_and_measurements_make_no_difference(case: str, random: Random, text: str) -> None:
    report = sample_report(case)
    other = sample_report(
        case,
        created_at="2027-01-01T00:00:00Z",
        duration_s=random.random() * 100,
        host__hostname=text,
        host__machine_id=None,
        host__cpu_model=text,
        host__cores=random.randrange(1, 500),
        host__memory_bytes=random.randrange(1 << 40),
        glidein__entry=text,
        glidein__site=text,
        images=[],
        singularity__path="/somewhere/else/" + text,
        singularity__command=text,
        cvmfs__client_version=text,
    )
    for item in other["cvmfs"]["repositories"]:
        item.update(latency_s=random.random(), revision=random.randrange(1000), host=text)
    for device in other["gpus"]["devices"]:
        device["uuid"] = text
    assert _print(_shuffled(other, random)) == _print(report)


def _verdict_places(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        *report["singularity"]["modes"].values(),
        *report["singularity"]["features"].values(),
        *(report["namespaces"][name] for name in ("user", "mount", "pid", "ipc", "net")),
        *report["cvmfs"]["repositories"],
        *(item["check"] for item in report["singularity"]["alternatives"]),
        report["gpus"],
        report["gpus"]["container"],
    ]


@given(case=st.sampled_from(sorted(CASES)), data=st.data())
def test_any_change_of_a_verdict_makes_another_profile(case: str, data: st.DataObject) -> None:
    report = sample_report(case)
    before = _print(report)
    place = data.draw(st.sampled_from(_verdict_places(report)))
    field = data.draw(st.sampled_from(["status", "reason"]))
    old = place[field]
    place[field] = data.draw(st.sampled_from(STATUSES if field == "status" else [None, "scratch_full", "proc_masked"]))
    assert (_print(report) == before) == (place[field] == old)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("host__arch", "aarch64"),
        ("host__microarch", "x86_64-v4"),
        ("host__os", {"id": "almalinux", "version_id": "9.5", "name": "AlmaLinux 9.5"}),
        ("host__kernel", {"release": "4.18", "version": [4, 18, 0]}),
        ("host__kernel", {"release": None, "version": None}),
        ("host__libc", "glibc 2.28"),
        ("host__container", {"kind": "docker"}),
        ("host__cgroup__version", 1),
        ("singularity__usable", None),
        ("singularity__mode", "fakeroot"),
        ("singularity__version", "1.4.4"),
        ("cvmfs__kind", "fuse"),
        ("cvmfs__repositories", [repository("oasis.opensciencegrid.org")]),
        ("gpus__driver_version", "550.90.07"),
        ("gpus__cuda_version", "12.5"),
        ("gpus__visible", ["0"]),
        ("gpus__devices", [gpu_device("a"), gpu_device("b", model="NVIDIA A100")]),
        ("gpus__devices", [gpu_device("a"), gpu_device("b"), gpu_device("c")]),
        ("runtimes", [runtime(setuid=True)]),
        ("runtimes", []),
    ],
)
def test_what_decides_what_can_run_is_in_the_profile(path: str, value: object) -> None:
    assert _print(sample_report("gpu", **{path: value})) != _print(sample_report("gpu"))


def test_the_folder_of_a_single_glidein_makes_no_profile_of_its_own() -> None:
    prints = set()
    for folder in ("glide_aB3xYz", "glide_Qw9rTt"):
        report = sample_report("pid_masked")
        report["singularity"]["alternatives"][0]["change"] = {"SINGULARITY_BIN": f"/scratch/{folder}/main/usr/bin"}
        prints.add(_print(report))
    assert len(prints) == 1


def test_the_profile_of_hostile_text_can_be_stored_and_sent() -> None:
    report = sample_report(host__libc="a\0\ud800", cvmfs__repositories=[repository("x\x1b\0")])
    text = canonical_json(profile_of(report))
    assert "\\u0000" not in text
    assert "\\ud800" not in text
    assert "x\\ufffd\\ufffd" in text


def test_the_report_is_left_as_it_was() -> None:
    report = sample_report("pid_masked")
    before = copy.deepcopy(report)
    profile_of(report)
    assert report == before


def test_a_repository_named_twice_counts_once_whatever_the_order() -> None:
    twice = [repository("a"), repository("a", "timeout", "cvmfs_hung")]
    assert _print(sample_report(cvmfs__repositories=twice)) == _print(sample_report(cvmfs__repositories=twice[::-1]))
