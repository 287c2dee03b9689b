"""The rules of drift: data in data/drift.toml, whose head explains them; shapes here."""

import functools
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from site_db.configuration.model import Entry

SEVERITIES = ("note", "warning", "error")
_LOOKS = ("capability", "found", "alternative", "os", "runtime_by")
_GRIDTYPE = "gridtype"  # of an entry: no attribute, and the rules may ask for it as for one


@dataclass(frozen=True)
class Condition:
    """One text of a node to look at (`look` says how, `what` says which), and the patterns that decide."""

    look: str
    what: str
    yes: str
    no: str


@dataclass(frozen=True)
class Rule:
    """One row of drift.toml."""

    name: str
    severity: str
    attribute: str
    configured: re.Pattern[str]
    absent: bool
    submit: bool
    where: Mapping[str, re.Pattern[str]]
    conditions: tuple[Condition, ...]
    share: float
    by_resource: bool
    sentence: str
    remedy: str

    def value_of(self, entry: Entry) -> str | None:
        """What the entry says for the rule's attribute; None where it says nothing."""
        setting = (entry.submit_attrs if self.submit else entry.attrs).get(self.attribute)
        return setting.value if setting else None

    def applies(self, entry: Entry) -> dict[str, str] | None:
        """The words that the configured value gives; None where the rule does not apply to the entry."""
        if not all(pattern.fullmatch(_said(entry, name)) for name, pattern in self.where.items()):
            return None
        value = self.value_of(entry)
        if value is None:
            return {} if self.absent else None
        fits = self.configured.fullmatch(value)
        return fits.groupdict() if fits else None


@dataclass(frozen=True)
class DriftRules:
    """drift.toml: `satisfied` maps attribute and proposed value to the present values that do as well; `extended` and
    `resources` are attributes to whose options or resources a proposal adds."""

    rules: tuple[Rule, ...]
    systems: Mapping[str, str]
    satisfied: Mapping[tuple[str, str], frozenset[str]]
    extended: frozenset[str]
    resources: frozenset[str]

    @property
    def attributes(self) -> frozenset[str]:
        """All attributes that the rules look at."""
        return frozenset(name for rule in self.rules for name in (rule.attribute, *rule.where))


def parse_drift_rules(text: str) -> DriftRules:
    """The rules in a drift.toml. Raises KeyError, TypeError, ValueError or re.error for a file that is not in order."""
    data = tomllib.loads(text)
    return DriftRules(
        rules=tuple(map(_rule, data["rules"])),
        systems={os_id: name for name, os_ids in data["systems"].items() for os_id in os_ids},
        satisfied={(row["attribute"], row["proposed"]): frozenset(row["present"]) for row in data["satisfied"]},
        extended=frozenset(data["extended"]["attributes"]),
        resources=frozenset(data["extended"]["resources"]),
    )


@functools.cache
def default_drift_rules() -> DriftRules:
    """The rules of this release."""
    return parse_drift_rules((resources.files("site_db") / "data" / "drift.toml").read_text(encoding="utf-8"))


def _rule(row: Mapping[str, Any]) -> Rule:
    if row["severity"] not in SEVERITIES:
        raise ValueError(f"{row['name']}: severity is to be one of {', '.join(SEVERITIES)}")
    return Rule(
        name=row["name"],
        severity=row["severity"],
        attribute=row["attribute"],
        configured=re.compile(row["configured"]),
        absent=row.get("absent", False),
        submit=row.get("submit", False),
        where={name: re.compile(pattern) for name, pattern in row.get("where", {}).items()},
        conditions=tuple(map(_condition, row["conditions"])),
        share=row.get("share", 0.0),
        by_resource=row.get("by_resource", False),
        sentence=row["sentence"],
        remedy=row["remedy"],
    )


def _condition(row: Mapping[str, Any]) -> Condition:
    [look] = [name for name in _LOOKS if name in row]
    return Condition(look, str(row[look]), row["yes"], row["no"])


def _said(entry: Entry, name: str) -> str:
    return (entry.gridtype if name == _GRIDTYPE else entry.value(name)) or ""
