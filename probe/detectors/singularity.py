"""Singularity judged by running it: the factory's own start first, single features and other configurations when it fails.

One optimistic start tries at once all that a glidein uses, so that a healthy node pays few container starts. The verdict
``usable`` is that of the factory's exact command with an image that is fine: our own (minimal_image).
"""

import os
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from probe import command_line, payload_run
from probe.checks import Check, check
from probe.command_line import Launch
from probe.engine import Findings
from probe.host import Host
from probe.minimal_image import PAYLOAD_PATH
from probe.payload_run import Verdict
from probe.process import Outcome
from probe.settings import Settings

RUN_LIMIT_S = 20.0
# Once the whole start hung, single features get less: they tell which part hangs.
HUNG_LIMIT_S = 6.0
LOOK_LIMIT_S = 3.0
# Container starts side by side; more only get in each other's way, and in that of a low process limit.
AT_ONCE = 3

NEW_PATH = "/singularity-probe/new/path"
INSIDE = ("/srv",)
# All but cvmfs_inside, which has a detector of its own.
FEATURES = (
    "sandbox", "sif", "sif_zstd", "registry", "pid_namespace", "ipc_namespace", "contain", "bind_new_path",
    "workdir", "fakeroot", "nv", "rocm",
)  # fmt: skip
NOT_TRIED = {
    "registry": "give an image with --image docker://... to try one",
    "fakeroot": "glideins do not use it",
    "nv": "tried by the gpus detector where there is a GPU",
    "rocm": "tried by the gpus detector where there is a GPU",
}


class Start(NamedTuple):
    """One container start to try: how, with which image, and which paths to open inside."""

    launch: Launch
    image: str
    inside: Tuple[str, ...] = ()


class Trials:
    """Runs and judges starts of one binary."""

    def __init__(self, host: Host, work: Dict[str, Any], facts: Dict[str, Any], label: str) -> None:
        self._host, self._facts, self._label = host, facts, label
        self._nonce = host.nonce()
        # Whatever Singularity unpacks while it is killed goes with the work folder.
        self._changes = {name + "_TMPDIR": work["work_folder"] for name in ("APPTAINER", "SINGULARITY")}

    def run(self, starts: Dict[str, Start], limit_s: float = RUN_LIMIT_S) -> Dict[str, Verdict]:
        """Try starts side by side; a verdict for each, by name."""
        programs = {name: [PAYLOAD_PATH, self._nonce, *start.inside] for name, start in starts.items()}
        calls = {
            "singularity.{}.{}".format(self._label, name): [
                run_command, self._host, start.launch.command(start.image, programs[name]), limit_s, self._changes_for(start),
            ]
            for name, start in starts.items()
        }  # fmt: skip
        results = self._host.attempt_all(limit_s + 1, calls, AT_ONCE)
        verdicts = {}
        for name, start in starts.items():
            result = results["singularity.{}.{}".format(self._label, name)]
            lost = Outcome("timeout", None, None, None, "", result.detail, result.duration_s, result.left_running)
            outcome = Outcome(*result.value) if result.state == "done" else lost
            text = start.launch.text(start.image, programs[name])
            verdicts[name] = payload_run.judge(outcome, self._nonce, text, self._facts, limit_s)
        return verdicts

    def _changes_for(self, start: Start) -> Dict[str, Optional[str]]:
        return dict(self._changes) if start.image.endswith(".sif") else {}


def run_command(host: Host, command: List[str], limit_s: float, changes: Dict[str, Optional[str]]) -> List[Any]:
    """A program's Outcome as JSON takes it, for ``Host.attempt_all``."""
    return list(host.run(command, limit_s, changes))


class Tried(NamedTuple):
    """What the starts of one binary told."""

    runtime: Dict[str, Any]
    launch: Launch
    verdict: Verdict
    verdicts: Dict[str, Verdict]
    as_root: bool


