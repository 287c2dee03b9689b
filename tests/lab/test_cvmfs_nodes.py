"""A node with 31 repositories, some of them broken in every way that we know, and the built probe on it.

The figures: `pytest -s tests/lab/test_cvmfs_nodes.py` prints what 31 healthy repositories add to a run, and how long a run
with all faults at once takes.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from probe import stuck
from probe.detectors.cvmfs import LIMIT_S
from tests.lab.cvmfs_standin import Fault, StandIn
from tests.lab.laboratory import Laboratory

pytestmark = pytest.mark.lab

NAMES = [f"r{number:02}.example.org" for number in range(31)]
HUNG, GONE, NO_DATA, MEMBERS, SLOW, STALE, VANISHING, NO_LISTING, SHORT, WRONG = NAMES[:10]

FAULTS = {
    HUNG: Fault("hang"),
    GONE: Fault("enotconn"),
    NO_DATA: Fault("eio_data"),
    MEMBERS: Fault("eacces"),
    SLOW: Fault("slow", seconds=0.05),
    VANISHING: Fault("slow", seconds=30.0),
    NO_LISTING: Fault("eio"),
    SHORT: Fault("truncated"),
    WRONG: Fault("overwritten"),
}
SAID = {
    **dict.fromkeys(NAMES, ("ok", None)),
    HUNG: ("timeout", "cvmfs_hung"),
    GONE: ("fail", "cvmfs_disconnected"),
    NO_DATA: ("fail", "cvmfs_data_unreadable"),
    MEMBERS: ("fail", "cvmfs_access_denied"),
    STALE: ("fail", "cvmfs_stale"),
    VANISHING: ("fail", "cvmfs_disconnected"),
    NO_LISTING: ("fail", "cvmfs_io_error"),
    SHORT: ("fail", "cvmfs_data_unreadable"),
    WRONG: ("fail", "cvmfs_data_unreadable"),
}
ALL_REPOSITORIES = {"PROBE_CVMFS_REPOS": ",".join(NAMES)}


class Node:
    """A healthy node for an ordinary user, with CVMFS in a folder of its own, as cvmfsexec mounts it."""

    def __init__(self, lab: Laboratory, cvmfs: StandIn, folder: Path) -> None:
        self.lab, self.cvmfs, self.folder = lab, cvmfs, folder
        self.mount_dir = folder / "cvmfs"

    def run(self, *arguments: str, **settings: str) -> tuple[dict[str, Any], float]:
        """The probe's report, and how long it took."""
        settings = {"PROBE_CVMFS_MOUNT_DIR": str(self.mount_dir), **settings}
        path = f"PATH={self.lab.apptainer.parent}:/usr/bin:/bin"
        variables = [path, f"HOME={self.folder}/home", *(f"{name}={value}" for name, value in settings.items())]
        command = ["runuser", "-u", "glidein", "--", "env", "-i", *variables, str(self.lab.probe), "run", *arguments]
        began = time.monotonic()
        done = subprocess.run(
            command, cwd=self.folder / "home", stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
        duration_s = time.monotonic() - began
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout), duration_s


def said(report: Mapping[str, Any]) -> dict[str, tuple[str, str | None]]:
    return {row["name"]: (row["status"], row["reason"]) for row in report["cvmfs"]["repositories"]}


@pytest.fixture
def node(lab: Laboratory) -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="cvmfs-node-", dir="/var/tmp") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        for repository in NAMES:
            (folder / "tree" / repository / "sub").mkdir(parents=True)
            (folder / "tree" / repository / "new_repository").write_text(f"this is {repository}\n")
        (folder / "home").mkdir()
        (folder / "home").chmod(0o777)
        (folder / "server").mkdir()
        cvmfs = stack.enter_context(StandIn(folder / "server", folder / "tree"))
        for repository in NAMES:
            cvmfs.show(repository, folder / "cvmfs" / repository)
        yield Node(lab, cvmfs, folder)
    await_end_of_workers()


