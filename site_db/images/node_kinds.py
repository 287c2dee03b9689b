"""What of a node decides which images run on it, taken out of its profile once. Pure.

Hundreds of profiles are held against hundreds of images: what does not hang on the image is judged here.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from site_db import cuda, cuda_reach
from site_db.cuda import Version
from site_db.images.nvidia import Gpu, Truth

Profile = Mapping[str, Any]

# The feature of the runtime that starts images of a kind.
FEATURES = {"sandbox": "sandbox", "sif": "sif", "oci": "registry"}
# Unpacked at each start: slow, and it takes scratch space, but the job has its image.
_RUNS_ANYWAY = frozenset({"sif_converted_to_sandbox"})


class Outcome(NamedTuple):
    """An answer, and the reason where it is not yes. `limit`: what holds although it is yes."""

    answer: Truth
    reason: str | None = None
    limit: str | None = None


YES = Outcome("yes")
_UNTOLD = {"status": "unknown", "reason": None}


class NodeKind(NamedTuple):
    """All of a profile that the match looks at. `features` by kind of image; None: not known.

    `driver_glibc`: what the driver's libraries need; `data_center`: all GPUs are data-centre models (None: not known).
    """

    runtime: Outcome
    has_cvmfs: bool
    repositories: Mapping[str, Outcome]
    features: Mapping[str, Outcome]
    arch: str | None
    microarch: str | None
    kernel: Version | None
    gpu_there: Outcome
    driver_glibc: Version | None
    gpu: Gpu
    data_center: bool | None


def node_kind(profile: Profile) -> NodeKind:
    """What the match looks at of one profile."""
    host, cvmfs, gpus = profile["host"], profile["cvmfs"], profile["gpus"]
    features = profile["singularity"]["features"]
    devices = gpus["devices"]
    return NodeKind(
        runtime=_runtime(profile["singularity"]),
        has_cvmfs=cvmfs["kind"] != "none",
        repositories={name: _of_check(check) for name, check in cvmfs["repositories"].items()},
        features={kind: _feature(features.get(name, _UNTOLD)) for kind, name in FEATURES.items()},
        arch=host["arch"],
        microarch=host["microarch"],
        kernel=tuple(host["kernel"]) if host["kernel"] else None,
        gpu_there=_gpu_there(gpus),
        driver_glibc=cuda.parse_version(gpus["driver_libraries_glibc"]),
        gpu=_gpu(
            gpus["driver_version"], gpus["cuda_version"], tuple(device["compute_capability"] for device in devices)
        ),
        data_center=cuda_reach.all_data_center(device["model"] for device in devices),
    )


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The first no, else the first unknown, else yes with its limits."""
    found = YES
    for outcome in outcomes:
        if outcome is YES:
            continue
        if outcome.answer == "no":
            return outcome
        if found.answer == "yes" and (outcome.answer == "unknown" or (outcome.limit and not found.limit)):
            found = outcome
    return found


def _runtime(found: Mapping[str, Any]) -> Outcome:
    if found["usable"] is None:
        return Outcome("unknown", found["reason"])
    return YES if found["usable"] else Outcome("no", found["reason"])


def _feature(check: Mapping[str, Any]) -> Outcome:
    return YES if check["reason"] in _RUNS_ANYWAY else _of_check(check)


def _gpu_there(found: Mapping[str, Any]) -> Outcome:
    if found["reason"] == "gpu_none" or (found["status"] == "ok" and not found["devices"]):
        return Outcome("no", "gpu_none")
    return worst((_of_check(found), _of_check(found["container"])))


# Hundreds of profiles have a handful of sorts of GPUs, and of outcomes.
@functools.lru_cache(maxsize=1024)
def _gpu(driver_version: str | None, cuda_version: str | None, capabilities: tuple[str | None, ...]) -> Gpu:
    """What the GPUs are, as the toolkit sees them; CUDA by the driver's own word, else by the table."""
    driver = cuda.parse_version(driver_version)
    version = cuda.parse_version(cuda_version) or (cuda.cuda_of_driver(driver) if driver else None)
    known = [capability for capability in map(cuda.parse_version, capabilities) if capability]
    return Gpu(version, driver, min(known) if known and len(known) == len(capabilities) else None)


def _of_check(check: Mapping[str, Any]) -> Outcome:
    return _outcome(check["status"], check["reason"])


@functools.lru_cache(maxsize=1024)
def _outcome(status: str, reason: str | None) -> Outcome:
    if status == "ok":
        return YES
    return Outcome("no" if status in ("fail", "timeout") else "unknown", reason)
