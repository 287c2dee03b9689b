"""Images given by name: where they are looked for, and what their shell answers."""
# ruff: noqa: ANN001 - the rows of a table give the types of its test's arguments

import errno
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probe.command_line import Launch
from probe.detectors import image_choice, image_places, image_starts, images
from probe.host import Host, Run
from probe.process import Outcome
from probe.registry import IMAGE_SETTINGS
from tests.probe.samples import exited, killed, not_started, settings, timed_out


@pytest.mark.parametrize(
    ("given", "dictionary", "expected"),
    [
        ([], "", {}),
        (["/a", "docker://b", "/a"], "", {"/a": [], "docker://b": []}),
        ([], "rhel8:/cvmfs/x,rhel9:/cvmfs/y", {"/cvmfs/x": ["rhel8"], "/cvmfs/y": ["rhel9"]}),
        (["/y"], "rhel8: /x ,default:/y,rhel9:/y,,broken", {"/y": ["default", "rhel9"], "/x": ["rhel8"]}),
        ([], "a:docker://h:5000/x", {"docker://h:5000/x": ["a"]}),
    ],
)
def test_the_images_to_try_with_their_keys(given, dictionary, expected):
    assert image_places.references(settings({"SINGULARITY_IMAGES_DICT": dictionary}, images=given)) == expected


def test_the_glideins_own_images_have_the_keys_that_they_stand_for():
    own = {"SINGULARITY_IMAGE_DEFAULT7": "/old7", "APPTAINER_TEST_IMAGE": "/test", "SINGULARITY_IMAGES_DICT": "x:/test"}
    assert image_places.references(settings(own)) == {"/test": ["x", "test"], "/old7": ["rhel7"]}


def test_the_registry_of_detectors_knows_all_settings_that_name_images():
    assert set(IMAGE_SETTINGS) == {"SINGULARITY_IMAGES_DICT", *image_places.SINGLE}


@pytest.mark.parametrize(
    ("reference", "is_url"),
    [("docker://a/b", True), ("oras://x", True), ("/a.sif", False), ("relative", False), ("/a://b", False)],
)
def test_a_url_is_a_registry_image(reference, is_url):
    assert image_places.is_url(reference) is is_url


@pytest.mark.parametrize(
    ("reference", "mount_dir", "path"),
    [
        ("/cvmfs/a/b", "/cvmfs", "/cvmfs/a/b"),
        ("/cvmfs/a/b", "/tmp/c", "/tmp/c/a/b"),
        ("/cvmfs2/a", "/tmp/c", "/cvmfs2/a"),
        ("/data/x.sif", "/tmp/c", "/data/x.sif"),
        ("x.sif", "/cvmfs", "/work/x.sif"),
        ("--bind=/etc", "/cvmfs", "/work/--bind=/etc"),  # no option of the runtime's
    ],
)
def test_cvmfs_stands_for_wherever_it_is_mounted(reference, mount_dir, path):
    assert image_places.place(reference, mount_dir, "/work") == path


