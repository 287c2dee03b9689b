"""GPUs inside the container: are the libraries brought in, do the device files open, does cuInit succeed there.

Two starts of the glidein's own command with --nv (or --rocm) and our image: the static payload opens device files and
libraries; a dynamic payload calls CUDA's driver, by the host's own loader and C library, since our image has none. That
tells whether --nv works on this node. Then the same payload in images that the glidein is configured with, by their own
loader and C library: that tells what a job meets there. `tried` in the evidence says how far it went.
"""

import os
import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from probe import command_line, minimal_image, packed, payload_run
from probe.checks import Check, check, decisive_lines
from probe.command_line import Launch
from probe.detectors import gpu_errors, gpu_libraries, gpu_signs
from probe.detectors.gpu_errors import OK, Judgement
from probe.detectors.gpu_signs import container_only
from probe.engine import Findings
from probe.host import Host, Run
from probe.process import Outcome
from probe.settings import Settings

RUN_LIMIT_S = 25.0
PREPARE_LIMIT_S = 5.0
AT_ONCE = 3
IMAGES_TRIED = 3
OPTIONS = {"nvidia": "--nv", "amd": "--rocm"}
LIBRARIES = "/.singularity.d/libs"
INJECTED = {"nvidia": ("libcuda.so.1", "libnvidia-ml.so.1"), "amd": ()}  # ROCm comes with the image
FOLDER = "/singularity-probe-gpu"
PROGRAM = FOLDER + "/payload-cuda"
# What libcuda.so.1 needs besides the C library; all are links to it, or stubs, from glibc 2.34 on.
LIBC = "libc.so.6"
BESIDE_LIBC = ("libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1")
LOADER = re.compile(r"ld-linux-[\w-]+\.so\.\d+$|ld64\.so\.\d+$")


class Called(NamedTuple):
    """What the dynamic payload printed: whether it was loaded, cuInit's code, CUDA's version and count of devices."""

    loaded: bool
    code: Optional[int]
    cuda_version: Optional[int]
    devices: Optional[int]


class Node(NamedTuple):
    """What the starts need: the glidein's command with the GPU option, our image, and a word for our lines."""

    host: Host
    vendor: str
    launch: Launch
    work: Dict[str, Any]
    nonce: str


def parse(stdout: str, nonce: str) -> Called:
    """The dynamic payload's lines."""
    found = dict(re.findall("^.*?" + re.escape(nonce) + r" (\w+) ?(-?\d{0,9})\r?$", stdout, re.MULTILINE))
    numbers = [int(found[name]) if found.get(name) else None for name in ("cuinit", "cuda_version", "cuda_devices")]
    return Called("loaded" in found, *numbers)


def libc_folder(maps: str) -> Optional[str]:
    """Where this process has its C library from, by /proc/self/maps; None for another than glibc."""
    match = re.search(r"\s(/\S*)/libc(?:\.so\.6|-2\.\d+\.so)$", maps, re.MULTILINE)
    return match.group(1) if match else None


def prepare(image: str, arch: str, folder: str) -> Optional[str]:
    """Put the dynamic payload with the host's loader and C library into our image. May hang; raises OSError.

    Returns the loader's name there; None where this build has no such payload or the loader is not found.
    """
    program = packed.read("payload-cuda-" + arch)
    loader = next((name for name in sorted(os.listdir(folder)) if LOADER.match(name)), None)
    place = image + FOLDER
    if program is None or loader is None:
        return None
    os.mkdir(place, 0o755)
    files = {name: os.path.join(folder, name) for name in (loader, LIBC, *BESIDE_LIBC)}
    for name, path in files.items():
        if name in (loader, LIBC) or os.path.exists(path):
            with open(path, "rb") as source:
                _write(os.path.join(place, name), source.read())
    _write(image + PROGRAM, program)
    return loader


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(content)
    os.chmod(path, 0o755)  # noqa: S103 - an image is read by whoever Singularity maps us to