def detect(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``singularity``; a first answer is given as soon as the verdict stands."""
    runtimes = earlier.get("runtimes") or []
    work = earlier.get("scratch") or {}
    obstacle = _obstacle(runtimes, work, host)
    if obstacle:
        yield _without_a_run(obstacle, runtimes)
        return
    folder = host.facts()["folder"] or work["work_folder"]
    binds = existing_binds(host, settings)
    failed: List[Tried] = []
    for number, runtime in enumerate(runtimes):
        if runtime["status"] != "ok":
            continue
        launch = command_line.factory_launch(settings, runtime["path"], folder, binds)
        facts = _facts(host, earlier, runtime)
        trials = Trials(host, work, facts, str(number))
        tried = _try_all_at_once(trials, runtime, launch, work, host.facts()["uid"] == 0)
        if tried.verdict.ok:
            yield _findings(settings, tried, [], failed)
            return
        failed.append(tried)
        if settings.singularity:
            break
    yield _findings(settings, failed[0], [], [])
    yield _diagnose(host, settings, earlier, failed[0], work, folder)


def _obstacle(runtimes: List[Dict[str, Any]], work: Dict[str, Any], host: Host) -> Optional[Check]:
    """What keeps us from starting anything; a missing or dead runtime is the verdict itself."""
    if not any(runtime["status"] == "ok" for runtime in runtimes):
        best = next(
            (runtime for runtime in runtimes if runtime["status"] == "timeout"), runtimes[0] if runtimes else None
        )
        if best is None:
            return check("singularity", "fail", "runtime_not_found", "no Singularity or Apptainer found")
        return check(
            "singularity",
            best["status"],
            best["reason"],
            "{}: {}".format(best["path"], best["version_text"] or best["reason"]),
        )
    if not work.get("work_folder"):
        return check("singularity", "unknown", "scratch_read_only", "no folder where the test image could be made")
    if not work.get("sandbox"):
        message = "this build of the probe has no test image for {}".format(host.facts()["arch"])
        return check("singularity", "unknown", "cannot_be_tried", message)
    return None


def existing_binds(host: Host, settings: Settings) -> List[str]:
    """The glidein's binds whose source exists; one that does not answer stays in, as it would for the glidein."""
    wanted = command_line.requested_binds(settings)
    results = host.attempt_all(
        LOOK_LIMIT_S, {"singularity.bind." + bind: [os.path.exists, command_line.source_of(bind)] for bind in wanted}
    )
    return [bind for bind in wanted if results["singularity.bind." + bind].value is not False]


def _facts(host: Host, earlier: Dict[str, Any], runtime: Dict[str, Any]) -> Dict[str, Any]:
    """What the rules for messages may ask: reasons that were found by looking and trying."""
    namespaces = earlier.get("namespaces") or {}
    facts = {kind + "_reason": (namespaces.get(kind) or {}).get("reason") for kind in ("mount", "pid", "ipc", "net")}
    facts["userns_reason"] = (namespaces.get("user") or {}).get("reason")
    setuid = runtime["setuid"]
    facts["setuid_reason"] = setuid["reason"] if setuid["installed"] else None
    facts["fuse_reason"] = host.attempt("singularity.fuse", LOOK_LIMIT_S, _try_fuse_device).value
    return facts


def _try_fuse_device() -> Optional[str]:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        return "fuse_device_missing"
    except OSError:
        return "fuse_device_denied"
    return None


def _try_all_at_once(
    trials: Trials, runtime: Dict[str, Any], launch: Launch, work: Dict[str, Any], as_root: bool
) -> Tried:
    """The optimistic start with all that a glidein uses, the SIF images and the other mode beside it."""
    combined = launch.with_binds("{}:{}".format(work["sandbox"], NEW_PATH))
    starts = {"combined": Start(combined, work["sandbox"], INSIDE)}
    for feature in ("sif", "sif_zstd"):
        if work[feature]:
            starts[feature] = Start(launch, work[feature])
    if runtime["setuid"]["usable"] or as_root:
        starts["userns"] = Start(launch.with_options("--userns"), work["sandbox"])
    if command_line.PID_OPTION not in launch.options:
        starts["pid_namespace"] = Start(launch.with_options(command_line.PID_OPTION), work["sandbox"])
    verdicts = trials.run(starts)
    if verdicts["combined"].ok:
        return Tried(runtime, launch, verdicts["combined"], verdicts, as_root)
    limit_s = HUNG_LIMIT_S if verdicts["combined"].status == "timeout" else RUN_LIMIT_S
    verdicts.update(trials.run({"factory": Start(launch, work["sandbox"], INSIDE)}, limit_s))
    return Tried(runtime, launch, verdicts["factory"], verdicts, as_root)


def _diagnose(
    host: Host, settings: Settings, earlier: Dict[str, Any], tried: Tried, work: Dict[str, Any], folder: str
) -> Findings:
    """After a failure: each feature on its own, and what a factory could configure instead."""
    binary, launch, image = tried.runtime["path"], tried.launch, work["sandbox"]
    trials = Trials(host, work, _facts(host, earlier, tried.runtime), "single")
    singles = {
        "sandbox": Start(command_line.bare_launch(binary), image),
        "pid_namespace": Start(command_line.bare_launch(binary, ["--pid"]), image),
        "ipc_namespace": Start(command_line.bare_launch(binary, ["--ipc"]), image),
        "contain": Start(command_line.bare_launch(binary, ["--contain"]), image),
        "workdir": Start(command_line.bare_launch(binary, ["--home", folder + ":/srv", "--pwd", "/srv"]), image),
        "bind_new_path": Start(command_line.bare_launch(binary, ["--bind", image + ":" + NEW_PATH]), image),
        "userns": Start(launch.with_options("--userns"), image),
    }
    changes = _possible_changes(launch)
    singles.update({"change:" + str(number): Start(changed, image) for number, (_, changed) in enumerate(changes)})
    limit_s = HUNG_LIMIT_S if tried.verdict.status == "timeout" else RUN_LIMIT_S
    verdicts = trials.run(singles, limit_s)
    alternatives = [
        {
            "change": change,
            "check": verdicts["change:" + str(number)].as_check("singularity.alternatives." + str(number)),
        }
        for number, (change, _) in enumerate(changes)
    ]
    alternatives += _other_binaries(host, settings, earlier, tried, work, limit_s)
    return _findings(settings, tried._replace(verdicts=dict(verdicts, **tried.verdicts)), alternatives, [])


def _possible_changes(launch: Launch) -> List[Tuple[Dict[str, str], Launch]]:
    """Configurations that a factory could set instead, least change first."""
    no_pid = {"SINGULARITY_DISABLE_PID_NAMESPACES": "1"}
    userns = {"GLIDEIN_SINGULARITY_OPTS": " ".join([*_own_options(launch), "--userns"])}
    without_pid = launch.without(command_line.PID_OPTION)
    changes = [(no_pid, without_pid)] if without_pid != launch else []
    changes.append((userns, launch.with_options("--userns")))
    if without_pid != launch:
        changes.append((dict(no_pid, **userns), without_pid.with_options("--userns")))
    return changes


def _own_options(launch: Launch) -> List[str]:
    """The options that come from GLIDEIN_SINGULARITY_OPTS: those after the factory's own six."""
    return [option for option in launch.options[6:] if option != command_line.PID_OPTION]


def _other_binaries(
    host: Host,
    settings: Settings,
    earlier: Dict[str, Any],
    tried: Tried,
    work: Dict[str, Any],
    limit_s: float,
) -> List[Dict[str, Any]]:
    """Where one binary was asked for by name: the others of the search order, each with the factory's start."""
    found: List[Dict[str, Any]] = []
    others = [runtime for runtime in earlier["runtimes"] if runtime["status"] == "ok" and runtime is not tried.runtime]
    if not settings.singularity:
        return found  # the glidein's own search went through all of them already
    for number, runtime in enumerate(others):
        launch = tried.launch._replace(binary=runtime["path"])
        trials = Trials(host, work, _facts(host, earlier, runtime), "other{}".format(number))
        verdict = trials.run({"factory": Start(launch, work["sandbox"])}, limit_s)["factory"]
        change = {"GLIDEIN_SINGULARITY_BINARY_OVERRIDE": runtime["path"]}
        found.append({"change": change, "check": verdict.as_check("singularity.alternatives.binary{}".format(number))})
    return found


def _findings(settings: Settings, tried: Tried, alternatives: List[Dict[str, Any]], refused: List[Tried]) -> Findings:
    """The report's ``singularity`` and its checks, from what was tried so far."""
    verdict, runtime = tried.verdict, tried.runtime
    message = verdict.message
    if refused:
        message = "{} fails ({}); a glidein takes the next of its search order".format(
            refused[0].runtime["path"], refused[0].verdict.reason
        )
    overall = dict(verdict.as_check("singularity"), message=message)
    modes = _modes(tried)
    features = {name: _feature(name, tried) for name in FEATURES}
    image = settings.images[0] if settings.images else "IMAGE"
    data = {
        "usable": verdict.ok if verdict.status in ("ok", "fail", "timeout") else None,
        "reason": verdict.reason,
        "message": message,
        "mode": verdict.mode,
        "path": runtime["path"],
        "version": runtime["version"],
        "product": runtime["product"],
        "modes": modes,
        "features": features,
        "command": tried.launch.text(image, ["cat", "/proc/self/uid_map"]),
        "alternatives": alternatives,
    }
    return {
        "data": data,
        "checks": [overall, *modes.values(), *features.values(), *[row["check"] for row in alternatives]],
    }


def _modes(tried: Tried) -> Dict[str, Check]:
    """Privileged and unprivileged apart: by the start that ran in this mode, or by what stands in its way."""
    ran = {verdict.mode: verdict for verdict in reversed(list(tried.verdicts.values())) if verdict.ok}
    found = {}
    for mode, trial in (("privileged", "factory"), ("unprivileged", "userns")):
        identifier = "singularity.modes." + mode
        verdict = ran.get(mode) or tried.verdicts.get(trial)
        setuid = tried.runtime["setuid"]
        if ran.get(mode):
            found[mode] = ran[mode].as_check(identifier)
        elif mode == "privileged" and setuid["reason"] and not tried.as_root:
            found[mode] = check(identifier, "fail", setuid["reason"], "starter: {}".format(setuid["path"] or "none"))
        elif verdict is not None and not verdict.ok:
            found[mode] = verdict.as_check(identifier)
        else:
            found[mode] = check(identifier, "unknown", "cannot_be_tried", "no start ran in this mode")
    return found


# Which start tells about a feature when the whole was tried at once, and what must be true of it.
def _feature(name: str, tried: Tried) -> Check:
    identifier = "singularity.features." + name
    if name in NOT_TRIED:
        return check(identifier, "skipped", "not_requested", NOT_TRIED[name])
    single = tried.verdicts.get(name)
    if name in ("sif", "sif_zstd"):
        return _sif(identifier, single)
    if single is None and name == "bind_new_path":
        single = tried.verdicts["combined"]
    single = single or tried.verdict
    if name == "pid_namespace" and single.ok and not _own_pid_namespace(single):
        return check(
            identifier, "fail", "pid_namespace_denied", "--pid was accepted, but the pids inside are the host's"
        )
    return single.as_check(identifier)


def _own_pid_namespace(verdict: Verdict) -> bool:
    # The namespace's first processes are Singularity's own; on the host our payload comes long after them.
    return verdict.seen.pid is not None and verdict.seen.pid < 100


def _sif(identifier: str, verdict: Optional[Verdict]) -> Check:
    if verdict is None:
        return check(identifier, "unknown", "cannot_be_tried", "this build of the probe has no such image")
    found = verdict.as_check(identifier)
    converted = [line for line in verdict.outcome.stderr.splitlines() if "onvert" in line and "andbox" in line]
    if verdict.ok and converted:
        evidence = found["evidence"]
        found = check(
            identifier, "fail", "sif_converted_to_sandbox", converted[0].strip(), verdict.outcome.duration_s, **evidence
        )
    return found


def _without_a_run(obstacle: Check, runtimes: List[Dict[str, Any]]) -> Findings:
    """The verdict where nothing could be started."""
    best = next((runtime for runtime in runtimes if runtime["status"] == "ok"), runtimes[0] if runtimes else None)
    data = unknown(obstacle["status"], obstacle["reason"], obstacle["message"])
    decided = obstacle["status"] in ("fail", "timeout")
    data.update(usable=False if decided else None, path=best["path"] if best else None)
    data.update(version=best["version"] if best else None, product=best["product"] if best else None)
    return {"data": data, "checks": [obstacle, *data["modes"].values(), *data["features"].values()]}


def unknown(status: str, reason: str, message: str) -> Dict[str, Any]:
    """The report's ``singularity`` where it never answered, or nothing could be started."""
    return {
        "usable": None,
        "reason": reason,
        "message": message,
        "mode": None,
        "path": None,
        "version": None,
        "product": None,
        "modes": {
            mode: check("singularity.modes." + mode, status, reason, message) for mode in ("privileged", "unprivileged")
        },
        "features": {name: check("singularity.features." + name, status, reason, message) for name in FEATURES},
        "command": None,
        "alternatives": [],
    }
