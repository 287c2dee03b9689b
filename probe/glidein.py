"""As a GlideinWMS custom script, ``singularity-probe GLIDEIN_CONFIG ID``: first run and periodic runs.

Nothing here ends the glidein but a capability that the operator required. The glidein's files are touched in children
only; they lie where the glidein works, and that may hang like any other place.
"""

import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from probe.keeper import START_LIMIT_S, Keeper, folder_of
from probe.version import VERSION

EXIT_OK, EXIT_REQUIRED = 0, 1
READ_LIMIT_S = 8.0
WRITE_LIMIT_S = 10.0
# In glidein_config; HTCondor reads it from there into its configuration.
REPORT_LIMIT_BYTES = 30000
MARKS = (b"ADD_CONFIG_LINE_SOURCE ", b"ERROR_GEN_PATH ", b"CONDOR_VARS_FILE ")


class Told(NamedTuple):
    """What a run has to tell: its report (None where none could be made), whether it looked, what to remember of it."""

    report: Optional[Dict[str, Any]]
    status: Optional[str]
    memory: Optional[Dict[str, Any]]


def is_config(path: str) -> bool:
    """Whether a first argument is a glidein_config: by its name, or by what the file says."""
    if os.path.basename(path) == "glidein_config":
        return True
    from probe.workers import call_all

    result = call_all(READ_LIMIT_S, {"config": [_looks_like_config, path]}, 1)["config"]
    return bool(result.value)


def _looks_like_config(path: str) -> bool:
    with open(path, "rb") as stream:
        lines = stream.read(1 << 20).split(b"\n")
    return any(line.startswith(MARKS) for line in lines)


def is_periodic(config: str) -> bool:
    """Whether this is a periodic run: newer releases say so, older ones give it a folder of its own below the glidein's."""
    said = os.environ.get("GLIDEIN_PERIODIC_SCRIPT")
    if said is not None:
        return said.lower() == "true"
    try:
        return os.path.isabs(config) and os.path.dirname(os.getcwd()) == os.path.dirname(os.path.normpath(config))
    except OSError:  # the folder was removed under us
        return False


def main(config: str) -> int:
    """One run; returns the exit code."""
    periodic = is_periodic(config)
    keeper = Keeper(folder_of(config), config, periodic)
    from probe.messages import say

    try:
        return _run(config, keeper, periodic)
    except Exception as error:  # noqa: BLE001  whatever is wrong with us must not end a glidein
        say("probe_error: {!r}; the glidein goes on".format(error))
        _print('PROBE_STATUS = "probe_error"\n' if periodic else "")
        return EXIT_OK
    finally:
        keeper.release()


def _run(config: str, keeper: Keeper, periodic: bool) -> int:
    from probe.messages import say

    lock = keeper.receive("lock", READ_LIMIT_S)
    content = keeper.receive("config", READ_LIMIT_S)
    if not isinstance(content, bytes):
        say("{}: {}; nothing was looked at".format(config, content or "does not answer"))
        return EXIT_OK
    settings = _settings(content, periodic)
    for warning in settings.warnings:
        say("warning: " + warning)
    from probe import memory as memories

    memory = memories.load(keeper.receive("memory", READ_LIMIT_S))
    told = _busy(settings, memory) if lock == b"busy" else _look(settings, memory, keeper, periodic)
    if told.report is None:
        say("another run is at work here, and none has come to an end yet; nothing was looked at")
        return EXIT_OK
    return _tell(config, content, settings, told, memory, keeper.folder if lock == b"held" else None)


def _settings(content: bytes, periodic: bool) -> Any:
    """Settings from glidein_config, from the file that PROBE_CONFIG names, and from the environment."""
    from probe import settings

    glidein = settings.parse_name_value_lines(content.decode("utf-8", "replace"))
    name = os.environ.get("PROBE_CONFIG") or glidein.get("PROBE_CONFIG")
    text, warnings = _read_settings(name) if name else ("", [])
    trigger = "periodic" if periodic else "startup"
    found = settings.combine(trigger, {}, os.environ, name, text, glidein)
    return _without_unknown_detectors(found._replace(warnings=warnings + found.warnings))


def _read_settings(path: str) -> Tuple[str, List[str]]:
    from probe.workers import call_all

    result = call_all(READ_LIMIT_S, {"settings": [_read_text, path]}, 1)["settings"]
    if result.state == "done":
        return str(result.value), []
    return "", ["{}: {}; PROBE_CONFIG names no readable file".format(path, result.detail or "does not answer")]


