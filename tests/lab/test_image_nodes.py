"""Images of every kind, hostile ones too, on a node with the real Apptainer and the built probe."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cvmfs_standin import Fault, StandIn
from tests.lab.images import busybox_sif
from tests.lab.laboratory import Laboratory
from tests.probe.registry_standin import registry

pytestmark = pytest.mark.lab

REPOSITORY = "images.example.org"
ODD_NAME = """a$(touch ran);b "c" 'd' [e] {f} `touch ran` \\ && exit <g>"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that the ordinary user may write to and start images from."""
    with tempfile.TemporaryDirectory(prefix="images-", dir="/var/tmp") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def run(lab: Laboratory, home: Path, *arguments: str, **settings: str) -> tuple[dict[str, Any], float]:
    """The probe's report, and how long it took."""
    variables = [
        f"PATH={lab.apptainer.parent}:/usr/bin:/bin",
        f"HOME={home}",
        *(f"{k}={v}" for k, v in settings.items()),
    ]
    command = ["runuser", "-u", "glidein", "--", "env", "-i", *variables, str(lab.probe), "run", *arguments]
    began = time.monotonic()
    done = subprocess.run(command, cwd=home, stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout), time.monotonic() - began


def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["ref"]: row for row in report["images"]}


def said(report: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {Path(name).name: (row["status"], row["reason"]) for name, row in rows(report).items()}


def options(*images: Path | str) -> list[str]:
    return [f"--image={image}" for image in images]


def copy(lab: Laboratory, target: Path) -> Path:
    shutil.copytree(lab.image, target, symlinks=True)
    return target


def test_images_of_every_kind_are_told_apart(lab: Laboratory, home: Path):
    copy(lab, home / "pipe-inside/.").joinpath("etc/os-release").unlink()
    os.mkfifo(home / "pipe-inside/etc/os-release")
    endless = copy(lab, home / "endless-inside") / "etc/os-release"
    endless.unlink()
    endless.symlink_to("/dev/zero")
    with (copy(lab, home / "sparse-inside") / "etc/os-release").open("r+b") as file:
        file.truncate(10 * 1024**3)
    (copy(lab, home / "no-shell") / "bin/sh").unlink()
    os.mkfifo(home / "pipe")
    (home / "device").symlink_to("/dev/zero")
    (home / "loop").symlink_to("loop")
    with (home / "sparse.sif").open("wb") as file:
        file.truncate(10 * 1024**3)
    (home / ODD_NAME).symlink_to(lab.image)
    (home / "--bind=").symlink_to(lab.image)
    good = ["fine", "pipe-inside", "endless-inside", "sparse-inside", "no-shell"]
    (home / "fine").symlink_to(lab.image)
    images = [*(home / name for name in good), home / "pipe", home / "device", home / "loop", home / "sparse.sif"]
    report, duration_s = run(lab, home, *options(*images, home / ODD_NAME, "--bind=", home / "missing"))
    assert said(report) == {
        **dict.fromkeys([*good, Path(ODD_NAME).name, "--bind="], ("ok", None)),
        "pipe": ("fail", "image_invalid"),
        "device": ("fail", "image_invalid"),
        "loop": ("fail", "image_missing"),
        "sparse.sif": ("fail", "image_invalid"),
        "missing": ("fail", "image_missing"),
    }
    assert not (home / "ran").exists()
    assert duration_s < 30
    found = rows(report)
    fine = found[str(home / "fine")]
    assert (fine["os"]["id"], fine["arch"], fine["kind"]) == ("probelab", os.uname().machine, "sandbox")
    assert 0 < fine["exec_s"] < 20
    assert "no /bin/sh" in found[str(home / "no-shell")]["message"]
    assert found[str(home / "pipe-inside")]["os"] is None


def test_the_glideins_dictionary_is_tried_with_its_keys_and_links_within_cvmfs(lab: Laboratory, home: Path):
    mount_dir = home / "cvmfs"
    copy(lab, mount_dir / REPOSITORY / ".images/ab")
    (mount_dir / REPOSITORY / "ns").mkdir()
    (mount_dir / REPOSITORY / "ns/el9:latest").symlink_to(f"/cvmfs/{REPOSITORY}/.images/ab")
    image = f"/cvmfs/{REPOSITORY}/ns/el9:latest"
    dictionary = f"rhel9:{image},default:{image},gone:/cvmfs/{REPOSITORY}/ns/el7:latest"
    report, _ = run(lab, home, SINGULARITY_IMAGES_DICT=dictionary, CVMFS_MOUNT_DIR=str(mount_dir))
    assert said(report) == {"el9:latest": ("ok", None), "el7:latest": ("fail", "image_missing")}
    row = rows(report)[image]
    assert row["keys"] == ["rhel9", "default"]
    assert row["evidence"]["real"] == str(mount_dir / REPOSITORY / ".images/ab")


def test_a_mount_that_hangs_costs_one_process_however_many_images_lie_on_it(lab: Laboratory, home: Path):
    with served(home, "x") as (standin, point):
        standin.set(REPOSITORY, Fault("hang"))
        images = [*(point / f"image{number}" for number in range(5)), lab.image]
        report, duration_s = run(lab, home, "--deadline", "8", *options(*images))
        assert said(report) == {
            **{f"image{number}": ("timeout", "image_unreadable") for number in range(5)},
            lab.image.name: ("ok", None),
        }
        assert duration_s < 9
        assert len(processes_in("D", home)) == 1
        # Another image on the same mount, another run: not touched.
        again, _ = run(lab, home, "--deadline", "8", "--only", "images", *options(point / "another"))
        assert said(again) == {"another": ("timeout", "image_unreadable")}
        assert len(processes_in("D", home)) == 1


def processes_in(state: str, home: Path) -> list[str]:
    """Process ids in a state, by the name that workers carry, of a probe with images in this folder."""
    listed = subprocess.run(["ps", "-wweo", "pid,stat,comm,args"], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 3) for line in listed.splitlines()]
    from probe import stuck

    return [
        pid
        for pid, stat, name, arguments in lines
        if stat.startswith(state) and name.startswith(stuck.PREFIX) and str(home) in arguments
    ]


