"""Singularity judged by running it: the factory's own start first, single features and other configurations when it fails.

One optimistic start tries at once all that a glidein uses, so that a healthy node pays few container starts. The verdict
``usable`` is that of the factory's exact command with an image that is fine: our own (minimal_image), or where that can't
be made or is refused, one that the glidein is configured with. Where there is none, or the deadline left too little time
for a start, it is unknown.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from probe import command_line
from probe.checks import Check, check
from probe.command_line import Launch
from probe.container_trials import LOOK_LIMIT_S, RUN_LIMIT_S, Start, Trials
from probe.engine import Findings
from probe.host import Host, cut_short
from probe.payload_run import Verdict
from probe.settings import Settings

NEW_PATH = "/singularity-probe/new/path"
INSIDE = ("/srv",)
# All but cvmfs_inside, which has a detector of its own.
FEATURES = (
    "sandbox", "sif", "sif_zstd", "registry", "pid_namespace", "ipc_namespace", "contain", "bind_new_path",
    "workdir", "fakeroot", "cgroups", "nv", "rocm",
)  # fmt: skip
# Glideins use neither: a start more for each where something fails, or somebody requires it.
EXTRAS = {"fakeroot": ["--fakeroot"], "cgroups": ["--memory", "256M"]}
NOT_TRIED = {
    "registry": "tried with an image of a registry (--image docker://...) and PROBE_IMAGE_PULL=yes",
    "fakeroot": "tried where containers fail, and with --require fakeroot",
    "cgroups": "tried where containers fail, and with --require cgroups",
    "nv": "tried by the gpus detector where there is a GPU",
    "rocm": "tried by the gpus detector where there is a GPU",
}
# The configuration allows images of certain places, owners or kinds only: ours says nothing then about the glidein's.
OURS_REFUSED = ("sif_disallowed_by_config", "sandbox_disallowed_by_config")


class Tried(NamedTuple):
    """What the starts of one binary told; ``image`` is the glidein's that decided, None where ours did."""

    runtime: Dict[str, Any]
    launch: Launch
    verdict: Verdict
    verdicts: Dict[str, Verdict]
    as_root: bool
    image: Optional[str] = None


class Node(NamedTuple):
    """What a container start needs to know of this node."""

    host: Host
    settings: Settings
    namespaces: Dict[str, Any]
    work: Dict[str, Any]
    folder: str
    scratch: Dict[str, Any]
    as_root: bool
    early: Optional[Dict[str, Any]]

    def launch(self, runtime: Dict[str, Any]) -> Launch:
        """The glidein's start with a runtime."""
        return command_line.factory_launch(self.settings, runtime["path"], self.folder, self.scratch["binds"])

    def trials(self, runtime: Dict[str, Any], label: str) -> Trials:
        """Trials of a runtime, with the facts that its messages are read by."""
        folder = self.work["work_folder"]
        return Trials(self.host, folder, lambda: _facts(self.host, self.namespaces, runtime), label, self.early)


