"""Runs real broken nodes, each in throw-away namespaces: what the factory's command did, and what our probe said.

    with laboratory() as lab:
        seen = lab.observe(["proc_masked", "fuse-denied"])
        assert seen.usable == seen.factory_ok
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.images import LabError, busybox_sandbox, ensure_user, lab_folder

ROOT = Path(__file__).resolve().parents[2]
NODE_LIMIT_S = 180.0  # far beyond any deadline: a node that takes longer has hung the lab itself

# A mount and a pid namespace: when the first process ends, all others do, and the mounts go with the last. What else runs
# on this machine (other tests) is no property of the node: it is first on the processors.
FIRST = ("nice", "-n", "-5")
NAMESPACES = (*FIRST, "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL", "--")

# Reasons that name no cause.
UNEXPLAINED = frozenset({None, "runtime_failed", "probe_error", "deadline_reached", "cannot_be_tried"})


@dataclass(frozen=True)
class Observation:
    """What came of one node. `factory` and `probe` are `inside.Ended`, `report` the probe's report or None."""

    factory: Mapping[str, Any]
    probe: Mapping[str, Any]
    left: Mapping[str, list[str]]

    @property
    def report(self) -> dict[str, Any] | None:
        """The probe's report; None where it gave none."""
        report: dict[str, Any] | None = self.probe["report"]
        return report

    @property
    def factory_map(self) -> list[str]:
        """The first line that the factory's command printed, where that is a line of a uid map."""
        fields = (self.factory["stdout"].splitlines() or [""])[0].split()
        return fields if len(fields) == 3 and all(map(str.isdigit, fields)) else []

    @property
    def factory_outcome(self) -> str:
        """ok, fail or timeout. As for GlideinWMS, exit code 0 without a uid map is a failure."""
        if self.factory["outcome"] == "timeout":
            return "timeout"
        return "ok" if self.factory["exit_code"] == 0 and self.factory_map else "fail"

    @property
    def factory_ok(self) -> bool:
        """What the verdict has to be."""
        return self.factory_outcome == "ok"

    @property
    def factory_mode(self) -> str | None:
        """The mode, as GlideinWMS reads it."""
        if not self.factory_ok:
            return None
        inside, outside, _ = self.factory_map
        return "unprivileged" if inside != "0" else "privileged" if outside == "0" else "fakeroot"

    @property
    def singularity(self) -> Mapping[str, Any]:
        """The report's part that holds the verdict."""
        return self.report["singularity"] if self.report else {}

    @property
    def usable(self) -> bool | None:
        """Our verdict."""
        return self.singularity.get("usable")

    @property
    def verdict_is_wrong(self) -> bool:
        """Whether our verdict differs from what the factory's command met; no verdict is wrong, too."""
        return self.usable is not self.factory_ok

    @property
    def unexplained(self) -> list[str]:
        """Negatives that name no cause: "usable", and names of features."""
        features = self.singularity.get("features", {})
        negatives = {name: check for name, check in features.items() if check["status"] in ("fail", "timeout")}
        if self.usable is not True:
            negatives["usable"] = {"reason": self.singularity.get("reason")}
        return sorted(name for name, check in negatives.items() if check["reason"] in UNEXPLAINED)

    def left_behind(self, mounts_that_hang: int) -> dict[str, list[str]]:
        """What should not be left; of processes in uninterruptible sleep, one a hung mount cannot be helped."""
        stuck = [process for process in self.left["processes"] if process.startswith("D ")]
        others = [process for process in self.left["processes"] if process not in stuck]
        left = {**self.left, "processes": others + stuck[mounts_that_hang:]}
        return {kind: things for kind, things in left.items() if things}

    @property
    def met_a_limit(self) -> bool:
        """Whether something took too long: the node, or this machine with all that runs on it."""
        checks = self.report["checks"] if self.report else []
        return any(check["status"] == "timeout" or check["reason"] == "deadline_reached" for check in checks)

    def check(self, identifier: str) -> tuple[str, str | None] | None:
        """Status and reason of a check of the report; None when there is no such check."""
        checks = self.report["checks"] if self.report else []
        return next(((found["status"], found["reason"]) for found in checks if found["id"] == identifier), None)

    def row(self, part: str, key: str, name: str) -> tuple[str, str | None] | None:
        """Status and reason of a row of `images` or `cvmfs.repositories`."""
        rows = (self.report or {}).get(part) or []
        rows = rows["repositories"] if isinstance(rows, dict) else rows
        return next(((found["status"], found["reason"]) for found in rows if found[key] == name), None)

    def summary(self) -> str:
        """For a failed test: all that helps to see why."""
        names = ("usable", "reason", "message", "mode", "command")
        verdict = {name: self.singularity.get(name) for name in names}
        return (
            f"factory: {self.factory_outcome} ({self.factory['exit_code']}) {self.factory['duration_s']} s "
            f"{self.factory['stderr'][-600:].strip()}\n"
            f"probe: exit code {self.probe['exit_code']} ({self.probe['outcome']}) {self.probe['duration_s']} s "
            f"{verdict} {self.probe['stderr'][-600:].strip()}\nleft: {dict(self.left)}"
        )