def detect(host: Host, settings: Settings, earlier: Dict[str, Any]) -> Iterator[Findings]:
    """{"container": check, "features": {"nv" or "rocm": check}}: parts of the report's ``gpus`` and ``singularity``."""
    found = gpu_signs.nothing_to_try(host, settings, earlier) or _obstacle(earlier)
    if found is not None:
        yield found
        return
    vendor = earlier["gpus"]["devices"][0]["vendor"] if earlier["gpus"]["devices"] else "nvidia"
    if vendor not in OPTIONS:
        yield container_only(
            check("gpus.container", "unknown", "cannot_be_tried", "no option of Singularity brings it in")
        )
        return
    work = earlier["work_folder"]
    folder = str(host.facts()["folder"] or work["work_folder"])
    launch = command_line.factory_launch(
        settings, earlier["singularity"]["path"], folder, earlier["scratch"]["binds"]
    ).with_options(OPTIONS[vendor])
    node = Node(host, vendor, launch, work, host.nonce())
    gpus = earlier["gpus"]
    loader = _prepare(node) if vendor == "nvidia" else None
    first = _try_our_image(node, gpus, loader)
    yield first
    rows = earlier["images"]["rows"] if "images" in earlier else []  # left out by --skip
    images = [row for row in rows if row["status"] == "ok" and row["path"]][:IMAGES_TRIED]
    if vendor == "nvidia" and images:
        checks = _try_images(node, gpus, images, loader)
        yield {"data": first["data"], "checks": first["checks"] + checks}


def _obstacle(earlier: Dict[str, Any]) -> Optional[Findings]:
    if not earlier["singularity"].get("usable"):
        return container_only(check("gpus.container", "unknown", "prerequisite_failed", "no container starts"))
    if not earlier["work_folder"]["sandbox"]:
        return container_only(check("gpus.container", "unknown", "cannot_be_tried", "no test image could be made"))
    return None


def _prepare(node: Node) -> Optional[str]:
    folder = libc_folder(node.host.read_or_none("/proc/self/maps") or "")
    if folder is None:
        return None
    arguments = [node.work["sandbox"], node.host.facts()["arch"], folder]
    return node.host.attempt("gpu_container.prepare", PREPARE_LIMIT_S, prepare, *arguments).value  # type: ignore[no-any-return]  # what prepare gives


def _run(node: Node, commands: Dict[str, List[str]], share: float) -> Dict[str, Outcome]:
    limit_s = node.host.limit(RUN_LIMIT_S, share)
    runs = {"gpu_container." + name: Run(command, node.launch.changes) for name, command in commands.items()}
    outcomes = node.host.run_each(runs, limit_s, AT_ONCE)
    return {name: outcomes["gpu_container." + name] for name in commands}


def _try_our_image(node: Node, gpus: Dict[str, Any], loader: Optional[str]) -> Findings:
    """Both payloads in our image, side by side: what --nv brings in, and whether CUDA's driver works with it."""
    image = node.work["sandbox"]
    files = [row["path"] for row in gpus["device_files"] if row["errno"] == 0]
    libraries = [LIBRARIES + "/" + name for name in INJECTED[node.vendor]]
    look = [minimal_image.PAYLOAD_PATH, node.nonce, *files, *libraries]
    commands = {"look": node.launch.command(image, look)}
    if loader:
        by_loader = [FOLDER + "/" + loader, "--library-path", LIBRARIES + ":" + FOLDER, PROGRAM, node.nonce]
        commands["cuda"] = node.launch.command(image, by_loader)
    outcomes = _run(node, commands, 0.5)
    text = command_line.as_text(commands["look"])
    verdict = payload_run.judge(outcomes["look"], node.nonce, text, dict, node.host.limit(RUN_LIMIT_S, 0.5))
    option = _judge_look(verdict, files, libraries)
    tried = ["devices"] + (["libraries"] if libraries else []) if verdict.ok else []
    called, container = None, option
    if loader and option.ok:
        called = parse(outcomes["cuda"].stdout, node.nonce)
        container = judge_call(outcomes["cuda"], called)
        tried += ["cuinit"] if called.code is not None else []
    elif option.ok and node.vendor == "nvidia":
        container = Judgement(
            "unknown", "cannot_be_tried", "cuInit was not tried: no C library of the host for our image"
        )
    inside = ["{}: {}".format(path, _state(error)) for path, error in verdict.seen.paths.items()]
    feature = "singularity.features." + OPTIONS[node.vendor].strip("-")
    facts: Dict[str, Any] = {"command": text, "inside": inside or None, "tried": tried}
    own = check(feature, *option, duration_s=outcomes["look"].duration_s, **facts)
    whole = check(
        "gpus.container",
        *container,
        duration_s=outcomes["cuda"].duration_s if called else outcomes["look"].duration_s,
        cuinit=called.code if called else None,
        cuda_devices=called.devices if called else None,
        stderr=decisive_lines(outcomes["cuda"].stderr) or None if called and not container.ok else None,
        **facts,
    )
    return {"data": {"container": whole, "features": {OPTIONS[node.vendor].strip("-"): own}}, "checks": [whole, own]}


def _state(error: int) -> str:
    return os.strerror(error) if error else "opens"