def detect(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``singularity``; a first answer is given as soon as the verdict stands."""
    facts = host.facts()
    work, scratch = earlier["work_folder"], earlier["scratch"]
    folder = str(facts["folder"] or work["work_folder"])
    runtimes = _in_reach(earlier["runtimes"])
    early = earlier.get("first_start")
    node = Node(host, settings, earlier["namespaces"], work, folder, scratch, facts["uid"] == 0, early)
    obstacle = _obstacle(earlier["runtimes"], runtimes, scratch, folder)
    images = None if obstacle or work["sandbox"] else _failed_starts().given_images(node)
    obstacle = obstacle or _no_image(node, images, facts["arch"])
    if obstacle:
        found = _without_a_run(obstacle, runtimes or earlier["runtimes"])
        yield found
        if earlier["runtimes"] and not runtimes:
            offered = _failed_starts().pass_by(node, earlier["runtimes"])
            found["data"]["alternatives"] = offered
            yield dict(found, checks=found["checks"] + [row["check"] for row in offered])
        return
    tried = _search(node, runtimes, images)
    if tried[-1].verdict.ok:
        yield findings(settings, tried[-1], [], tried[:-1])
        return
    # One that hangs, or of which nothing is known, decides: the glidein gets no further, or it might have stopped here. After
    # that the first that names its cause.
    decisive = min(tried, key=lambda one: (one.verdict.status == "fail", one.verdict.reason == "runtime_failed"))
    yield findings(settings, decisive, [], [])
    yield _failed_starts().diagnose(node, earlier["runtimes"], decisive)


def _failed_starts() -> Any:
    from probe.detectors import failed_starts  # a healthy node needs none of it

    return failed_starts


def _search(node: Node, runtimes: List[Dict[str, Any]], images: Optional[List[str]]) -> List[Tried]:
    """One runtime after the other, as far as a glidein comes; ``images`` are its own, None if not looked for yet."""
    found: List[Tried] = []
    for number, runtime in enumerate(runtimes):
        trials = node.trials(runtime, str(number))
        tried = _try_all_at_once(node, runtime, trials) if node.work["sandbox"] else None
        if tried is None or tried.verdict.reason in OURS_REFUSED:
            images = _failed_starts().given_images(node) if images is None else images
            tried = _failed_starts().try_given(node, runtime, trials, images, tried)
        found.append(tried)
        if tried.verdict.status in ("ok", "timeout"):
            break
    return found


def _in_reach(runtimes: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The runtimes that a glidein's search comes to: it stops for ever at one that hangs, and at one asked for by name."""
    found = []
    for runtime in runtimes:
        if runtime["status"] in ("timeout", "unknown"):
            break
        if runtime["status"] == "ok":
            found.append(runtime)
            if runtime["found_by"] == "option":
                break
    return found


def _obstacle(
    runtimes: List[Dict[str, Any]], in_reach: List[Dict[str, Any]], scratch: Dict[str, Any], folder: str
) -> Optional[Check]:
    """What decides before anything is started: nothing to start, or a hung folder that every start goes into."""
    if not runtimes:
        return check("singularity", "fail", "runtime_not_found", "no Singularity or Apptainer found")
    if not in_reach:
        best = next((runtime for runtime in runtimes if runtime["status"] != "fail"), runtimes[0])
        said = "--version failed" if best["status"] == "fail" else "it does not answer"
        message = "{}: {}".format(best["path"], best["version_text"] or said)
        return check("singularity", best["status"], best["reason"], message)
    # One more start would only be one more process that cannot be killed.
    if scratch["home_hung"]:
        return check("singularity", "timeout", "home_unusable", "HOME does not answer, and every start looks into it")
    if scratch["folder_hung"]:
        message = "the working folder {} does not answer, and every start mounts it".format(folder)
        return check("singularity", "timeout", "folder_unusable", message)
    if scratch["bind_hung"]:
        message = "{} does not answer, and every start binds it".format(scratch["bind_hung"])
        return check("singularity", "timeout", "bind_hung", message)
    return None


def _no_image(node: Node, images: Optional[List[str]], arch: str) -> Optional[Check]:
    """What keeps us from trying: no image of our own, and none of the glidein's."""
    if images or images is None:
        return None
    if node.work["work_folder"]:
        message = "this build of the probe has no test image for {}; give one with --image".format(arch)
        return check("singularity", "unknown", "cannot_be_tried", message)
    message = "no folder takes our test image; give an image with --image"
    return check("singularity", "unknown", node.scratch["refusal"] or "scratch_unusable", message)


def _facts(host: Host, namespaces: Dict[str, Any], runtime: Dict[str, Any]) -> Dict[str, Any]:
    """What the rules for messages may ask: reasons that were found by looking and trying."""
    setuid = runtime["setuid"]
    setuid_reason = setuid["reason"] if setuid["installed"] else None
    reasons = {kind: (namespaces.get(kind) or {}).get("reason") for kind in ("user", "mount", "pid", "ipc", "net")}
    # A starter that is kept down fails at what the trials, in a user namespace of their own, may do.
    kept_down = setuid_reason if setuid_reason == "setuid_in_namespace" else None
    facts: Dict[str, Any] = {kind + "_reason": reasons[kind] or kept_down for kind in ("mount", "pid", "ipc", "net")}
    facts["userns_reason"] = reasons["user"]
    first = next((reasons[kind] for kind in ("user", "mount", "pid", "ipc") if reasons[kind]), None)
    facts["namespace_reason"] = first or kept_down
    facts["setuid_reason"] = setuid_reason
    facts["fuse_reason"] = host.attempt("singularity.fuse", LOOK_LIMIT_S, _try_fuse_device).value
    return facts


def _try_fuse_device() -> Optional[str]:
    import os

    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK))
    except FileNotFoundError:
        return "fuse_device_missing"
    except OSError:
        return "fuse_device_denied"
    return None


def optimistic_starts(node: Node, runtime: Dict[str, Any]) -> Dict[str, Start]:
    """The start with all that a glidein uses at once, the SIF image and the other mode beside it."""
    launch, sandbox = node.launch(runtime), node.work["sandbox"]
    new_path = "{}:{}".format(sandbox, NEW_PATH)
    starts = {"combined": Start(launch.with_binds(*node.scratch["storage"], new_path), sandbox, INSIDE)}
    # What mounts zstd mounts gzip too, squashfs's first compression; gzip is tried where zstd fails.
    if node.work["sif_zstd"]:
        starts["sif_zstd"] = Start(launch, node.work["sif_zstd"])
    if runtime["setuid"]["usable"] or node.as_root:
        starts["userns"] = Start(launch.with_options("--userns"), sandbox)
    if command_line.PID_OPTION not in launch.options:
        starts["pid_namespace"] = Start(launch.with_options(command_line.PID_OPTION), sandbox)
    return starts


