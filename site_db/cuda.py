"""NVIDIA's version tables: which driver a CUDA release needs (data/cuda.toml). Pure but for reading that file."""

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources

Version = tuple[int, ...]


def parse_version(text: str | None) -> Version | None:
    """`550.54.15` as numbers; None where it is none."""
    parts = (text or "").split(".")
    return (
        tuple(map(int, parts))
        if all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts)
        else None
    )


def compare(one: Version, other: Version) -> int:
    """-1, 0 or 1; what one of the two lacks at its end is 0: 12 is 12.0."""
    length = max(len(one), len(other))
    left, right = (value + (0,) * (length - len(value)) for value in (one, other))
    return (left > right) - (left < right)


@functools.cache
def _tables() -> tuple[Mapping[Version, Version], Mapping[int, Version]]:
    data = tomllib.loads(resources.files("site_db").joinpath("data/cuda.toml").read_text(encoding="utf-8"))
    toolkits = {_known(name): _known(value) for name, value in data["toolkit_drivers"]["minimum"].items()}
    majors = {int(name): _known(value) for name, value in data["minor_version_compatibility"]["minimum"].items()}
    return toolkits, majors


def _known(text: str) -> Version:
    version = parse_version(text)
    if version is None:
        raise ValueError(f"data/cuda.toml: {text!r} is no version")
    return version


def toolkit_driver(cuda: Version) -> Version | None:
    """The driver that a CUDA release (major, minor) comes with; None for one that the table does not know."""
    return _tables()[0].get(tuple(cuda[:2]))


def compatible_driver(cuda: Version) -> Version | None:
    """The oldest driver on which a release runs by minor-version compatibility; None where there is no such thing."""
    return _tables()[1].get(cuda[0])


def cuda_of_driver(driver: Version) -> Version | None:
    """The newest CUDA release that a driver has all of; None for a driver older than the table."""
    known = [cuda for cuda, least in _tables()[0].items() if compare(driver, least) >= 0]
    return max(known, default=None)


def releases() -> tuple[Version, ...]:
    """The CUDA releases that the table knows, the oldest first."""
    return tuple(sorted(_tables()[0]))