@dataclass(frozen=True)
class Laboratory:
    """The parts that all nodes share; see `laboratory`."""

    lab: Path
    apptainer: Path
    configuration: Path
    image: Path
    probe: Path

    def observe(self, conditions: Sequence[str], probe_runs: int = 1, images: Sequence[Path] = ()) -> Observation:
        """Makes a node with these conditions (names of CONDITIONS) and runs both commands on it; LabError.

        Of several runs of the probe the last is told, and what all of them left. `images` are tried by the probe, too.
        """
        keep = [ROOT, sys.prefix, sys.base_prefix, self.lab, self.apptainer.parents[2], self.probe.parent]
        with tempfile.TemporaryDirectory(prefix="root-", dir=self.lab) as new_root:
            request = {
                "conditions": list(conditions),
                "apptainer": str(self.apptainer),
                "configuration": str(self.configuration),
                "image": str(self.image),
                "probe": str(self.probe),
                "new_root": new_root,
                "keep": [str(folder) for folder in keep],
                "probe_runs": probe_runs,
                "images": [str(image) for image in images],
            }
            done = subprocess.run(
                [*NAMESPACES, sys.executable, "-m", "tests.lab.inside"],
                input=json.dumps(request),
                capture_output=True,
                text=True,
                cwd=ROOT,
                timeout=NODE_LIMIT_S,
                check=False,
            )
        if done.returncode != 0:
            raise LabError(f"no node {', '.join(conditions) or 'without conditions'}: {done.stderr.strip()[-2000:]}")
        return Observation(**json.loads(done.stdout))


@contextlib.contextmanager
def laboratory() -> Iterator[Laboratory]:
    """The parts, made if need be, and a freshly built probe that is removed afterwards. LabError says what is missing."""
    apptainer = find_apptainer()
    lab = lab_folder()
    ensure_user()
    with tempfile.TemporaryDirectory(prefix="probe-", dir=lab) as folder:
        Path(folder).chmod(0o755)
        probe = Path(folder, "singularity-probe")
        _output(sys.executable, str(ROOT / "scripts/build-probe"), "--output", str(probe))
        configuration = re.search(r"^APPTAINER_CONF_FILE=(.*)$", _output(str(apptainer), "buildcfg"), re.MULTILINE)
        assert configuration, "apptainer buildcfg names its configuration file"
        yield Laboratory(lab, apptainer, Path(configuration[1]), busybox_sandbox(lab), probe)


def find_apptainer() -> Path:
    """The real Apptainer; LabError where the lab cannot be: without root, or where no Apptainer can be had."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root, to make namespaces in which an ordinary user meets broken nodes")
    return Path(_output(str(ROOT / "scripts/get-apptainer")))


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout.strip()