NONCE = "9f"
ANSWER = (
    f"{NONCE} arch x86_64\n{NONCE} libc glibc 2.34\n{NONCE} started\n"
    f'{NONCE} os ID="rocky"\n{NONCE} os VERSION_ID="9.4"\n{NONCE} os NAME="Rocky Linux"\n{NONCE} end\n'
)
ROCKY = {"id": "rocky", "version_id": "9.4", "name": "Rocky Linux"}


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        (ANSWER, (True, "x86_64", "glibc 2.34", ROCKY)),
        ("noise\r\n" + ANSWER.replace("\n", "\r\n"), (True, "x86_64", "glibc 2.34", ROCKY)),
        (
            f"{NONCE} arch x86_64\n{NONCE} libc \n{NONCE} musl /lib/ld-musl-x86_64.so.1\n{NONCE} started\n",
            (True, "x86_64", "musl", None),
        ),
        (f"{NONCE} arch \n{NONCE} libc \n{NONCE} started\n{NONCE} end\n", (True, None, None, None)),
        (f"{NONCE} arch x86_64\n", (False, "x86_64", None, None)),
        ("", (False, None, None, None)),
    ],
)
def test_the_shells_answer_is_read(stdout, expected):
    found = image_starts.parse_answer(stdout, NONCE)
    assert (found["started"], found["arch"], found["libc"], found["os"]) == expected


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        (exited(0, ANSWER), "ok", None),
        (exited(152, ANSWER.partition(f"{NONCE} os")[0]), "ok", None),  # it ended reading an endless os-release
        (exited(0, ""), "fail", "image_start_failed"),
        (exited(255, "", "FATAL:   stat /bin/sh: no such file\n"), "fail", "image_start_failed"),
        (exited(255, "", "FATAL:   while extracting: no space left on device\n"), "fail", "scratch_full"),
        (exited(1, "", "FATAL: kernel too old\n"), "fail", "image_needs_newer_kernel"),
        (exited(255, "", "/bin/sh: exec format error\n"), "fail", "image_wrong_arch"),
        (
            exited(
                127,
                "",
                "/bin/sh: CPU ISA level is lower than required\n",
            ),
            "fail",
            "image_needs_newer_cpu",
        ),
        (exited(127, "", "Fatal glibc error: CPU does not support x86-64-v3\n"), "fail", "image_needs_newer_cpu"),
        (killed(9), "fail", "image_start_failed"),
        (not_started(errno.ENOENT), "fail", "image_start_failed"),
        (timed_out(), "timeout", "runtime_timeout"),
    ],
)
def test_a_start_of_an_image_is_judged(outcome, status, reason):
    row = image_starts.judge(outcome, NONCE)
    assert (row["status"], row["reason"]) == (status, reason)
    assert (row["message"] is None) == (status == "ok")


def _registry_row(status="ok", reason=None, exec_s=1.5, kind="registry") -> dict[str, Any]:
    return {"ref": "docker://x", "kind": kind, "status": status, "reason": reason, "message": None, "exec_s": exec_s}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], None),
        ([_registry_row(exec_s=None)], None),  # its registry has it, nothing was started
        ([_registry_row(kind="sif")], None),
        ([_registry_row()], ("ok", None)),
        ([_registry_row("fail", "image_missing"), _registry_row()], ("ok", None)),
        ([_registry_row("fail", "image_missing")], ("unknown", "image_missing")),
        ([_registry_row("fail", "registry_auth_needed")], ("unknown", "registry_auth_needed")),
        ([_registry_row("fail", "image_missing"), _registry_row("fail", "scratch_full")], ("fail", "scratch_full")),
        ([_registry_row("timeout", "runtime_timeout")], ("timeout", "runtime_timeout")),
    ],
)
def test_images_of_registries_are_a_feature_where_one_was_started(rows, expected):
    found = images._features(rows).get("registry")
    assert (found and (found["status"], found["reason"])) == expected


def test_what_is_pulled_and_unpacked_goes_with_the_work_folder(tmp_path: Path):
    runtime = tmp_path / "apptainer"
    runtime.write_text(f"#!/bin/sh\nenv >{tmp_path}/environment\n")
    runtime.chmod(0o755)
    launch = Launch(str(runtime), [], [])
    means = image_starts.Means(launch, launch, "/work", None, "/cvmfs", str)
    row = dict.fromkeys(("path", "reason", "message", "os", "libc", "arch"))
    row.update(ref="docker://a.example/b", status="ok", evidence={}, exec_s=None)
    host = Host({"PATH": "/opt/bin", "LD_LIBRARY_PATH": "/opt/lib", "APPTAINER_CACHEDIR": "/home/x", "HOME": "/home/x"})
    image_starts.start_all(host, means, [row], 20.0)
    told = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    assert {name: value for name, value in told.items() if value == "/work"} == dict.fromkeys(
        ("APPTAINER_TMPDIR", "APPTAINER_CACHEDIR", "SINGULARITY_TMPDIR", "SINGULARITY_CACHEDIR"), "/work"
    )
    assert (told["PATH"], told.get("LD_LIBRARY_PATH"), told["HOME"]) == ("/usr/bin:/bin", None, "/home/x")


