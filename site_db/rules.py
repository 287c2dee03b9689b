"""The rules: what counts as yes, how sure that is, what is proposed from it. Data in data/rules.toml, shapes here."""

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

ANY = "*"


@dataclass(frozen=True)
class Capability:
    """One row of `capabilities`. `name` is what people say; `found` and `reason` are steps into a profile."""

    name: str
    title: str
    found: tuple[str, ...]
    reason: tuple[str, ...]
    yes: frozenset[bool | str]
    no: frozenset[bool | str]
    no_reasons: frozenset[str]

    def members(self, profile: Mapping[str, Any]) -> Iterator["Capability"]:
        """The capabilities of this row that `profile` has: itself, or for a family one for each name in the profile."""
        if ANY not in self.found:
            yield self
            return
        place = find(profile, self.found[: self.found.index(ANY)])
        for name in place if isinstance(place, Mapping) else ():
            yield self.named(name)

    def named(self, name: str) -> "Capability":
        """The member of a family (`cvmfs:*`) for `name`."""
        return Capability(
            self.name.replace(ANY, name),
            self.title.replace(ANY, name),
            tuple(name if step == ANY else step for step in self.found),
            tuple(name if step == ANY else step for step in self.reason),
            self.yes,
            self.no,
            self.no_reasons,
        )


@dataclass(frozen=True)
class ConfidenceLevel:
    """One row of `confidence`: the least nodes and share of them measured, and the widest interval, for this level."""

    level: str
    nodes: int
    measured_share: float
    interval: float


@dataclass(frozen=True)
class Trait:
    """One row of `traits`: something that tells kinds of nodes apart."""

    name: str
    title: str
    found: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Attribute:
    """One row of `attributes`: what may be proposed, and how the factory's files write it."""

    name: str
    type: str
    pattern: re.Pattern[str]
    const: bool = True
    glidein_publish: bool = True
    job_publish: bool = False
    parameter: bool = True
    publish: bool = True


@dataclass(frozen=True)
class ChangeRules:
    """The section `changes`: what makes a change of an entry; the meaning of each is told in rules.toml."""

    noise: float
    shares: tuple[float, ...]
    suspect: float
    confirm: float
    node_most: float
    nodes: int
    known_reports: int
    close_reports: int
    settle_days: int
    expected_nodes: int
    expected_share: float
    gone: frozenset[str]
    sentences: Mapping[str, str]


@dataclass(frozen=True)
class Rules:
    """All rules. `options`, `alternatives`, `require` and `gpu_slots` are the sections of rules.toml as they are."""

    version: int
    window_days: int
    yes_from: float
    no_up_to: float
    confidence: tuple[ConfidenceLevel, ...]
    sentences: Mapping[str, str]
    capabilities: tuple[Capability, ...]
    overview: tuple[str, ...]
    image_answers: Mapping[str, Literal["yes", "no"]]
    traits: tuple[Trait, ...]
    changes: ChangeRules
    attributes: Mapping[str, Attribute]
    options: Mapping[str, Any]
    alternatives: Mapping[str, Any]
    require: Mapping[str, Any]
    gpu_slots: Mapping[str, Any]

    def capability(self, name: str) -> Capability | None:
        """The capability called `name`, also a member of a family (`cvmfs:atlas.cern.ch`); None if there is none."""
        for row in self.capabilities:
            if row.name == name:
                return None if ANY in row.found else row
            family = row.name.removesuffix(ANY)
            if row.name.endswith(ANY) and name.startswith(family) and name != family:
                return row.named(name.removeprefix(family))
        return None


def find(profile: Any, steps: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """The value at `steps` of a profile (or report); None where a step is missing. A list is searched by `name`."""
    for step in steps:
        if isinstance(profile, dict):  # first, and not by Mapping: this runs for every verdict of every group of nodes
            profile = profile.get(step)
        elif isinstance(profile, list):
            profile = next((item for item in profile if isinstance(item, dict) and item.get("name") == step), None)
        else:
            return None
    return profile


def parse_rules(text: str) -> Rules:
    """The rules in a rules.toml. Raises KeyError, TypeError or re.error for a file that is not in order."""
    data = tomllib.loads(text)
    return Rules(
        version=data["rules_version"],
        window_days=data["window_days"],
        yes_from=data["answer"]["yes_from"],
        no_up_to=data["answer"]["no_up_to"],
        confidence=tuple(ConfidenceLevel(**row) for row in data["confidence"]),
        sentences=data["sentences"],
        capabilities=tuple(_capability(row) for row in data["capabilities"]),
        overview=tuple(data["overview"]["capabilities"]),
        image_answers=data["images"],
        traits=tuple(Trait(row["name"], row["title"], tuple(map(steps, row["found"]))) for row in data["traits"]),
        changes=ChangeRules(
            **{
                **data["changes"],
                "shares": tuple(data["changes"]["shares"]),
                "gone": frozenset(data["changes"]["gone"]),
            }
        ),
        attributes={
            row["name"]: Attribute(**{**row, "pattern": re.compile(row["pattern"])}) for row in data["attributes"]
        },
        **{section: data[section] for section in ("options", "alternatives", "require", "gpu_slots")},
    )


def steps(dotted: str) -> tuple[str, ...]:
    """`a.b.c` as steps."""
    return tuple(dotted.split("."))


@functools.cache
def default_rules() -> Rules:
    """The rules of this release."""
    return parse_rules((resources.files("site_db") / "data" / "rules.toml").read_text(encoding="utf-8"))


def _capability(row: Mapping[str, Any]) -> Capability:
    return Capability(
        name=row["name"],
        title=row["title"],
        found=steps(row["found"]),
        reason=steps(row["reason"]),
        yes=frozenset(row["yes"]),
        no=frozenset(row["no"]),
        no_reasons=frozenset(row.get("no_reasons", ())),
    )
