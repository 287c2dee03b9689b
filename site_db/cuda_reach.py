"""How new a CUDA runs on a node: by its driver, its GPUs' compute capability, and the three ways NVIDIA supports. Pure.

Of a release either the driver has everything (`full`), or only what the whole major release shares (`minor`, minor-version
compatibility: no PTX compiled at run time, no feature that needs a newer driver), or a library that comes with the image
replaces the driver's user part (`forward`, on data-centre GPUs only). Tables and their sources: data/cuda.toml.
"""

import functools
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any, NamedTuple

from site_db.cuda import Version, compare, compatible_driver, parse_version, releases, toolkit_driver

_BRANDS = ("NVIDIA ", "Tesla ")


class Reach(NamedTuple):
    """The newest releases (major, minor); None: none, or not known.

    `forward`: the newest that a bundled compatibility library brings, None where it brings nothing.
    """

    full: Version | None = None
    minor: Version | None = None
    forward: Version | None = None


def reach(
    driver: Version, own: Version | None = None, capability: Version | None = None, data_center: bool | None = None
) -> Reach:
    """What runs on this driver. `own`: the CUDA that it says it has, which the table may not know yet.

    `capability`: that of the weakest GPU; None: not known, and no limit.
    """
    suited = [release for release in {*releases(), *([own[:2]] if own else [])} if suits(release, capability)]
    full = [release for release in suited if _at_least(driver, toolkit_driver(release)) or (own and release == own[:2])]
    minor = [release for release in suited if release in full or _at_least(driver, compatible_driver(release))]
    forward = [package for package in _packages(driver) if suits(package, capability)] if data_center else []
    return Reach(max(full, default=None), max(minor, default=None), max(forward, default=None))


def is_data_center(model: str | None) -> bool | None:
    """Whether a GPU is one of NVIDIA's data-centre models; None where that is not known."""
    if model is None:
        return None
    name = model
    for brand in _BRANDS:
        name = name.removeprefix(brand)
    lists = _data()["data_center"]
    for answer, words in ((True, lists["models"]), (False, lists["others"])):
        if any(name == word or name.startswith((word + " ", word + "-")) for word in words):
            return answer
    return None


def all_data_center(models: Iterable[str | None]) -> bool | None:
    """Whether all of a node's GPUs are data-centre models: no if one is known to be none; None where it is not known."""
    answers = {is_data_center(model) for model in models}
    return False if False in answers else None if None in answers or not answers else True


def dotted(version: Version | None) -> str | None:
    """A version as text."""
    return None if version is None else ".".join(map(str, version))


def _at_least(driver: Version, least: Version | None) -> bool:
    return least is not None and compare(driver, least) >= 0


def suits(release: Version, capability: Version | None) -> bool:
    """Whether a release still knows GPUs of this compute capability."""
    rows = _data()["least_compute_capability"]["from"].items()
    known = {_version(since): _version(least) for since, least in rows if compare(release, _version(since)) >= 0}
    return capability is None or not known or compare(capability, known[max(known)]) >= 0


def _packages(driver: Version) -> list[Version]:
    """The compatibility packages that go with the driver's branch."""
    table = _data()["forward_compatibility"]
    own = parse_version(table["branches"].get(str(driver[0])))
    return [package for package in map(_version, table["packages"]) if own and compare(package, own) > 0]


def _version(text: str) -> Version:
    version = parse_version(text)
    if version is None:
        raise ValueError(f"data/cuda.toml: {text!r} is no version")
    return version


@functools.cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(resources.files("site_db").joinpath("data/cuda.toml").read_text(encoding="utf-8"))