def _read_text(path: str) -> str:
    with open(path, "rb") as stream:
        return stream.read(1 << 20).decode("utf-8", "replace")


def _without_unknown_detectors(settings: Any) -> Any:
    if not (settings.only or settings.skip):
        return settings
    from probe.registry import DETECTORS

    known = {detector.name for detector in DETECTORS}
    wrong = sorted((set(settings.only) | set(settings.skip)) - known)
    warnings = ["there is no detector {!r}; known are {}".format(name, ", ".join(sorted(known))) for name in wrong]
    return settings._replace(
        only=[name for name in settings.only if name in known],
        skip=[name for name in settings.skip if name in known],
        warnings=settings.warnings + warnings,
    )


# --- looking ---


def _busy(settings: Any, memory: Optional[Dict[str, Any]]) -> Told:
    """Another run of this glidein is at work: what the one before it found is told again."""
    if memory is None:
        return Told(None, "busy", None)
    from probe import memory as memories

    report = _composed(settings, memory["findings"], memory["complete"], time.time(), 0.0)
    report["remembered"] = memories.remembered(memory, [], time.time())
    return Told(report, "busy", None)


def _look(settings: Any, memory: Optional[Dict[str, Any]], keeper: Keeper, periodic: bool) -> Told:
    from probe import memory as memories

    around = memories.surroundings(settings, os.environ, _boot_id())
    if periodic and memory and memories.is_fresh(memory, around, time.time(), settings.full_every_s):
        told = _look_again(settings, memory, keeper)
        if told:
            return told
    return _look_at_all(settings, memory, around, keeper)


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read(64).strip()
    except OSError:  # an outer container may hide it
        return ""


def _look_again(settings: Any, memory: Dict[str, Any], keeper: Keeper) -> Optional[Told]:
    """Look at what may have changed; None where the container start or the runtime's files are not as they were."""
    from probe import memory as memories
    from probe.look import look

    names = memories.again(memory, list(memory["findings"]))
    looked = look(settings, names)
    if looked.run.interrupted or not _starts_as_before(memory, keeper):
        return None if not looked.run.interrupted else _interrupted(settings, memory, looked)
    files = list(memory["files"])
    identity = looked.host.attempt("memory.files", READ_LIMIT_S, memories.identities, files)
    if identity.value != memory["files"]:
        return None
    findings = dict(memory["findings"], **looked.run.findings)
    folder = str(looked.host.facts()["folder"])
    changed = memories.changes(memory, findings, folder)
    report = _composed(settings, findings, looked.run.complete, looked.began, time.time() - looked.began)
    report["changes_since"] = changed
    report["remembered"] = memories.remembered(memory, [*names, "singularity"], looked.began)
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


def _look_at_all(settings: Any, memory: Optional[Dict[str, Any]], around: Dict[str, Any], keeper: Keeper) -> Told:
    from probe import memory as memories
    from probe.look import compose, look

    looked = look(settings)
    report = compose(settings, looked)
    findings, folder = looked.run.findings, str(looked.host.facts()["folder"])
    if memory:
        report["changes_since"] = memories.changes(memory, findings, folder)
    if looked.run.interrupted:
        return Told(report, None, None)
    files: Dict[str, Any] = {}
    launch = None
    if findings.get("work_folder", {}).get("data", {}).get("sandbox"):
        launch = memories.launch_words(report, os.path.join(keeper.folder, "image"))
    if launch:
        paths = memories.runtime_files(findings)
        files = looked.host.attempt("memory.files", READ_LIMIT_S, memories.identities, paths).value or {}
    kept = {
        "version": VERSION, "around": around, "whole_at": looked.began, "findings": findings, "files": files,
        "complete": report["complete"], "launch": launch if files else None, "folder": folder,
        "published": memory["published"] if memory else [],
    }  # fmt: skip
    return Told(report, None, kept)


def _composed(settings: Any, findings: Dict[str, Any], complete: bool, began: float, duration_s: float) -> Dict[str, Any]:
    from probe import reasons
    from probe.engine import Run
    from probe.look import Looked, compose

    reasons.rows()
    return compose(settings, Looked(Run(findings, complete, False, []), began, duration_s, None))


# --- telling ---


