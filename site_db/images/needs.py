"""What of an image decides where it runs, and what one kind of node says to that. Pure.

Three-valued: "unknown" wherever the image or the node does not tell. The first thing that forbids is the reason given;
only where nothing forbids does something that is not known make the answer unknown.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from site_db import cuda, cuda_reach
from site_db.cuda import Version
from site_db.images.elf import LEVELS
from site_db.images.model import Requirements
from site_db.images.naming import cvmfs_repository_of, kind_of
from site_db.images.node_kinds import FEATURES, YES, NodeKind, Outcome, Profile, node_kind, worst
from site_db.images.nvidia import Gpu, Truth, WrongRequirement, met, needed_cuda, parse_requirement

Question = Literal["start", "gpu"]

NOT_INSPECTED = "image_not_inspected"
_ALSO_RUNS = {"x86_64": frozenset({"x86_64", "i686"})}


@dataclass(frozen=True)
class Need:
    """All of an image that the match looks at; equal for all images that run on the same nodes. None: not known.

    `glibc`: the version in the image, None also for musl. `cuda`: None not known, () none. `compat`: the driver version of
    the CUDA compatibility library inside, None also where there is none.
    """

    kind: str | None
    repository: str | None
    arch: str | None
    microarch: str | None
    kernel: Version | None
    glibc: Version | None
    cuda: tuple[str, ...] | None
    compat: Version | None = None


def need_of(reference: str, requirements: Requirements) -> Need:
    """The need of an image with this reference and these facts."""
    kernel, conditions = requirements.value("kernel"), requirements.value("cuda")
    libc = requirements.value("libc") or ""
    return Need(
        kind=requirements.value("kind") if requirements.value("kind") in FEATURES else kind_of(reference),
        repository=cvmfs_repository_of(reference),
        arch=requirements.value("arch"),
        microarch=_level_of(requirements),
        kernel=tuple(kernel) if kernel else None,
        glibc=cuda.parse_version(libc.removeprefix("glibc ")) if libc.startswith("glibc ") else None,
        cuda=None if conditions is None or not _are_conditions(conditions) else tuple(conditions),
        compat=cuda.parse_version(requirements.value("cuda_compat")),
    )


def _are_conditions(texts: Iterable[str]) -> bool:
    """Whether the toolkit would take them; what it refuses tells nothing of the image's needs."""
    try:
        return all(parse_requirement(text) is not None for text in texts)
    except WrongRequirement:
        return False


def _level_of(requirements: Requirements) -> str | None:
    if requirements.value("arch") == "i686":
        return LEVELS[0]
    level = requirements.value("microarch")
    return level if level in LEVELS else None


def predict(need: Need, profile: Profile, question: Question) -> Outcome:
    """Whether nodes of this profile start the image, or (gpu) also meet what it asks of GPUs."""
    node = node_kind(profile)
    return worst(check(value_of(need), node) for value_of, check in CHECKS[question])


_UNTOLD, _UNKNOWN = Outcome("unknown", NOT_INSPECTED), Outcome("unknown")

# --- one check a row: what of the need it looks at, and how it judges that on a kind of node -------------------------------


def _runtime(_value: None, node: NodeKind) -> Outcome:
    return node.runtime


def _kind(kind: str | None, node: NodeKind) -> Outcome:
    return _UNTOLD if kind is None else node.features[kind]


def _repository(name: str | None, node: NodeKind) -> Outcome:
    """Whether a path outside CVMFS is there, nobody predicts; only its test on the node tells."""
    if name is None:
        return YES
    if not node.has_cvmfs:
        return Outcome("no", "cvmfs_not_mounted")
    return node.repositories.get(name) or Outcome("unknown", "not_requested")


def _arch(arch: str | None, node: NodeKind) -> Outcome:
    found = node.arch
    if arch is None:
        return _UNTOLD
    if found is None:
        return _UNKNOWN
    runs = arch == found or arch in _ALSO_RUNS.get(found, ())
    return YES if runs else Outcome("no", "image_wrong_arch")


def _microarch(needed: str | None, node: NodeKind) -> Outcome:
    if node.arch != "x86_64":  # only x86-64 has levels
        return YES
    found = node.microarch
    if needed is None:
        return YES if found == LEVELS[-1] else _UNTOLD
    if found not in LEVELS:
        return YES if needed == LEVELS[0] else _UNKNOWN
    return YES if LEVELS.index(found) >= LEVELS.index(needed) else Outcome("no", "image_needs_newer_cpu")


def _kernel(needed: Version | None, node: NodeKind) -> Outcome:
    found = node.kernel
    if needed is None:
        return YES
    if not found:
        return _UNKNOWN
    return YES if _reaches(found, needed[: len(found)]) else Outcome("no", "image_needs_newer_kernel")