@contextlib.contextmanager
def served(home: Path, *files: str) -> Iterator[tuple[StandIn, Path]]:
    """A FUSE file system, as its server's control and its mount point."""
    tree, point = home / "tree", home / "mnt"
    for name in files:
        (tree / REPOSITORY / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / REPOSITORY / name).touch()
    point.mkdir()
    with StandIn(point, tree, fqrn=REPOSITORY) as standin:
        yield standin, point


def test_an_image_that_vanishes_while_it_starts_is_told(lab: Laboratory, home: Path):
    tree = home / "tree"
    copy(lab, tree / REPOSITORY / "el9")
    (home / "server").mkdir()
    with StandIn(home / "server", tree) as standin:
        point = home / "cvmfs" / REPOSITORY
        standin.show(REPOSITORY, point)
        standin.set(REPOSITORY, Fault("slow", below="/el9/bin", seconds=30.0))

        def vanish() -> None:
            standin.await_waiting(REPOSITORY, seconds=30)
            standin.vanish(REPOSITORY, point)

        vanishing = threading.Thread(target=vanish)
        vanishing.start()
        report, _ = run(lab, home, *options(f"/cvmfs/{REPOSITORY}/el9"), CVMFS_MOUNT_DIR=str(home / "cvmfs"))
        vanishing.join()
    status, reason = said(report)["el9"]
    assert status in ("fail", "timeout")
    assert reason in ("image_missing", "image_unreadable", "cvmfs_disconnected")


def test_sif_files_start_and_say_what_they_are(lab: Laboratory, home: Path):
    sif = busybox_sif(lab.lab, lab.apptainer)
    report, _ = run(lab, home, *options(sif))
    row = rows(report)[str(sif)]
    openable = Path("/dev/fuse").stat().st_mode & 0o006 == 0o006
    expected = ("ok", None) if openable else ("fail", "fuse_device_denied")
    assert (row["status"], row["reason"], row["kind"]) == (*expected, "sif"), row


def test_of_many_images_some_are_tried_and_the_others_counted(lab: Laboratory, home: Path):
    for number in range(100):
        (home / f"image{number:02}").symlink_to(lab.image)
    images = [home / f"image{number:02}" for number in range(100)]
    report, _ = run(lab, home, *options(*images), PROBE_IMAGE_BUDGET="60:3")
    assert {row["status"] for row in report["images"]} == {"ok"}
    coverage = report["image_coverage"]
    assert (coverage["wanted"], coverage["tried"], coverage["left_out_count"]) == (100, 3, 97)
    assert len(coverage["left_out"]) == 64
    assert not {row["ref"] for row in report["images"]} & set(coverage["left_out"])
    (check,) = [row for row in report["checks"] if row["id"] == "images"]
    assert (check["status"], check["reason"]) == ("skipped", "over_budget")


def test_no_time_is_no_start(lab: Laboratory, home: Path):
    report, _ = run(lab, home, *options(lab.image), PROBE_IMAGE_BUDGET="0")
    assert report["images"] == []
    assert report["image_coverage"]["left_out"] == [str(lab.image)]


def test_registries_are_asked_and_not_pulled_from(lab: Laboratory, home: Path):
    with registry() as server:
        names = ("plain:1", "open/image:1", "limited:1", "private/image:1", "plain:none")
        images = [f"docker://{server.host}/{name}" for name in names]
        report, _ = run(lab, home, *options(*images, "shub://a/b"), PROBE_IMAGE_HTTP=server.host)
        assert not [row for row in report["checks"] if row["id"] == "probe.images"]
        assert said(report) == {
            "plain:1": ("ok", None),
            "image:1": ("fail", "registry_auth_needed"),
            "limited:1": ("fail", "registry_rate_limited"),
            "plain:none": ("fail", "image_missing"),
            "b": ("skipped", "not_applicable"),
        }
        assert rows(report)[images[1]]["status"] == "ok"
        assert {row["exec_s"] for row in report["images"]} == {None}
        assert not [path for _, path, _ in server.seen if "/blobs/" in path]
