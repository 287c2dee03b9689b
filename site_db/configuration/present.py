"""Proposals against the configuration that an entry has: what is there is not proposed, options are added to.

Policy has the last word: what an operator keeps, pins or disables is not proposed while that decision holds.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from site_db.configuration.catalogue import read_catalogue, read_policy
from site_db.configuration.drift_rules import DriftRules, default_drift_rules
from site_db.configuration.model import PolicyRow
from site_db.configuration.policy import Policy, told
from site_db.configuration.resource_slots import with_gpus
from site_db.proposals import Proposal, Proposals, propose
from site_db.rules import Rules
from site_db.store import Store


def propose_against_configuration(store: Store, entry: str, now: datetime, rules: Rules | None = None) -> Proposals:
    """The proposals for one entry (NAME or NAME@FACTORY), as changes of the configuration that was imported for it.

    Where none was imported, all proposals. Raises UnknownName, AmbiguousName.
    """
    proposals = propose(store, entry, now, rules)
    with store.reading() as connection:
        configured = read_catalogue(connection, name=proposals.entry)
        policy = read_policy(connection, now.date())
    of_factory = [item for item in configured if item.factory == proposals.factory] or configured
    if not of_factory:
        note = "No configuration of this entry was imported: what it has already is not known."
        return under_policy(replace(proposals, notes=(*proposals.notes, note)), policy)
    changes = against(proposals, of_factory[-1].entry.values())
    return under_policy(changes, policy, of_factory[-1].entry.site)


def against(proposals: Proposals, present: Mapping[str, str], drift_rules: DriftRules | None = None) -> Proposals:
    """The proposals that change something where these values are present."""
    drift_rules = drift_rules or default_drift_rules()
    kept, notes = [], list(proposals.notes)
    for item in proposals.proposals:
        value = present.get(item.attribute)
        wanted = _wanted(item, value, drift_rules) if value else item.value
        if value in drift_rules.satisfied.get((item.attribute, item.value), ()):
            notes.append(f"{item.attribute}={value} stays: {item.value} would be enough.")
        elif wanted != value:
            kept.append(replace(item, value=wanted, present=value))
        elif wanted != item.value:
            notes.append(f"{item.attribute}={value} stays: it covers {item.value}.")
    return replace(proposals, proposals=tuple(kept), notes=tuple(notes))


def _wanted(item: Proposal, present: str, drift_rules: DriftRules) -> str:
    """What becomes of a present value: a proposal takes none of its other options or resources away."""
    if item.attribute in drift_rules.extended:
        return _extended(item, present)
    return with_gpus(present, item.value) if item.attribute in drift_rules.resources else item.value


def _extended(item: Proposal, present: str) -> str:
    """The present options with those of the proposal that they lack."""
    there = present.split()
    return " ".join([present, *(option for option in item.value.split() if option not in there)])


def under_policy(proposals: Proposals, policy: Policy, site: str | None = None) -> Proposals:
    """The proposals that no decision forbids; a note for each that one does, and for each decision that has expired."""
    of_all = policy.pins(proposals.entry) or policy.disables(site or proposals.site)
    kept, notes = [], list(proposals.notes)
    for item in proposals.proposals:
        row = of_all or policy.keeps(item.attribute, proposals.entry)
        if row is None:
            kept.append(item)
        else:
            notes.append(f"{item.attribute}={item.value} is left out by policy: {told(row)}")
    expired = [row for row in policy.expired if _is_about(row, proposals, site)]
    notes += [f"policy expired, and acts no more: {told(row)}" for row in expired]
    return replace(proposals, proposals=tuple(kept), notes=tuple(notes))


def _is_about(row: PolicyRow, proposals: Proposals, site: str | None) -> bool:
    if row.action == "keep_attribute":
        return row.entry in (None, proposals.entry)
    return row.target in (proposals.entry, proposals.site, site)
