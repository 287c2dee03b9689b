"""As a GlideinWMS custom script, ``singularity-probe GLIDEIN_CONFIG ID``: first run and periodic runs.

Nothing here ends the glidein but a capability that the operator required. The glidein's files are touched in children
only; they lie where the glidein works, and that may hang like any other place.
"""

import os
from typing import Any, List, Tuple

from probe.keeper import Keeper
from probe.messages import say

EXIT_OK = 0
READ_LIMIT_S = 8.0


# What every run needs; imported while the keeper reads and locks.
MEANWHILE = ("probe.settings", "probe.engine", "probe.host", "probe.registry", "probe.glidein_look")


def run(config: str, keeper: Keeper, periodic: bool) -> int:
    """One run; returns the exit code. The keeper is at work already. What it raises ends at cli.py."""
    for module in MEANWHILE:
        __import__(module)
    lock = keeper.receive("lock", READ_LIMIT_S)
    content = keeper.receive("config", READ_LIMIT_S)
    if not isinstance(content, bytes):
        say("{}: {}; nothing was looked at".format(config, content or "does not answer"))
        return EXIT_OK
    settings = _settings(content, periodic)
    for warning in settings.warnings:
        say("warning: " + warning)
    from probe import glidein_look

    memory = _memory(keeper.receive("memory", READ_LIMIT_S))
    if lock != b"busy":
        told = glidein_look.look_at_node(settings, memory, keeper)
    elif memory is None:
        say("another run is at work here, and none has come to an end yet; nothing was looked at")
        return EXIT_OK
    else:
        told = glidein_look.of_earlier_run(settings, memory)
    from probe import glidein_telling

    folder = keeper.folder if lock == b"held" else None
    return glidein_telling.tell(glidein_telling.Glidein(config, content, folder, memory), settings, told)


def _memory(content: Any) -> Any:
    """What an earlier run remembers, if there was one."""
    if not isinstance(content, bytes):
        return None
    from probe import memory

    return memory.load(content)


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