def _judge_look(verdict: payload_run.Verdict, files: List[str], libraries: List[str]) -> Judgement:
    """What the static payload saw: all that opens on the host has to open inside."""
    if not verdict.ok:
        return Judgement(verdict.status, verdict.reason, verdict.message)
    seen = verdict.seen.paths
    for path in libraries:
        if seen.get(path) != 0:
            message = "{} is not there inside".format(path)
            return Judgement("fail", "gpu_libraries_not_inside", message)
    closed = [path for path in files if seen.get(path) != 0]
    if closed:
        message = "opens on the host, but not inside: " + ", ".join(closed)
        return Judgement("fail", "gpu_container_failed", message)
    return OK


def judge_call(outcome: Outcome, called: Called) -> Judgement:
    """What the dynamic payload came to."""
    if called.code is not None:
        judgement = gpu_errors.judge_code("cuda", "cuInit inside the container", called.code)
        return (
            judgement if judgement.reason != gpu_errors.OTHERWISE else judgement._replace(reason="gpu_container_failed")
        )
    if outcome.state == "timeout":
        return Judgement("timeout", "gpu_timeout", "cuInit inside the container gave no answer")
    if called.loaded:
        return Judgement("fail", "gpu_driver_crashed", "cuInit inside the container ended by {}".format(_end(outcome)))
    lines = decisive_lines(outcome.stderr, 1)
    text = lines[0] if lines else _end(outcome)
    judgement = gpu_errors.judge_loading(text)
    return (
        judgement
        if judgement.reason == "gpu_library_glibc_too_new"
        else Judgement("fail", "gpu_container_failed", text)
    )


def _end(outcome: Outcome) -> str:
    return "signal {}".format(outcome.signal) if outcome.signal else "exit code {}".format(outcome.exit_code)


def _try_images(node: Node, gpus: Dict[str, Any], images: List[Dict[str, Any]], loader: Optional[str]) -> List[Check]:
    """The dynamic payload in each image, by its own loader; where it cannot be run, versions are compared."""
    launch = node.launch.with_binds("{}:{}".format(node.work["sandbox"] + FOLDER, FOLDER))
    ready = [row for row in images if loader and row["libc"] != "musl"]
    commands = {row["ref"]: launch.command(row["path"], [PROGRAM, node.nonce]) for row in ready}
    outcomes = _run(node, commands, 0.5) if commands else {}
    return [_judge_image(node, gpus, row, outcomes.get(row["ref"])) for row in images]


def _judge_image(node: Node, gpus: Dict[str, Any], row: Dict[str, Any], outcome: Optional[Outcome]) -> Check:
    identifier = "gpus.container." + row["ref"]
    needs = gpus["driver_libraries_glibc"]
    facts: Dict[str, Any] = {"image_libc": row["libc"], "driver_libraries_glibc": needs, "tried": ["versions"]}
    if row["libc"] == "musl":
        return check(identifier, "fail", "gpu_container_failed", "the image has musl, the driver needs glibc", **facts)
    called = parse(outcome.stdout, node.nonce) if outcome else Called(False, None, None, None)
    if outcome and (called.loaded or "error while loading" in outcome.stderr):
        facts.update(tried=["loader"] + (["cuinit"] if called.code is not None else []), cuinit=called.code)
        judgement = judge_call(outcome, called)
        if "libcuda.so.1: cannot open" in (judgement.message or ""):
            # Apptainer leaves it to the image's own environment, as it writes it when it builds one.
            message = "the image's LD_LIBRARY_PATH does not name {}: {}".format(LIBRARIES, judgement.message)
            judgement = judgement._replace(message=message)
        return check(identifier, *judgement, duration_s=outcome.duration_s, **facts)
    if is_too_new(needs, row["libc"]):
        message = "the driver's libraries need glibc {}, the image has {}".format(needs, row["libc"])
        return check(identifier, "fail", "gpu_library_glibc_too_new", message, **facts)
    lines = decisive_lines(outcome.stderr, 1) if outcome else []
    message = "cuInit could not be tried in this image" + (": " + lines[0] if lines else "")
    return check(identifier, "unknown", "cannot_be_tried", message, **facts)


def is_too_new(needs: Optional[str], libc: Optional[str]) -> bool:
    """Whether libraries that need a glibc ("2.34") cannot be loaded with an image's ("glibc 2.17"); unknown is no."""
    needed, has = gpu_libraries.parse_version(needs), gpu_libraries.parse_version(libc)
    return needed is not None and has is not None and needed > has


def unknown(status: str, reason: str, message: str) -> Dict[str, Any]:
    """What the report gets where this detector never answered."""
    return {"container": check("gpus.container", status, reason, message), "features": {}}
