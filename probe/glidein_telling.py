"""What leaves a custom script's run: the glidein's files, stdout, the ways out, and what the next run shall remember."""

import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from probe import bytecode_cache, classad, glidein_files, glidein_result
from probe import memory as memories
from probe.glidein_look import Told
from probe.look import deliver
from probe.messages import print_whole, say
from probe.settings import parse_name_value_lines
from probe.workers import call_all

EXIT_OK, EXIT_REQUIRED = 0, 1
WRITE_LIMIT_S = 10.0
# In glidein_config; HTCondor reads it from there into its configuration.
REPORT_LIMIT_BYTES = 30000


class Glidein(NamedTuple):
    """The glidein's side: its glidein_config and what that said, our folder there if it is ours now, what was in it."""

    config: str
    content: bytes
    folder: Optional[str]
    memory: Optional[Dict[str, Any]]


def tell(glidein: Glidein, settings: Any, told: Told) -> int:
    """Let everything out; returns the exit code."""
    report = told.report
    required, wrong = glidein_result.missing(report, settings.require, settings.require_known)
    for name in wrong:
        say("warning: PROBE_REQUIRE: {}: no such capability; it is not looked at".format(name))
    values = _values(settings, told)
    metrics = {"PROBE_STATUS": str(values["PROBE_STATUS"]), "PROBE_REPORT_ID": report["report_id"]}
    result = glidein_result.render(required[0] if required else None, metrics)
    kept = dict(told.memory, published=sorted(values)) if told.memory and glidein.folder else None
    for complaint in _write(glidein, settings, values, result, kept):
        say(complaint)
    print_whole(_stdout(settings, told, values))
    if told.status is None:  # what may take long comes last; each way out carries the same report
        deliver(settings, report)
    for missed in required:
        say(missed.text())
    return EXIT_REQUIRED if required else EXIT_OK


def _values(settings: Any, told: Told) -> Dict[str, Any]:
    """All attributes that are known, by name."""
    report = told.report
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
        return classad.lines(values)
    from probe import glidein_summary

    text = glidein_summary.render(told.report)
    if settings.stdout_report and told.status is None:
        from probe import packing

        text += packing.block(told.report)
    return text


def _write(
    glidein: Glidein, settings: Any, values: Dict[str, Any], result: str, kept: Optional[Dict[str, Any]]
) -> List[str]:
    """Write the glidein's files and what is remembered, in one child; returns what went wrong."""
    names = [*classad.ATTRIBUTES, *(glidein.memory["published"] if glidein.memory else [])]
    changes: List[Tuple[str, Any]] = []
    if settings.trigger != "periodic" or _stale(glidein.content, values):
        changes.append((glidein.config, glidein_files.config_change(values, names)))
    if settings.trigger != "periodic":
        path = settings.configured("CONDOR_VARS_FILE")
        if path:
            path = os.path.join(os.path.dirname(os.path.abspath(glidein.config)), path)
            changes.append((path, glidein_files.vars_change(values, names)))
    call = [_write_all, changes, result, glidein.folder, kept, settings.trigger]
    written = call_all(WRITE_LIMIT_S, {"glidein.write": call}, 1)["glidein.write"]
    if written.state != "done":
        return ["the glidein's files could not be written: {}".format(written.detail or "no answer")]
    return list(written.value)


def _stale(content: bytes, values: Dict[str, Any]) -> bool:
    """Whether glidein_config says something else than is known now; what differs in each run does not count."""
    there = parse_name_value_lines(content.decode("utf-8", "replace"))
    steady = {name: value for name, value in values.items() if name not in classad.VOLATILE}
    return any(there.get(name) != glidein_files.text_of(value) for name, value in steady.items())


def _write_all(
    changes: List[Tuple[str, Any]], result: str, folder: Optional[str], kept: Optional[Dict[str, Any]], trigger: str
) -> List[str]:
    complaints = [complaint for complaint in (glidein_files.apply(path, change) for path, change in changes) if complaint]
    try:
        glidein_result.write(result)
    except OSError as error:
        complaints.append("{}: {}".format(glidein_result.FILE, error.strerror))
    try:
        if folder and kept:
            memories.save(folder, kept, os.uname().machine)
        if folder and trigger == "periodic":  # a first run has no time for it
            bytecode_cache.save(folder)
    except (OSError, LookupError) as error:
        complaints.append("{}: {}; the next run looks at everything again".format(folder, error))
    return complaints
