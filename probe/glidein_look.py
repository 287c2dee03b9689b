"""Looking at the node as a custom script does: everything once, and then again what may have changed."""

import os
import time
from typing import Any, Dict, NamedTuple, Optional

from probe.keeper import START_LIMIT_S, Keeper
from probe.look import Looked, compose, look
from probe.version import VERSION

LOOK_LIMIT_S = 8.0
# What is needed after the look; compiled while its children are at work.
LATER = ("probe.memory", "probe.glidein_files", "probe.classad", "probe.glidein_result", "probe.glidein_telling")


class Told(NamedTuple):
    """What a run has to tell: a report, its PROBE_STATUS where that is not by the report, what to remember of it."""

    report: Dict[str, Any]
    status: Optional[str]
    memory: Optional[Dict[str, Any]]


def of_earlier_run(settings: Any, memory: Dict[str, Any]) -> Told:
    """Another run of this glidein is at work: what the one before it found is told again."""
    report = _composed(settings, memory["findings"], memory["complete"], time.time(), 0.0)
    from probe import memory as memories

    report["remembered"] = memories.remembered(memory, [], time.time())
    return Told(report, "busy", None)


def look_at_node(settings: Any, memory: Optional[Dict[str, Any]], keeper: Keeper) -> Told:
    """Look again at what may have changed since the run before, or at everything where that does not do."""
    if settings.trigger == "periodic" and memory:
        from probe import memory as memories

        around = memories.surroundings(settings, os.environ, _boot_id())
        if memories.is_fresh(memory, around, time.time(), settings.full_every_s):
            told = _look_again(settings, memory, keeper)
            if told:
                return told
    return _look_at_all(settings, memory, keeper)


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read(64).strip()
    except OSError:  # an outer container may hide it
        return ""


def _look_again(settings: Any, memory: Dict[str, Any], keeper: Keeper) -> Optional[Told]:
    """Look at what may have changed; None where the container start or the runtime's files are not as they were."""
    from probe import memory as memories

    names = memories.again(memory, list(memory["findings"]))
    looked = look(settings, names, composes=False)
    if looked.run.interrupted:
        return _interrupted(settings, memory, looked)
    identity = looked.host.attempt("memory.files", LOOK_LIMIT_S, memories.identities, list(memory["files"]))
    if identity.value != memory["files"]:
        return None
    for module in ("probe.payload_run", *LATER):  # this and the report, while the container is still at work
        __import__(module)
    findings = dict(memory["findings"], **looked.run.findings)
    folder = str(looked.host.facts()["folder"])
    changed = memories.changes(memory, findings, folder)
    report = _composed(settings, findings, looked.run.complete, looked.began, time.time() - looked.began)
    report["changes_since"] = changed
    report["remembered"] = memories.remembered(memory, [*names, "singularity"], looked.began)
    if not _starts_as_before(memory, keeper):
        return None
    report["duration_s"] = round(time.time() - looked.began, 3)
    return Told(report, None, dict(memory, findings=findings, folder=folder) if changed and looked.run.complete else None)


def _interrupted(settings: Any, memory: Dict[str, Any], looked: Any) -> Told:
    """A signal: what there is, as an incomplete report."""
    findings = dict(memory["findings"], **looked.run.findings)
    return Told(_composed(settings, findings, False, looked.began, looked.duration_s), None, None)


def _starts_as_before(memory: Dict[str, Any], keeper: Keeper) -> bool:
    """Whether the remembered container start works, in the mode that it did."""
    message = keeper.receive("start", START_LIMIT_S + 2)
    if not isinstance(message, bytes):
        return False
    from probe import payload_run

    head, _, output = message.decode("utf-8", "replace").partition("\n")
    status, _seconds, nonce = head.split()
    seen = payload_run.parse(output, nonce)
    mode = memory["findings"]["singularity"]["data"]["mode"]
    return status == "0" and seen.complete and payload_run.mode_of(seen.uid_map) == mode


def _look_at_all(settings: Any, memory: Optional[Dict[str, Any]], keeper: Keeper) -> Told:
    looked = look(settings, later=LATER)
    from probe import memory as memories

    report = looked.report or {}
    findings, folder = looked.run.findings, str(looked.host.facts()["folder"])
    if memory:
        report["changes_since"] = memories.changes(memory, findings, folder)
    if looked.run.interrupted:
        return Told(report, None, None)
    launch = None
    if findings.get("work_folder", {}).get("data", {}).get("sandbox"):
        from probe import command_line

        image = os.path.join(keeper.folder, "image")
        launch = memories.launch_words(report, image, command_line.changes(settings))
    kept = {
        "version": VERSION, "around": memories.surroundings(settings, os.environ, _boot_id()),
        "whole_at": looked.began, "findings": findings,
        "complete": report["complete"], "launch": launch, "folder": folder,
        "published": memory["published"] if memory else [],
    }  # fmt: skip
    return Told(report, None, kept)


def _composed(settings: Any, findings: Dict[str, Any], complete: bool, began: float, duration_s: float) -> Dict[str, Any]:
    from probe import reasons
    from probe.engine import Run

    reasons.rows()
    return compose(settings, Looked(Run(findings, complete, False, []), began, duration_s, None))
