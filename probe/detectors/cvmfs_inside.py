"""CVMFS as a job sees it: repositories that give data on the host, opened from inside a container.

An automounted repository may be there on the host and missing inside (singularity issue 890). Only repositories that were
found good are opened: a hung one would hang this start too, and the host's verdict on it stands already.
"""

from typing import Any, Dict, Iterator, List, Optional

from probe import command_line
from probe.checks import Check, check
from probe.container_trials import Start, Trials
from probe.detectors.cvmfs_mounts import DEFAULT_DIR
from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings

IDENTIFIER = "singularity.features.cvmfs_inside"
# Enough to tell; the bind is one for all of them.
REPOSITORIES_TRIED = 8


def idle(_host: Host, _settings: Settings, earlier: Dict[str, Any]) -> Optional[Findings]:
    """The findings where CVMFS is not mounted: nothing to try."""
    if (earlier.get("cvmfs") or {}).get("kind") != "none":
        return None
    found = check(IDENTIFIER, "skipped", "cvmfs_not_mounted", "nothing to see: CVMFS is not mounted here")
    return {"data": found, "checks": [found]}


def detect(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """One check: the report's ``singularity.features.cvmfs_inside``."""
    good = [row["name"] for row in earlier["cvmfs"]["repositories"] if row["status"] == "ok"]
    nothing = idle(host, settings, earlier)
    if nothing is not None:
        yield nothing
        return
    obstacle = _obstacle(earlier, good)
    found = obstacle or _start(host, settings, earlier, good[:REPOSITORIES_TRIED])
    yield {"data": found, "checks": [found]}


def _obstacle(earlier: Dict[str, Any], good: List[str]) -> Optional[Check]:
    if not good:
        return check(IDENTIFIER, "skipped", "prerequisite_failed", "no repository gives data on the host")
    if not earlier["singularity"]["usable"]:
        return check(IDENTIFIER, "unknown", "prerequisite_failed", "no container starts")
    if not earlier["work_folder"]["sandbox"]:
        return check(IDENTIFIER, "unknown", "cannot_be_tried", "no test image could be made")
    return None


def _start(host: Host, settings: Settings, earlier: Dict[str, Any], names: List[str]) -> Check:
    work = earlier["work_folder"]
    folder = host.facts()["folder"] or work["work_folder"]
    binds = earlier["scratch"]["binds"]
    launch = command_line.factory_launch(settings, earlier["singularity"]["path"], folder, binds)
    paths = tuple(DEFAULT_DIR + "/" + name for name in names)
    trials = Trials(host, work["work_folder"], dict, "inside")
    verdict = trials.run({"cvmfs": Start(launch, work["sandbox"], paths)})["cvmfs"]
    if not verdict.ok:
        return verdict.as_check(IDENTIFIER)
    missing = [path for path in paths if verdict.seen.paths.get(path) != 0]
    seen = ["{}: errno {}".format(path, error) for path, error in verdict.seen.paths.items()]
    if missing:
        message = "good on the host, but not inside: " + ", ".join(missing)
        return check(IDENTIFIER, "fail", "autofs_not_visible_inside", message, verdict.outcome.duration_s, inside=seen)
    message = "seen inside: " + ", ".join(names)
    if is_private(host.read_or_none("/proc/self/mountinfo") or "", earlier["cvmfs"]["mount_dir"]):
        message += "; those that are not mounted when a container starts are not: the automounter's mount is private here"
        return check(IDENTIFIER, "fail", "autofs_not_visible_inside", message, verdict.outcome.duration_s, inside=seen)
    return check(IDENTIFIER, "ok", None, message, verdict.outcome.duration_s, inside=seen)


def is_private(mountinfo: str, mount_dir: str) -> bool:
    """Whether what an automounter mounts in a folder stays unseen in mount namespaces that were made before: the mount is
    neither shared nor a slave (proc(5), optional fields). A job then meets ELOOP (autofs and Apptainer 1.4.5, run)."""
    found = False
    for line in mountinfo.splitlines():
        fields, _, kind = line.partition(" - ")
        words = fields.split(" ")
        if words[4:5] == [mount_dir]:
            found = kind.startswith("autofs ") and not any(word.startswith(("shared:", "master:")) for word in words[6:])
    return found


def unknown(status: str, reason: str, message: str) -> Check:
    """The check where this detector never answered."""
    return check(IDENTIFIER, status, reason, message)