def await_end_of_workers() -> None:
    """Those that hung end with the mounts; a run that came before would take the repositories of the same name for hung."""
    ours = {stuck.name_of("cvmfs." + name) for name in NAMES}
    until = time.monotonic() + 10
    while ours & {_text(path / "comm").strip() for path in Path("/proc").iterdir() if path.name.isdecimal()}:
        assert time.monotonic() < until, "workers are left"
        time.sleep(0.02)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it ended meanwhile
        return ""


def test_all_faults_at_once_are_told_apart_within_six_seconds(node: Node):
    for repository, fault in FAULTS.items():
        node.cvmfs.set(repository, fault)
    node.cvmfs.set_attributes(STALE, revision="41")

    def vanish() -> None:
        node.cvmfs.await_waiting(VANISHING, seconds=20)
        node.cvmfs.vanish(VANISHING, node.mount_dir / VANISHING)

    vanishing = threading.Thread(target=vanish)
    vanishing.start()
    report, duration_s = node.run(**ALL_REPOSITORIES, PROBE_CVMFS_MIN_REVISIONS=f"{STALE}=42,{NAMES[20]}=1")
    vanishing.join()
    sys.stdout.write(f"\n31 repositories, 9 of them broken or slow: {duration_s:.1f} s\n")
    assert said(report) == SAID
    assert duration_s < 12  # at most 6 on a quiet machine; what is printed is the figure
    assert report["complete"]
    assert report["singularity"]["usable"]
    assert report["singularity"]["features"]["cvmfs_inside"]["status"] == "ok"
    assert stuck_processes(report) == 1


def stuck_processes(report: Mapping[str, Any]) -> int:
    return sum(row["evidence"].get("left_running") is True for row in report["checks"])


def test_any_number_of_hung_repositories_costs_one_limit_and_a_process_each(node: Node):
    for repository in NAMES[:20]:
        node.cvmfs.set(repository, Fault("hang"))
    report, duration_s = node.run("--only", "cvmfs", **ALL_REPOSITORIES)
    assert said(report) == {
        name: ("timeout", "cvmfs_hung") if number < 20 else ("ok", None) for number, name in enumerate(NAMES)
    }
    assert duration_s < 4 * LIMIT_S  # not 20 of them
    # The next run touches none of them again.
    again, duration_s = node.run("--only", "cvmfs", **ALL_REPOSITORIES)
    assert said(again) == said(report)
    assert duration_s < LIMIT_S


def test_31_healthy_repositories_add_less_than_one_after_the_other_would(node: Node):
    """What is printed is the figure, at most 0.2 s on a quiet machine; the bound is for any machine."""
    report, _ = node.run(**ALL_REPOSITORIES)
    assert said(report) == dict.fromkeys(NAMES, ("ok", None))
    assert {row["content"] for row in report["cvmfs"]["repositories"]} == {"verified"}
    pairs = [(node.run(**ALL_REPOSITORIES)[1], node.run("--skip", "cvmfs,cvmfs_inside,images")[1]) for _ in range(3)]
    with_all, without = (statistics.median(column) for column in zip(*pairs, strict=True))
    added = statistics.median(one - other for one, other in pairs)
    sys.stdout.write(f"\n31 healthy: {with_all:.3f} s; without CVMFS: {without:.3f} s; added: {added:.3f} s\n")
    assert min(one - other for one, other in pairs) < 1


def test_every_row_says_what_was_read_and_by_which_client(node: Node):
    report, _ = node.run("--only", "cvmfs", **ALL_REPOSITORIES)
    row = report["cvmfs"]["repositories"][0]
    assert row["read"] == f"{node.mount_dir}/{NAMES[0]}/new_repository"
    assert (row["client_version"], row["revision"], row["proxy"]) == ("2.12.0.0", 1, "DIRECT")
    assert 0 < row["warm_latency_s"] < 1
    assert 0 < row["latency_s"] < 1
    assert report["cvmfs"]["kind"] == "cvmfsexec"
    checks = {check["id"]: check["evidence"] for check in report["checks"]}
    assert {name: checks["cvmfs." + row["name"]].get(name) for name in ("ncleanup24", "maxfd", "usedfd")} == {
        "ncleanup24": 0, "maxfd": 65024, "usedfd": 0,
    }  # fmt: skip
