"""What is tried only where a start fails: images of the glidein's, single features, and other configurations."""

from typing import Any, Dict, List, Optional

from probe import alternatives
from probe.container_trials import LOOK_LIMIT_S, Start, Trials
from probe.detectors import image_places
from probe.detectors.cvmfs import mount_dir_of
from probe.detectors.singularity import EXTRAS, NEW_PATH, Node, Tried, findings
from probe.engine import Findings
from probe.payload_run import Verdict

# How many of the glidein's images stand for ours.
MOST_IMAGES = 3


def given_images(node: Node) -> List[str]:
    """Images that the glidein is configured with, as far as they are there and answer; the default one first."""
    mount_dir, keys = mount_dir_of(node.settings), image_places.references(node.settings)
    names = sorted(keys, key=lambda name: "default" not in keys[name])
    paths = [
        image_places.place(name, mount_dir, node.folder)
        for name in names
        if not image_places.is_url(name) and "\0" not in name
    ][: 2 * MOST_IMAGES]
    calls = {"images.look." + path: [image_places.look, path, mount_dir] for path in paths}
    results = node.host.attempt_all(LOOK_LIMIT_S, calls)
    looked = [results[name].value or {} for name in calls]
    return [found["real"] for found in looked if found.get("kind")][:MOST_IMAGES]


def try_given(
    node: Node, runtime: Dict[str, Any], trials: Trials, images: List[str], refused: Optional[Tried]
) -> Tried:
    """The verdict by the glidein's images, where ours cannot be had or is refused."""
    launch = node.launch(runtime)
    verdicts = trials.run({image: Start(launch, image, ours=False) for image in images})
    if refused and not verdicts:
        message = "{} (none of the glidein's images is known here)".format(refused.verdict.message)
        return refused._replace(verdict=refused.verdict._replace(status="unknown", message=message))
    image = next((image for image in images if verdicts[image].ok), images[0])
    known = {"image": verdicts[image]}
    if refused:
        known.update({name: _of_ours(verdict) for name, verdict in refused.verdicts.items()})
        if refused.verdict.reason == "sandbox_disallowed_by_config":
            known["sandbox"] = refused.verdict
    return Tried(runtime, launch, verdicts[image], known, node.as_root, image)


def _of_ours(verdict: Verdict) -> Verdict:
    """What a start of our image tells of others where the place or the owner decides: nothing."""
    return verdict._replace(status="unknown") if verdict.reason == "sif_disallowed_by_config" else verdict


def pass_by(node: Node, runtimes: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Where the search stands at its first place for ever: the change that lets it go on to the next, tried."""
    change = alternatives.PASSING.get(runtimes[0]["found_by"])
    following = [runtime for runtime in runtimes if runtime["found_by"] != runtimes[0]["found_by"]]
    hung = any(node.scratch[name] for name in ("home_hung", "folder_hung", "bind_hung"))
    if change is None or hung or not following or following[0]["status"] != "ok" or not node.work["sandbox"]:
        return []
    start = Start(node.launch(following[0]), node.work["sandbox"])
    verdict = node.trials(following[0], "next").run({"next": start}, share=0.5)["next"]
    return [_offer(0, change, verdict)]


def diagnose(node: Node, runtimes: List[Dict[str, Any]], tried: Tried) -> Findings:
    """After a failure: each feature on its own, and what a factory could configure instead."""
    launch = tried.launch
    image = tried.image or node.work["sandbox"]
    ours = tried.image is None
    bare = {
        "sandbox": [],
        "pid_namespace": ["--pid"],
        "ipc_namespace": ["--ipc"],
        "contain": ["--contain"],
        "workdir": ["--home", node.folder + ":/srv", "--pwd", "/srv"],
        "bind_new_path": ["--bind", image + ":" + NEW_PATH],
    }
    bare.update(EXTRAS)
    starts = {name: Start(launch.bare(*options), image, ours=ours) for name, options in bare.items()}
    starts["userns"] = Start(launch.with_options("--userns"), image, ours=ours)
    possible = alternatives.possible(launch, node.host.environment)
    for number, choice in enumerate(possible):
        starts["change:" + str(number)] = Start(choice.launch, image, unset=choice.unset, ours=ours)
    others = _other_runtimes(runtimes, tried) if tried.runtime["found_by"] == "option" else []
    for number, runtime in enumerate(others):
        starts["other:" + str(number)] = Start(launch._replace(binary=runtime["path"]), image, ours=ours)
    verdicts = node.trials(tried.runtime, "single").run(starts, share=0.3)
    offered = [
        _offer(number, choice.change, verdicts["change:" + str(number)]) for number, choice in enumerate(possible)
    ]
    for number, runtime in enumerate(others):
        change: alternatives.Change = {"GLIDEIN_SINGULARITY_BINARY_OVERRIDE": runtime["path"]}
        offered.append(_offer(len(offered), change, verdicts["other:" + str(number)]))
    tried = tried._replace(verdict=_blame_variables(tried.verdict, offered), verdicts=dict(verdicts, **tried.verdicts))
    return findings(node.settings, tried, offered, [])


def _other_runtimes(runtimes: List[Dict[str, Any]], tried: Tried) -> List[Dict[str, Any]]:
    return [runtime for runtime in runtimes if runtime["status"] == "ok" and runtime is not tried.runtime]


def _offer(number: int, change: alternatives.Change, verdict: Verdict) -> Dict[str, Any]:
    return {"change": change, "check": verdict.as_check("singularity.alternatives." + str(number))}


def _blame_variables(verdict: Verdict, offered: List[Dict[str, Any]]) -> Verdict:
    """Where leaving out variables of the environment is what helps, they are the cause."""
    for row in offered:
        names = [name for name, value in row["change"].items() if value is None]
        if verdict.reason == "runtime_failed" and names and row["check"]["status"] == "ok":
            message = "it works without {}: {}".format(", ".join(names), verdict.message)
            return verdict._replace(reason="runtime_options_invalid", message=message)
    return verdict
