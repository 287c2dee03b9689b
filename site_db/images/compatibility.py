"""NFD's image compatibility specification (v1alpha1, YAML or JSON) as facts. Pure.

Studied in kubernetes-sigs/node-feature-discovery (api/image-compatibility/v1alpha1, docs/usage/image-compatibility.md).
Its rules are about features of Kubernetes nodes; those that say what our facts say are taken: the CPU's level
(cpu.cpuid X86_64_V1 to V4, which NFD gives cumulatively) and the major version of the kernel. Everything else is noted as not
understood, and decides nothing. Of several sets of rules one has to be met, so a fact is taken only if all of them ask for it,
and then the weakest.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import ruamel.yaml
from ruamel.yaml.error import YAMLError

from site_db.errors import SiteDbError
from site_db.images.elf import LEVELS
from site_db.images.model import Fact, Requirements

VERSION = "v1alpha1"
SIZE_LIMIT = 1 << 20
_ITEMS_LIMIT = 1000
_LEVEL = re.compile(r"X86_64_V([1-4])")
_SOURCE = f"NFD image compatibility {VERSION}"

Found = dict[str, Any]


class BrokenSpecification(SiteDbError):
    """No image compatibility specification, or one of another version."""


class Term(NamedTuple):
    """One expression of a rule: `kernel.version: {major: {op: Gt, value: ["4"]}}`."""

    feature: str
    key: str
    operator: str
    values: tuple[str, ...]


def parse_specification(text: str, place: str) -> Requirements:
    """The facts that a specification declares. Raises BrokenSpecification."""
    remedy = f"Give a specification of version {VERSION}."
    if len(text) > SIZE_LIMIT:
        raise BrokenSpecification(f"{place} is larger than {SIZE_LIMIT >> 20} MiB.", remedy)
    try:
        document = ruamel.yaml.YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise BrokenSpecification(f"{place} is no YAML: {' '.join(str(error).split())[:200]}", remedy) from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise BrokenSpecification(f"{place}: its version is not {VERSION}.", remedy)
    sets = document.get("compatibilities")
    if not isinstance(sets, list) or not sets or len(sets) > _ITEMS_LIMIT:
        raise BrokenSpecification(f"{place}: compatibilities is missing, or no list.", remedy)
    notes: list[str] = []
    each = [_facts_of(item, notes) for item in sets]
    facts: dict[str, Fact] = {}
    for name in ("microarch", "kernel"):
        values = [found.get(name) for found in each]
        if None not in values:
            facts[name] = Fact(min(values), "declared", _SOURCE)  # type: ignore[type-var]  # none of them is None
    return Requirements(facts, tuple(dict.fromkeys(notes)))


def _facts_of(item: object, notes: list[str]) -> Found:
    """What one set asks for: the strongest of its rules, which are all to be met."""
    found: Found = {}
    for term in _terms(item, notes):
        name, value = _fact(term)
        if name is None:
            notes.append(f"not understood, and left out: {term.feature} {term.key} {term.operator}"[:200])
        elif name not in found or value > found[name]:
            found[name] = value
    return found


def _terms(item: object, notes: list[str]) -> Iterator[Term]:
    rules = item.get("rules") if isinstance(item, dict) else None
    for rule in rules[:_ITEMS_LIMIT] if isinstance(rules, list) else ():
        if not isinstance(rule, dict):
            continue
        if rule.get("matchAny"):
            notes.append("not understood, and left out: matchAny")
        for matcher in rule.get("matchFeatures") or ():
            if isinstance(matcher, dict) and isinstance(matcher.get("matchExpressions"), Mapping):
                yield from _expressions(str(matcher.get("feature")), matcher["matchExpressions"])


def _expressions(feature: str, expressions: Mapping[Any, Any]) -> Iterator[Term]:
    for key, wanted in expressions.items():
        wanted = wanted if isinstance(wanted, dict) else {}
        values = wanted.get("value")
        values = values if isinstance(values, list) else [] if values is None else [values]
        yield Term(feature, str(key), str(wanted.get("op")), tuple(map(str, values)))


def _fact(term: Term) -> tuple[str | None, Any]:
    if level := _LEVEL.fullmatch(term.key):
        if term.feature == "cpu.cpuid" and term.operator in ("Exists", "IsTrue"):
            return "microarch", LEVELS[int(level[1]) - 1]
    elif term.feature == "kernel.version" and len(term.values) == 1 and term.values[0].isdecimal():
        return _kernel(term, int(term.values[0]))
    return None, None


def _kernel(term: Term, value: int) -> tuple[str | None, Any]:
    if term.key == "major" and term.operator in ("Gt", "Ge"):
        return "kernel", [value + (term.operator == "Gt"), 0, 0]
    return None, None
