"""What a CUDA image asks of GPU and driver, as NVIDIA's container toolkit reads it out of its environment. Pure.

Studied in NVIDIA/nvidia-container-toolkit: internal/config/image/cuda_image.go (which variables count, legacy images) and
internal/requirements/constraints (their grammar): variables are all to be met; in one, blanks separate alternatives and
commas what has to hold together; a condition on a property that the toolkit does not know is left out.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from site_db.cuda import Version, compare, parse_version
from site_db.images.operators import holds

PROPERTIES = ("cuda", "driver", "arch", "brand")
_CONDITION = re.compile(r"([^<>=!]*)(!=|<=|>=|=|<|>)(.*)")
# Go's strconv.ParseBool.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_PREFIX, _LEFT_OUT = "NVIDIA_REQUIRE_", "NVIDIA_REQUIRE_JETPACK"
_ALTERNATIVES_LIMIT = 256

Truth = Literal["yes", "no", "unknown"]


class Gpu(NamedTuple):
    """What a node has, where it is known: CUDA of the driver, the driver, compute capability, brand."""

    cuda: Version | None
    driver: Version | None
    arch: Version | None
    brand: str | None = None


class WrongRequirement(ValueError):
    """A condition that the toolkit would refuse: `str(error)` says which."""


class Condition(NamedTuple):
    """One comparison, `cuda>=12.4`."""

    property: str
    operator: str
    value: str


Requirement = tuple[tuple[Condition, ...], ...]  # alternatives of what has to hold together


def requirement_texts(environment: Mapping[str, str]) -> list[str]:
    """The requirements of an image, all to be met. Raises WrongRequirement for a legacy image without a version."""
    if environment.get("NVIDIA_DISABLE_REQUIRE", "") in _TRUE:
        return []
    texts = [
        value
        for name, value in sorted(environment.items())
        if name.startswith(_PREFIX) and not name.startswith(_LEFT_OUT) and value.strip()
    ]
    legacy = environment.get("CUDA_VERSION", "")
    if legacy and not environment.get("NVIDIA_REQUIRE_CUDA"):
        texts.append(f"cuda>={major_minor(legacy)}")
    return texts


def major_minor(text: str) -> str:
    """`12.4.1` as `12.4`, `v11` as `11.0`, as the toolkit reads CUDA_VERSION. Raises WrongRequirement."""
    match = re.fullmatch(r"v?([0-9]{1,5})(?:\.([0-9]{1,5}))?(?:\.[0-9]{1,5})?(?:[-+][0-9A-Za-z.+-]*)?", text)
    if not match:
        raise WrongRequirement(f"CUDA_VERSION {text[:40]!r} is no version")
    return f"{int(match[1])}.{int(match[2] or 0)}"


@functools.lru_cache(maxsize=1024)
def parse_requirement(text: str) -> Requirement:
    """One requirement. An empty one has no alternative and is met. Raises WrongRequirement."""
    terms = text.split(" ")
    if len(terms) > _ALTERNATIVES_LIMIT:
        raise WrongRequirement("too many alternatives")
    alternatives = [tuple(_conditions(term)) for term in terms]
    return tuple(term for term in alternatives if term)


def _conditions(term: str) -> list[Condition]:
    found = []
    for factor in term.split(","):
        if not factor.strip():
            continue
        match = _CONDITION.fullmatch(factor)
        if not match:
            raise WrongRequirement(f"{factor[:40]!r} is no condition")
        condition = Condition(*match.groups())
        if condition.property not in PROPERTIES:
            continue
        if condition.property != "brand" and parse_version(condition.value) is None:
            raise WrongRequirement(f"{factor[:40]!r}: no version")
        found.append(condition)
    return found


def met(requirement: Requirement, gpu: Gpu) -> Truth:
    """Whether a GPU meets one requirement; unknown where that hangs on what is not known of it."""
    if not requirement:
        return "yes"
    answers = [_all(_holds(condition, gpu) for condition in term) for term in requirement]
    return "yes" if "yes" in answers else "unknown" if "unknown" in answers else "no"


def _all(answers: Iterable[Truth]) -> Truth:
    found = set(answers)
    return "no" if "no" in found else "unknown" if "unknown" in found else "yes"


def _holds(condition: Condition, gpu: Gpu) -> Truth:
    found = getattr(gpu, condition.property)
    if found is None:
        return "unknown"
    if condition.property == "brand":
        order = (found > condition.value) - (found < condition.value)
    else:
        order = compare(found, parse_version(condition.value) or ())
    return "yes" if holds(order, condition.operator) else "no"


def needed_cuda(texts: Iterable[str]) -> Version | None:
    """The CUDA release that the requirements are about: the highest that one asks for with `cuda>=`."""
    versions = [
        parse_version(condition.value)
        for text in texts
        for term in parse_requirement(text)
        for condition in term
        if condition.property == "cuda" and condition.operator in (">=", ">", "=")
    ]
    return max((version for version in versions if version), default=None)