def _gpu_there(_value: None, node: NodeKind) -> Outcome:
    return node.gpu_there


def _gpu_library(glibc: Version | None, node: NodeKind) -> Outcome:
    needed = node.driver_glibc
    if needed is None or glibc is None:
        return YES
    return YES if _reaches(glibc, needed) else Outcome("no", "gpu_library_glibc_too_new")


def _cuda(needed: tuple[tuple[str, ...] | None, Version | None], node: NodeKind) -> Outcome:
    texts, bundled = needed
    if texts is None:
        return _UNTOLD
    return _cuda_on(texts, node.gpu, None if node.data_center is False else bundled) if texts else YES


@functools.lru_cache(maxsize=4096)  # hundreds of kinds of nodes have a handful of kernels
def _reaches(version: Version, least: Version) -> bool:
    return cuda.compare(version, least) >= 0


@functools.lru_cache(maxsize=4096)  # hundreds of profiles have a handful of sorts of GPUs
def _cuda_on(texts: tuple[str, ...], gpu: Gpu, bundled: Version | None) -> Outcome:
    """`bundled`: the compatibility library in the image, where the GPUs may allow one."""
    wanted = needed_cuda(texts)
    if wanted and not cuda_reach.suits(wanted, gpu.arch):
        return Outcome("no", "image_needs_newer_gpu")
    if _all_met(texts, gpu._replace(cuda=wanted or gpu.cuda, driver=None)) == "no":  # whatever the driver
        return Outcome("no", "image_needs_newer_gpu")
    answer = _all_met(texts, gpu)
    if answer == "yes":
        return YES
    # What else the requirements say of the GPU has to hold, however that CUDA comes to the node.
    if wanted and gpu.driver and _all_met(texts, gpu._replace(cuda=wanted)) == "yes":
        least = cuda.compatible_driver(wanted)
        if least and cuda.compare(gpu.driver, least) >= 0:
            return Outcome("yes", limit="minor_version_compatibility")
        if bundled and _brings(bundled, wanted, gpu.driver):
            # Nobody knows whether the image loads its own library.
            return Outcome("unknown", "image_needs_newer_driver")
    return Outcome("no", "image_needs_newer_driver") if answer == "no" else Outcome("unknown")


def _all_met(texts: tuple[str, ...], gpu: Gpu) -> Truth:
    answers = {met(parse_requirement(text), gpu) for text in texts}
    return "no" if "no" in answers else "unknown" if "unknown" in answers else "yes"


def _brings(bundled: Version, wanted: Version, driver: Version) -> bool:
    """Whether a compatibility library of this driver version has that CUDA, and goes with the driver of the node."""
    has = cuda.cuda_of_driver(bundled)
    forward = cuda_reach.reach(driver, data_center=True).forward
    return bool(has and forward and cuda.compare(has, wanted) >= 0 and cuda.compare(forward, wanted) >= 0)


Judge = Callable[[Any, NodeKind], Outcome]
Check = tuple[Callable[[Need], Any], Judge]
_START: tuple[Check, ...] = (
    (lambda _need: None, _runtime),
    (lambda need: need.repository, _repository),
    (lambda need: need.arch, _arch),
    (lambda need: need.microarch, _microarch),
    (lambda need: need.kernel, _kernel),
    (lambda need: need.kind, _kind),
)
_GPU: tuple[Check, ...] = (
    (lambda _need: None, _gpu_there),
    (lambda need: need.glibc, _gpu_library),
    (lambda need: (need.cuda, need.compat), _cuda),
)
CHECKS: dict[Question, tuple[Check, ...]] = {"start": _START, "gpu": _GPU}


class Predictions:
    """What each of some kinds of nodes says to each need, every distinct value of a need judged once."""

    def __init__(self, nodes: Mapping[int, NodeKind]) -> None:
        self._nodes = nodes
        self._judged: dict[tuple[Judge, Any], list[Outcome]] = {}
        self._needs: dict[tuple[Need, Question], dict[int, Outcome]] = {}

    def of(self, need: Need, question: Question = "start") -> dict[int, Outcome]:
        """The outcome for every kind of node, by its number."""
        found = self._needs.get((need, question))
        if found is None:
            columns = [self._column(check, value_of(need)) for value_of, check in CHECKS[question]]
            found = dict(zip(self._nodes, map(worst, zip(*columns, strict=True)), strict=True))
            self._needs[need, question] = found
        return found

    def _column(self, check: Judge, value: object) -> list[Outcome]:
        found = self._judged.get((check, value))
        if found is None:
            found = [check(value, node) for node in self._nodes.values()]
            self._judged[check, value] = found
        return found