def _try_all_at_once(node: Node, runtime: Dict[str, Any], trials: Trials) -> Tried:
    """The optimistic starts; where they fail, the plain SIF image and the factory's own command."""
    launch = node.launch(runtime)
    verdicts = trials.run(optimistic_starts(node, runtime))
    if verdicts["combined"].status == "timeout":
        return Tried(runtime, launch, verdicts["combined"], verdicts, node.as_root)
    more = {"sif": Start(launch, node.work["sif"])} if node.work["sif"] and _gzip_may_differ(verdicts) else {}
    if verdicts["combined"].status == "fail":
        more["factory"] = Start(launch, node.work["sandbox"], INSIDE)
        if node.scratch["storage"]:
            new_path = "{}:{}".format(node.work["sandbox"], NEW_PATH)
            more["bind_new_path"] = Start(launch.with_binds(new_path), node.work["sandbox"])
    more.update(
        (name, Start(launch.bare(*options), node.work["sandbox"]))
        for name, options in EXTRAS.items()
        if name in node.settings.require
    )
    verdicts.update(trials.run(more) if more else {})
    verdict = verdicts.get("factory", verdicts["combined"])
    if node.scratch["storage"] and verdict.ok:
        verdicts["storage"] = verdicts["combined"]
    return Tried(runtime, launch, verdict, verdicts, node.as_root)


def _gzip_may_differ(verdicts: Dict[str, Verdict]) -> bool:
    """Whether the gzip image may run although the zstd one did not: not where no image runs, for the same reason.

    A SIF that cannot be mounted waits 1.2 s in Apptainer (1.4.5, run).
    """
    zstd, sandbox = verdicts.get("sif_zstd"), verdicts["combined"]
    if zstd is None:
        return True
    return not zstd.ok and (sandbox.ok or zstd.reason != sandbox.reason)


def findings(settings: Settings, tried: Tried, offered: List[Dict[str, Any]], refused: List[Tried]) -> Findings:
    """The report's ``singularity`` and its checks, from what was tried so far."""
    tried = tried._replace(
        verdict=_in_time(tried.verdict), verdicts={name: _in_time(tried.verdicts[name]) for name in tried.verdicts}
    )
    verdict, runtime = tried.verdict, tried.runtime
    message = verdict.message
    if refused:
        message = "{} fails ({}); a glidein takes the next of its search order".format(
            refused[0].runtime["path"], refused[0].verdict.reason
        )
    overall = dict(verdict.as_check("singularity"), message=message)
    modes = _modes(tried)
    features = {name: _feature(name, tried) for name in FEATURES}
    image = tried.image or (settings.images[0] if settings.images else "IMAGE")
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
        "alternatives": offered,
    }
    checks = [overall, *modes.values(), *features.values(), *[row["check"] for row in offered]]
    if "storage" in tried.verdicts:  # what jobs have besides, and the factory's own test has not
        checks.append(tried.verdicts["storage"].as_check("singularity.storage"))
    return {"data": data, "checks": checks}


def _in_time(verdict: Verdict) -> Verdict:
    """The verdict, or that nothing is known where only the deadline kept a start from its end."""
    if verdict.status == "timeout" and cut_short(verdict.outcome, RUN_LIMIT_S):
        return verdict._replace(status="unknown", reason="deadline_reached")
    return verdict


def _modes(tried: Tried) -> Dict[str, Check]:
    """Privileged and unprivileged apart: by the start that ran in this mode, or by what stands in its way."""
    # Below a user namespace --userns gives root a map that looks like the privileged one's.
    ran = {
        "unprivileged" if name == "userns" else verdict.mode: verdict
        for name, verdict in reversed(list(tried.verdicts.items()))
        if verdict.ok
    }
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


def _feature(name: str, tried: Tried) -> Check:
    """A feature by its own start where there was one, or else by the one that tried all at once."""
    identifier = "singularity.features." + name
    single = tried.verdicts.get(name)
    if single is None and name in NOT_TRIED:
        return check(identifier, "skipped", "not_requested", NOT_TRIED[name])
    if name == "cgroups" and single is not None and single.reason == "runtime_options_invalid":
        return check(identifier, "skipped", "not_applicable", "this version has no --memory")
    if name in ("sif", "sif_zstd"):
        return _sif(identifier, single or tried.verdicts.get("sif_zstd"))
    if single is None and name == "bind_new_path":
        single = tried.verdicts.get("combined")
    single = single or tried.verdict
    if name == "pid_namespace" and single.ok and single.seen.pid is not None and not _own_pid_namespace(single):
        return check(
            identifier, "fail", "pid_namespace_denied", "--pid was accepted, but the pids inside are the host's"
        )
    return single.as_check(identifier)


def _own_pid_namespace(verdict: Verdict) -> bool:
    # The namespace's first processes are Singularity's own; on the host our payload comes long after them.
    return (verdict.seen.pid or 0) < 100


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
        # Where we cannot even fork, no container starts: that takes a dozen of processes and threads.
        "usable": False if reason == "resources_exhausted" else None,
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