class Starts(Host):
    """A host on which every start comes to the same."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__({})
        self.outcome = outcome
        self.started: list[str] = []

    def run_each(self, runs: dict[str, Run], *_how: object, **_named: object) -> dict[str, Outcome]:
        self.started += runs
        return dict.fromkeys(runs, self.outcome)


@pytest.mark.parametrize(
    ("after_s", "left_running", "left_out", "statuses"),
    [
        (20.0, False, 0, ["timeout"] * 4),
        (0.7, True, 0, ["timeout"] * 4),
        (0.7, False, 4, ["ok"] * 4),  # the budget's last second: nothing is known of these images, nor of their mount
    ],
)
def test_an_image_that_was_given_too_little_time_is_left_for_later(after_s, left_running, left_out, statuses):
    host = Starts(timed_out()._replace(duration_s=after_s, left_running=left_running))
    launch = Launch("/bin/apptainer", [], [])
    means = image_starts.Means(launch, launch, "/work", None, "/cvmfs", lambda _path: "/cvmfs/a.example")
    rows = [images._row(f"/cvmfs/a.example/{number}", path=f"/cvmfs/a.example/{number}") for number in range(4)]
    late = image_starts.start_all(host, means, rows, 60.0)
    assert (len(late), [row["status"] for row in rows]) == (left_out, statuses)


def test_where_no_container_starts_no_image_is_good_though_its_registry_has_it():
    rows = [images._row("docker://a.example/b", kind="registry"), images._row("/image", kind="sandbox")]
    earlier = {"singularity": {"usable": False}, "work_folder": {}}
    assert images._start(Host({}), settings(), earlier, [], rows, 20.0) == []
    assert {(row["status"], row["reason"]) for row in rows} == {("unknown", "prerequisite_failed")}


@pytest.mark.parametrize(
    ("error", "on_cvmfs", "reason"),
    [
        (errno.ENOENT, True, "image_missing"),
        (errno.ELOOP, False, "image_missing"),
        (errno.ENAMETOOLONG, False, "image_missing"),
        (errno.ENOTCONN, True, "cvmfs_disconnected"),
        (errno.ENOTCONN, False, "image_unreadable"),
        (errno.EIO, True, "image_unreadable"),
        (errno.EACCES, False, "image_unreadable"),
        (None, False, "image_unreadable"),
    ],
)
def test_why_an_image_cannot_be_looked_at(error, on_cvmfs, reason):
    assert image_starts.reason_of_errno(error, on_cvmfs) == reason


def test_kinds_of_images_are_told_by_looking(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.sif").write_bytes(b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\0")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10 * 1024**3)
    kinds = {path.name: image_places.look(str(path)) for path in [*tmp_path.iterdir(), tmp_path / "no"]}
    assert {name: found.get("kind") for name, found in kinds.items()} == {
        "folder": "sandbox",
        "x.sif": "sif",
        "text": None,
        "link": "sandbox",
        "no": None,
        "loop": None,
        "pipe": None,
        "zero": None,
        "sparse": None,
    }
    assert (kinds["no"]["errno"], kinds["loop"]["errno"]) == (errno.ENOENT, errno.ELOOP)
    assert kinds["link"]["real"] == str(tmp_path / "folder")
    assert (kinds["pipe"]["odd"], kinds["zero"]["odd"]) == ("a pipe", "a character device")


def test_absolute_links_within_cvmfs_lead_into_where_it_is_mounted(tmp_path):
    (tmp_path / "r.example/.images/ab").mkdir(parents=True)
    (tmp_path / "r.example/ns").mkdir()
    (tmp_path / "r.example/ns/image:1").symlink_to("/cvmfs/r.example/.images/ab")
    (tmp_path / "r.example/ns/image:latest").symlink_to("image:1")
    (tmp_path / "r.example/current").symlink_to("/cvmfs/r.example/ns")
    (tmp_path / "r.example/round").symlink_to("/cvmfs/r.example/round")
    mount_dir, goal = str(tmp_path), str(tmp_path / "r.example/.images/ab")
    for name in ("ns/image:1", "ns/image:latest", "current/image:latest", "ns/../ns/./image:1"):
        path = image_places.place("/cvmfs/r.example/" + name, mount_dir, None)
        assert image_places.look(path, mount_dir) == {"real": goal, "kind": "sandbox"}
    assert image_places.look(str(tmp_path / "r.example/round"), mount_dir) == {"errno": errno.ELOOP}


def test_links_that_lead_out_of_cvmfs_are_followed_as_the_kernel_does(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert image_places.resolve(str(tmp_path / "link"), "/cvmfs") == str(tmp_path / "elsewhere")
    assert image_places.resolve("/proc/self/../../etc/./", "/cvmfs") == os.path.realpath("/etc")


names = st.lists(st.sampled_from(["a", "b", "..", ".", "", "l", "m"]), max_size=6).map("/".join)


@given(path=names)
def test_paths_are_resolved_as_the_kernel_resolves_them(tmp_path_factory, path):
    top = tmp_path_factory.mktemp("paths")
    (top / "a/b").mkdir(parents=True)
    (top / "b").mkdir()
    (top / "l").symlink_to("a")
    (top / "a/m").symlink_to("../b")
    whole = f"{top}/{path}"
    try:
        expected = str(Path(whole).resolve(strict=True))
    except OSError:
        expected = None
    try:
        mine = image_places.resolve(whole, "/cvmfs")
        Path(mine).stat()
    except OSError:
        mine = None
    assert mine == expected


# --- which images a run tries ---

CATALOGUE = [f"/cvmfs/singularity.opensciencegrid.org/ns/image-{number}:latest" for number in range(650)]


def test_few_images_are_all_tried():
    assert image_choice.choose(CATALOGUE[:50], "node", 7, 50) == CATALOGUE[:50]


def test_a_node_tries_each_of_many_images_in_turn():
    seen = [image for slot in range(480_000, 480_013) for image in image_choice.choose(CATALOGUE, "node", slot, 50)]
    assert sorted(seen) == sorted(CATALOGUE)


def test_the_hour_makes_the_slot():
    assert image_choice.slot_of(7199.9) == 1


def test_an_image_that_goes_moves_no_other():
    order = image_choice.ranked(CATALOGUE, "node")
    assert image_choice.ranked(CATALOGUE[1:], "node") == [image for image in order if image != CATALOGUE[0]]


def test_a_fleet_covers_all_images_evenly(capsys):
    """650 images, 1000 nodes, 50 images a run: how often an image is tried within so many hours."""
    orders = [image_choice.ranked(CATALOGUE, f"node{number}.example") for number in range(1000)]
    rows = []
    for hours in (1, 6, 13, 24):
        counts = Counter(
            image
            for order in orders
            for slot in range(480_000, 480_000 + hours)
            for image in image_choice.stretch(order, slot, 50)
        )
        mean = 1000 * hours * 50 / 650
        rows.append((hours, len(counts), min(counts.values()), max(counts.values()), round(mean, 1)))
        assert len(counts) == 650
        # Within five standard deviations of independent draws; a whole turn of each node leaves no deviation at all.
        spread = 0 if hours == 13 else 5 * mean**0.5
        assert mean - spread <= min(counts.values()) <= max(counts.values()) <= mean + spread
    with capsys.disabled():
        print("\nhours  images  least  most  mean")  # noqa: T201 - the table is what the test is read for
        print("\n".join("{:5}  {:6}  {:5}  {:4}  {}".format(*row) for row in rows))  # noqa: T201 - as above
