"""Proposals against the configuration that an entry has: what is there is not proposed, options are added to.

Policy has the last word: what an operator keeps, pins or disables is not proposed while that decision holds. What would be
right only with a change that is left out is not proposed either: all is derived anew without that change.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from site_db.configuration.catalogue import read_catalogue, read_policy
from site_db.configuration.drift_rules import DriftRules, default_drift_rules
from site_db.configuration.model import PolicyRow, Setting
from site_db.configuration.policy import Policy, told
from site_db.configuration.resource_slots import with_gpus
from site_db.proposals import CONFIDENCES, Derived, Proposal, Proposals, derive_proposals
from site_db.rules import Rules, default_rules
from site_db.store import Store
from site_db.verdicts import NodeGroup
from site_db.views import entry_groups


@dataclass(frozen=True)
class Limits:
    """What may be proposed for an entry: `present` are the attributes that it has, `sites` the names that policy may know
    its site by."""

    entry: str
    sites: Collection[str]
    present: Mapping[str, Setting]
    policy: Policy
    min_confidence: str = "low"

    def objection(self, item: Proposal) -> str | None:
        """Why this is left out; None where it is not."""
        if CONFIDENCES.index(item.confidence) < CONFIDENCES.index(self.min_confidence):
            why = f": its confidence is {item.confidence}, below {self.min_confidence}."
        elif row := self._forbidden_by(item.attribute):
            why = f" by policy: {told(row)}"
        elif (there := self.present.get(item.attribute)) and there.type != item.type:
            why = f": what is there is of type {there.type}, not {item.type}; edit it by hand."
        else:
            return None
        return f"{item.attribute}={item.value} is left out{why}"

    def _forbidden_by(self, attribute: str) -> PolicyRow | None:
        rows = (self.policy.pins(self.entry), *map(self.policy.disables, self.sites))
        return next((row for row in rows if row), None) or self.policy.keeps(attribute, self.entry)

    def expired(self) -> list[str]:
        """Decisions about this entry that act no more."""
        about = {self.entry, *self.sites}
        return [
            f"policy expired, and acts no more: {told(row)}"
            for row in self.policy.expired
            if (row.entry in (None, self.entry) if row.action == "keep_attribute" else row.target in about)
        ]


def propose_against_configuration(
    store: Store, entry: str, now: datetime, rules: Rules | None = None, min_confidence: str = "low"
) -> Proposals:
    """The proposals for one entry (NAME or NAME@FACTORY), as changes of the configuration that was imported for it.

    Where none was imported, all proposals. Raises UnknownName, AmbiguousName.
    """
    rules = rules or default_rules()
    found, groups = entry_groups(store, entry, now, rules)
    with store.reading() as connection:
        configured = read_catalogue(connection, name=found.name)
        policy = read_policy(connection, now.date())
    by_factory = {item.factory: item for item in configured}
    of_factory = by_factory.get(found.factory) or by_factory.get("")
    notes = [] if of_factory else ["No configuration of this entry was imported: what it has already is not known."]
    present = of_factory.entry if of_factory else None
    sites = dict.fromkeys((found.site, *([present.site] if present and present.site else [])))
    limits = Limits(found.name, sites, present.attrs if present else {}, policy, min_confidence)
    fit = derive_within(groups, limits, rules)
    in_order = tuple(sorted(fit.proposals, key=lambda item: item.attribute))
    notes = [*fit.notes, *notes, *limits.expired()]
    return Proposals(found.name, found.factory, found.site, now, in_order, tuple(notes))


def derive_within(groups: Sequence[NodeGroup], limits: Limits, rules: Rules) -> Derived:
    """The proposals that change something and to which nothing objects; notes say what was left out, and why. Pure."""
    without: dict[str, str] = {}
    values = {name: setting.value for name, setting in limits.present.items()}
    while True:
        changes = against(derive_proposals(groups, rules, without), values)
        objections = {item.attribute: text for item in changes.proposals if (text := limits.objection(item))}
        if not objections:
            return Derived(changes.proposals, [*changes.notes, *without.values()])
        # What rests on a change that falls is not judged yet: without that change it may be another.
        needs = {item.attribute: objections.keys() & set(item.needs) for item in changes.proposals}
        without |= {name: text for name, text in objections.items() if not needs[name]}


def against(derived: Derived, present: Mapping[str, str], drift_rules: DriftRules | None = None) -> Derived:
    """The proposals that change something where these values are present."""
    drift_rules = drift_rules or default_drift_rules()
    kept, notes = [], list(derived.notes)
    for item in derived.proposals:
        value = present.get(item.attribute)
        wanted = _wanted(item, value, drift_rules) if value else item.value
        if value in drift_rules.satisfied.get((item.attribute, item.value), ()):
            notes.append(f"{item.attribute}={value} stays: {item.value} would be enough.")
        elif wanted != value:
            kept.append(replace(item, value=wanted, present=value))
        elif wanted != item.value:
            notes.append(f"{item.attribute}={value} stays: it covers {item.value}.")
    return Derived(kept, notes)


def _wanted(item: Proposal, present: str, drift_rules: DriftRules) -> str:
    """What becomes of a present value: a proposal takes none of its other options or resources away."""
    if item.attribute in drift_rules.extended:
        return _extended(item, present)
    return with_gpus(present, item.value) if item.attribute in drift_rules.resources else item.value


def _extended(item: Proposal, present: str) -> str:
    """The present options with those of the proposal that they lack."""
    there = present.split()
    return " ".join([present, *(option for option in item.value.split() if option not in there)])
