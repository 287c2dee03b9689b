"""The verdict on a node: which runtime and which image decide, and when nothing is known."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from probe.detectors import singularity
from probe.host import Host, Run
from probe.process import Outcome
from tests.probe.samples import exited, killed, settings

OURS = "/work/image"
REFUSED = exited(255, stderr="FATAL:   apptainer image is not in an allowed configured path\n")
NO_FOLDERS = exited(255, stderr="FATAL:   configuration disallows users from running sandbox containers\n")
BROKEN = exited(255, stderr="FATAL:   something else\n")
GOOD = exited(0, "word uid_map 1001 1001 1\nword pid 1\nword end\n")
HANGS = Outcome("timeout", None, None, None, "", "", 20.0)
CUT_SHORT = HANGS._replace(duration_s=1.4)


class HostOf(Host):
    """A host on which the start of a binary with an image comes to what `outcomes` says: "BINARY IMAGE" or "IMAGE"."""

    def __init__(self, outcomes: Mapping[str, Outcome]) -> None:
        super().__init__({"PATH": "/bin"})
        self.outcomes = outcomes
        self.started: list[str] = []

    def nonce(self) -> str:
        return "word"

    def run_each(self, runs: dict[str, Run], _limit_s: float, _at_once: int = 64) -> dict[str, Outcome]:
        return {name: self.outcome(run.command) for name, run in runs.items()}

    def outcome(self, command: list[str]) -> Outcome:
        images = [word for word in command if word in {name.split()[-1] for name in self.outcomes}]
        key = f"{command[0]} {images[-1]}"
        self.started.append(key)
        return self.outcomes[key] if key in self.outcomes else self.outcomes[images[-1]]


def runtime(path: str, status: str = "ok", reason: str | None = None, found_by: str = "PATH") -> dict[str, Any]:
    setuid = {"installed": False, "usable": False, "reason": "setuid_not_installed", "path": None}
    fields: dict[str, Any] = {"product": "apptainer", "version": "1.4.5", "version_text": None, "configuration": None}
    return {"path": path, "status": status, "reason": reason, "found_by": found_by, "setuid": setuid, **fields}


def detected(
    outcomes: Mapping[str, Outcome],
    *runtimes: dict[str, Any],
    sandbox: str | None = OURS,
    glidein: dict[str, str] | None = None,
    **changes: Any,  # noqa: ANN401  fields of Settings
) -> tuple[dict[str, Any], HostOf]:
    """The report's ``singularity``, and the host."""
    work = {"work_folder": "/work", "sandbox": sandbox, "sif": None, "sif_zstd": None}
    scratch: dict[str, Any] = {"binds": [], "storage": [], "refusal": None}
    scratch.update(dict.fromkeys(("home_hung", "folder_hung", "bind_hung")))
    earlier = {"runtimes": list(runtimes or [runtime("/bin/apptainer")]), "work_folder": work, "scratch": scratch}
    host = HostOf(outcomes)
    every = singularity.detect(host, settings(glidein, **changes), {**earlier, "namespaces": {}})
    data: dict[str, Any] = list(every)[-1]["data"]
    return data, host


def verdict(data: Mapping[str, Any]) -> tuple[bool | None, str | None]:
    return data["usable"], data["reason"]


@pytest.fixture
def image(tmp_path: Path) -> str:
    """A folder that an image may be."""
    (tmp_path / "image").mkdir()
    return str(tmp_path / "image")


@pytest.mark.parametrize("setting", ["dictionary", "default", "test", "option"])
def test_where_ours_is_refused_the_glideins_image_decides_wherever_it_is_named(setting: str, image: str):
    glidein, given = {
        "dictionary": ({"SINGULARITY_IMAGES_DICT": f"rhel9:{image},rhel7:/no/such"}, []),
        "default": ({"SINGULARITY_IMAGE_DEFAULT7": image}, []),
        "test": ({"APPTAINER_TEST_IMAGE": image}, []),
        "option": ({}, [image]),
    }[setting]
    data, _ = detected({OURS: REFUSED, image: GOOD}, glidein=glidein, images=given)
    assert verdict(data) == (True, None)
    assert data["mode"] == "unprivileged"
    assert shlex.quote(image) in data["command"]
    assert data["modes"]["unprivileged"]["status"] == "ok"


def test_the_glideins_default_image_comes_before_its_others_and_few_are_started(tmp_path: Path):
    images = [str(tmp_path / name) for name in "abcdefg"]
    for folder in images:
        Path(folder).mkdir()
    named = ",".join(f"{Path(path).name}:{path}" for path in images[:-1])
    dictionary = f"{named},default:{images[-1]}"
    data, host = detected(
        {OURS: REFUSED, **dict.fromkeys(images, GOOD)}, glidein={"SINGULARITY_IMAGES_DICT": dictionary}
    )
    assert images[-1] in data["command"]
    assert set(host.started) == {f"/bin/apptainer {path}" for path in [OURS, images[-1], *images[:2]]}


@pytest.mark.parametrize(
    ("ours", "reason"), [(REFUSED, "sif_disallowed_by_config"), (NO_FOLDERS, "sandbox_disallowed_by_config")]
)
@pytest.mark.parametrize("given", [[], ["docker://alpine"], ["/no/such/image"]])
def test_where_ours_is_refused_and_no_other_is_known_nothing_is_known(ours: Outcome, reason: str, given: list[str]):
    data, _ = detected({OURS: ours}, images=given)
    assert verdict(data) == (None, reason)