def _tell(
    config: str,
    content: bytes,
    settings: Any,
    told: Told,
    memory: Optional[Dict[str, Any]],
    folder: Optional[str],
) -> int:
    """Everything that leaves this run: the glidein's files, stdout, the ways out, and what is remembered."""
    from probe import glidein_result
    from probe.look import deliver
    from probe.messages import say

    report = told.report or {}
    required, wrong = glidein_result.missing(report, settings.require, settings.require_known)
    for name in wrong:
        say("warning: PROBE_REQUIRE: {}: no such capability; it is not looked at".format(name))
    if told.status is None:
        deliver(settings, report)
    values = _values(settings, told)
    text = _stdout(settings, told, values)
    error = required[0] if required else None
    metrics = {"PROBE_STATUS": str(values["PROBE_STATUS"]), "PROBE_REPORT_ID": report["report_id"]}
    kept = dict(told.memory, published=sorted(values)) if told.memory and folder else None
    names = [*_own_names(), *(memory["published"] if memory else [])]
    for complaint in _write(config, content, settings, values, names, glidein_result.render(error, metrics), folder, kept):
        say(complaint)
    _print(text)
    for missed in required:
        say(missed.text())
    return EXIT_REQUIRED if required else EXIT_OK


def _own_names() -> List[str]:
    from probe import classad

    return list(classad.ATTRIBUTES)


def _values(settings: Any, told: Told) -> Dict[str, Any]:
    """All attributes that are known, by name."""
    from probe import classad

    report = told.report or {}
    values = classad.attributes(report)
    if told.status:
        values["PROBE_STATUS"] = told.status
    if settings.publish:
        from probe import peers

        values.update(peers.attributes(settings, report))
    if settings.report_attribute:
        from probe import packing

        packed = packing.attribute(report, REPORT_LIMIT_BYTES)
        values["PROBE_REPORT"] = classad.LongText(packed) if packed else None
    return {name: value for name, value in values.items() if value not in (None, "")}


def _stdout(settings: Any, told: Told, values: Dict[str, Any]) -> str:
    """What goes to the glidein's log in a first run, into the machine ad in a periodic one."""
    if settings.trigger == "periodic":
        from probe import classad

        return classad.lines(values)
    from probe import glidein_summary

    text = glidein_summary.render(told.report or {})
    if settings.stdout_report and told.status is None:
        from probe import packing

        text += packing.block(told.report or {})
    return text


def _write(
    config: str,
    content: bytes,
    settings: Any,
    values: Dict[str, Any],
    names: List[str],
    result: str,
    folder: Optional[str],
    kept: Optional[Dict[str, Any]],
) -> List[str]:
    """Write the glidein's files and what is remembered, in one child; returns what went wrong."""
    from probe import glidein_files
    from probe.workers import call_all

    changes: List[Tuple[str, Any]] = []
    if settings.trigger != "periodic" or _stale(content, values):
        changes.append((config, glidein_files.config_change(values, names)))
    if settings.trigger != "periodic":
        path = settings.configured("CONDOR_VARS_FILE")
        if path:
            path = os.path.join(os.path.dirname(os.path.abspath(config)), path)
            changes.append((path, glidein_files.vars_change(values, names)))
    call = [_write_all, changes, result, folder, kept]
    written = call_all(WRITE_LIMIT_S, {"glidein.write": call}, 1)["glidein.write"]
    if written.state != "done":
        return ["the glidein's files could not be written: {}".format(written.detail or "no answer")]
    return list(written.value)


def _stale(content: bytes, values: Dict[str, Any]) -> bool:
    """Whether glidein_config says something else than is known now; what differs in each run does not count."""
    from probe import classad, glidein_files
    from probe.settings import parse_name_value_lines

    there = parse_name_value_lines(content.decode("utf-8", "replace"))
    steady = {name: value for name, value in values.items() if name not in classad.VOLATILE}
    return any(there.get(name) != glidein_files.text_of(value) for name, value in steady.items())


def _write_all(
    changes: List[Tuple[str, Any]], result: str, folder: Optional[str], kept: Optional[Dict[str, Any]]
) -> List[str]:
    from probe import glidein_files, glidein_result
    from probe import memory as memories

    complaints = [complaint for complaint in (glidein_files.apply(path, change) for path, change in changes) if complaint]
    try:
        glidein_result.write(result)
    except OSError as error:
        complaints.append("{}: {}".format(glidein_result.FILE, error.strerror))
    try:
        if folder and kept:
            memories.save(folder, kept, os.uname().machine)
    except (OSError, LookupError) as error:
        complaints.append("{}: {}; the next run looks at everything again".format(folder, error))
    return complaints


def _print(text: str) -> None:
    data = text.encode("utf-8", "replace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:  # the reader went away, or the log's disk is full
        pass
