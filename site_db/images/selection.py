"""Conditions on what is known of images: `glibc>=2.28`, `os=rocky`, `cuda>=12`, `name=*pytorch*`. Pure.

A condition on a fact that is not known does not hold.
"""

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from site_db.cuda import Version, compare, parse_version
from site_db.errors import SiteDbError
from site_db.images.elf import LEVELS
from site_db.images.model import Requirements
from site_db.images.nvidia import WrongRequirement, needed_cuda
from site_db.images.operators import holds

_CONDITION = re.compile(r"\s*([a-z_]+(?:\.[^<>=!,\s]+)?)\s*(>=|<=|!=|=|<|>)\s*([^,]*?)\s*")
_CONDITIONS_LIMIT = 32


class WrongCondition(SiteDbError):
    """A text that is no condition on images."""


class Condition(NamedTuple):
    """One comparison. `field` one of FIELDS, or `label.NAME`."""

    field: str
    operator: str
    value: str

    def holds(self, reference: str, names: Sequence[str], requirements: Requirements) -> bool:
        """Whether it holds for an image."""
        if self.field == "name":
            found = any(fnmatch.fnmatchcase(name, self.value) for name in (reference, *names))
            return found == (self.operator == "=")
        if self.field.startswith("label."):
            labels = requirements.value("labels") or {}
            return _compare_texts(labels.get(self.field.removeprefix("label.")), self.operator, self.value)
        found_value = FIELDS[self.field](requirements)
        if isinstance(found_value, tuple):
            return _compare_versions(found_value, self.operator, self.value)
        return _compare_texts(found_value, self.operator, self.value)


def _glibc(requirements: Requirements) -> Version | None:
    libc = requirements.value("libc") or ""
    return parse_version(libc.removeprefix("glibc ")) if libc.startswith("glibc ") else None


def _level(requirements: Requirements) -> Version | None:
    level = requirements.value("microarch")
    return (LEVELS.index(level) + 1,) if level in LEVELS else None


def _cuda(requirements: Requirements) -> Version | None:
    inside = parse_version(requirements.value("cuda_version"))
    try:
        return inside or needed_cuda(requirements.value("cuda") or ())
    except WrongRequirement:
        return None


def _kernel(requirements: Requirements) -> Version | None:
    kernel = requirements.value("kernel")
    return tuple(kernel) if kernel else None


FIELDS: dict[str, Callable[[Requirements], Version | str | None]] = {
    "arch": lambda found: found.value("arch"),
    "kind": lambda found: found.value("kind"),
    "os": lambda found: found.value("os_id"),
    "os_version": lambda found: parse_version(found.value("os_version")),
    "libc": lambda found: (found.value("libc") or "").partition(" ")[0] or None,
    "glibc": _glibc,
    "level": _level,
    "kernel": _kernel,
    "cuda": _cuda,
}


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Conditions that are all to hold, separated by commas. Raises WrongCondition."""
    parts = text.split(",")
    if len(parts) > _CONDITIONS_LIMIT:
        raise WrongCondition("Too many conditions.", f"Give at most {_CONDITIONS_LIMIT}.")
    return tuple(_condition(part) for part in parts)


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text)
    known = ", ".join(["name", *FIELDS, "label.NAME"])
    if not match:
        raise WrongCondition(f"{text.strip()!r} is no condition.", f"Write FIELD>=VALUE or the like; fields: {known}.")
    condition = Condition(*match.groups())
    if condition.field != "name" and not condition.field.startswith("label.") and condition.field not in FIELDS:
        raise WrongCondition(f"There is no field {condition.field!r}.", f"Fields: {known}.")
    if condition.field == "name" and condition.operator not in ("=", "!="):
        raise WrongCondition("A name can only be = or != a pattern.", "Write name=*pytorch*.")
    return condition


def _compare_versions(found: Version, operator: str, value: str) -> bool:
    wanted = parse_version(value.lower().removeprefix("x86_64-").removeprefix("v"))
    return wanted is not None and holds(compare(found, wanted), operator)


def _compare_texts(found: str | None, operator: str, value: str) -> bool:
    return found is not None and holds((found > value) - (found < value), operator)
