"""Facts that an operator declares as texts: `arch=aarch64`, `kernel=4.18`, `cuda=cuda>=12.4`. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from site_db.cuda import parse_version
from site_db.errors import SiteDbError
from site_db.images.elf import LEVELS
from site_db.images.model import Fact, Requirements
from site_db.images.nvidia import WrongRequirement, parse_requirement


class WrongDeclaration(SiteDbError):
    """A text that declares nothing that we know."""


def parse_declarations(texts: Iterable[str]) -> Requirements:
    """The facts that are declared. Raises WrongDeclaration."""
    facts: dict[str, Fact] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        reader = _READERS.get(name)
        if not separator or reader is None:
            raise WrongDeclaration(f"{text!r} declares no fact.", f"Write FACT=VALUE; facts: {', '.join(_READERS)}.")
        found = reader(value)
        if found is None:
            raise WrongDeclaration(f"{name} cannot be {value!r}.", _HINTS.get(name, "Give a value."))
        facts[name] = Fact(found, "declared", "the operator")
    return Requirements(facts)


def _word(value: str) -> str | None:
    return value if value and len(value) <= 64 and value.isprintable() and " " not in value else None


def _one_of(*values: str) -> Callable[[str], str | None]:
    return lambda value: value if value in values else None


def _version(value: str) -> list[int] | None:
    version = parse_version(value)
    return list(version) if version else None


def _libc(value: str) -> str | None:
    name, _, version = value.partition(" ")
    return value if name in ("glibc", "musl") and parse_version(version) else None


def _conditions(value: str) -> list[str] | None:
    """`none`, or what NVIDIA_REQUIRE_CUDA would say."""
    try:
        return [] if value == "none" else [value] if parse_requirement(value) else None
    except WrongRequirement:
        return None


_READERS: Mapping[str, Callable[[str], Any]] = {
    "kind": _one_of("sandbox", "sif", "oci"),
    "arch": _one_of("x86_64", "aarch64", "i686", "ppc64le", "s390x", "riscv64"),
    "microarch": _one_of(*LEVELS),
    "kernel": _version,
    "libc": _libc,
    "os_id": _word,
    "os_version": _word,
    "cuda": _conditions,
}
_HINTS = {
    "kind": "One of sandbox, sif, oci.",
    "arch": "As uname -m says it: x86_64, aarch64, i686, ppc64le, s390x, riscv64.",
    "microarch": f"One of {', '.join(LEVELS)}.",
    "kernel": "A version such as 4.18.",
    "libc": "glibc VERSION or musl VERSION.",
    "cuda": "none, or conditions as NVIDIA writes them: cuda>=12.4.",
}