def test_where_all_known_images_are_refused_singularity_cannot_be_used(image: str):
    data, _ = detected({OURS: REFUSED, image: REFUSED}, images=[image])
    assert verdict(data) == (False, "sif_disallowed_by_config")


def test_a_sif_may_run_where_folders_are_refused(tmp_path: Path):
    sif = tmp_path / "image.sif"
    sif.write_bytes(b"#!/usr/bin/env run-singularity\nSIF_MAGIC\0")
    data, _ = detected({OURS: NO_FOLDERS, str(sif): GOOD}, glidein={"SINGULARITY_IMAGES_DICT": f"default:{sif}"})
    assert verdict(data) == (True, None)
    assert data["features"]["sandbox"]["reason"] == "sandbox_disallowed_by_config"


def test_what_was_tried_with_an_image_that_only_its_place_forbids_tells_nothing(image: str):
    data, _ = detected({OURS: REFUSED, image: GOOD}, images=[image])
    assert data["features"]["bind_new_path"]["status"] == "unknown"
    assert data["features"]["sandbox"]["status"] == "ok"


@pytest.mark.parametrize("given", [["docker://alpine"], []])
def test_without_an_image_in_the_file_system_it_cannot_be_tried(given: list[str]):
    data, _ = detected({}, sandbox=None, images=given)
    assert verdict(data) == (None, "cannot_be_tried")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (HANGS, (False, "runtime_timeout")),
        (CUT_SHORT, (None, "deadline_reached")),
        (CUT_SHORT._replace(left_running=True), (False, "runtime_timeout")),
    ],
)
def test_a_start_that_had_no_time_is_told_from_one_that_hangs(outcome: Outcome, expected: tuple[bool | None, str]):
    data, _ = detected({OURS: outcome})
    assert verdict(data) == expected
    assert data["features"]["sandbox"]["reason"] == expected[1]


BOTH = (runtime("/a/apptainer", found_by="SINGULARITY_BIN:OSG"), runtime("/b/apptainer"))


@pytest.mark.parametrize(
    ("first", "second", "expected", "path"),
    [
        (BROKEN, GOOD, (True, None), "/b/apptainer"),
        (BROKEN, BROKEN, (False, "runtime_failed"), "/a/apptainer"),
        (BROKEN, killed(11), (False, "runtime_crashed"), "/b/apptainer"),
        (killed(11), BROKEN, (False, "runtime_crashed"), "/a/apptainer"),
        # The glidein's search stands there for ever, or would not have come to the second.
        (HANGS, GOOD, (False, "runtime_timeout"), "/a/apptainer"),
        (BROKEN, HANGS, (False, "runtime_timeout"), "/b/apptainer"),
        (BROKEN, CUT_SHORT, (None, "deadline_reached"), "/b/apptainer"),
        (REFUSED, BROKEN, (None, "sif_disallowed_by_config"), "/a/apptainer"),
        (BROKEN, REFUSED, (None, "sif_disallowed_by_config"), "/b/apptainer"),
    ],
)
def test_the_search_goes_on_as_far_as_the_glideins(
    first: Outcome, second: Outcome, expected: tuple[bool | None, str | None], path: str
):
    data, _ = detected({f"/a/apptainer {OURS}": first, f"/b/apptainer {OURS}": second, OURS: BROKEN}, *BOTH)
    assert verdict(data) == expected
    assert data["path"] == path


@pytest.mark.parametrize(
    ("found_by", "outcome", "expected"),
    [
        ("SINGULARITY_BIN:OSG", GOOD, [({"SINGULARITY_BIN": "PATH"}, "ok")]),
        ("SINGULARITY_BIN:OSG", BROKEN, [({"SINGULARITY_BIN": "PATH"}, "fail")]),
        ("GLIDEIN_SINGULARITY_BINARY_OVERRIDE", GOOD, [({"GLIDEIN_SINGULARITY_BINARY_OVERRIDE": None}, "ok")]),
        ("PATH", GOOD, []),
    ],
)
def test_a_place_that_hangs_can_be_passed_by(found_by: str, outcome: Outcome, expected: list[object]):
    before = runtime("/hung/bin", "timeout", "runtime_timeout", found_by)
    data, _ = detected({OURS: outcome}, before, runtime("/bin/singularity", found_by="condor"))
    assert verdict(data) == (False, "runtime_timeout")
    assert [(row["change"], row["check"]["status"]) for row in data["alternatives"]] == expected


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("timeout", "cvmfs_hung", (False, "cvmfs_hung")),
        ("unknown", "deadline_reached", (None, "deadline_reached")),
        ("fail", "runtime_wrong_output", (True, None)),
    ],
)
def test_a_place_before_the_good_one(status: str, reason: str, expected: tuple[bool | None, str | None]):
    before = runtime("/cvmfs/oasis/bin", status, reason, "SINGULARITY_BIN:OSG")
    data, _ = detected({OURS: GOOD}, before, runtime("/bin/apptainer"))
    assert verdict(data) == expected
