"""Proposals: the attributes that an entry should have, from what was measured on its nodes.

A proposal rests on a run, not on a guess: what a report tried and saw work. Values that come out of reports are hostile
text: they become configuration only where the whole value fits the attribute's pattern in the rules, else a note.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from site_db.rules import Rules, default_rules, find, steps
from site_db.site_reports import SiteReportPart
from site_db.store import Store
from site_db.verdicts import NodeGroup, Verdict, answer_of, confidence_of, judge
from site_db.views import entry_groups
from site_db.wording import Count

CONFIDENCES = ("low", "medium", "high")
_EVIDENCE_SHOWN = 5
_VALUE_SHOWN = 80

Change = Mapping[str, str | None]


@dataclass(frozen=True)
class Proposal:
    """One attribute. `nodes`: how many it rests on; `report_ids`: examples of their reports.

    `present`: the value that the entry has now; None where it has none, or no configuration was imported.
    `needs`: the attributes without which it would be wrong.
    """

    attribute: str
    value: str
    type: str
    reason: str
    confidence: str
    nodes: int
    report_ids: tuple[str, ...]
    present: str | None = None
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proposals(SiteReportPart):
    """The proposals for one entry, sorted by attribute, and in `notes` what was not proposed and why."""

    entry: str
    factory: str
    site: str
    generated_at: datetime
    proposals: tuple[Proposal, ...]
    notes: tuple[str, ...]


class Derived(NamedTuple):
    """Proposals and notes from one consideration."""

    proposals: list[Proposal]
    notes: list[str]


def propose(store: Store, entry: str, now: datetime, rules: Rules | None = None) -> Proposals:
    """The proposals for one entry (NAME or NAME@FACTORY). Raises UnknownName, AmbiguousName."""
    rules = rules or default_rules()
    found, groups = entry_groups(store, entry, now, rules)
    derived = derive_proposals(groups, rules)
    in_order = sorted(derived.proposals, key=lambda proposal: proposal.attribute)
    return Proposals(found.name, found.factory, found.site, now, tuple(in_order), tuple(derived.notes))


def derive_proposals(groups: Sequence[NodeGroup], rules: Rules, without: Collection[str] = ()) -> Derived:
    """The proposals that follow from the nodes in `groups`. Pure. `without`: attributes that stay as they are; nothing is
    proposed that would be right only with a change of them."""
    changes = _shared_change(groups, rules, without)
    parts = [changes, _require(groups, changes.proposals, rules), _gpu_slots(groups, rules)]
    return Derived(
        [item for part in parts for item in part.proposals if item.attribute not in without],
        [note for part in parts for note in part.notes],
    )


def _shared_change(groups: Sequence[NodeGroup], rules: Rules, without: Collection[str]) -> Derived:
    """The change that ran on every node on which Singularity fails as configured."""
    texts = rules.alternatives
    failing, working = _split(groups, texts["capability"], rules)
    nodes = sum(group.nodes for group in failing)
    if not failing:
        return Derived([], [])
    candidates = [_attributes_of(change, rules) for change in _changes_that_ran(failing)]
    if not candidates:
        return Derived([], [texts["none_shared"].format(failing=Count(nodes))])
    allowed = [change for change in candidates if not set(change) & set(without)]
    refused = [_refusals(change, texts["order"], rules) for change in allowed]
    possible = [change for change, refusals in zip(allowed, refused, strict=True) if not refusals]
    if not possible:
        return Derived([], list(dict.fromkeys(refusal for refusals in refused for refusal in refusals)))
    change = min(possible, key=lambda change: _preference(change, texts["order"]))
    cause = judge_named(texts["capability"], failing, rules).reasons[0].code
    reason = texts["reason"].format(failing=Count(nodes), cause=cause)
    if working:
        reason += " " + texts["untried"].format(working=Count(sum(group.nodes for group in working)))
    confidence = confidence_of(nodes, nodes, sum(group.nodes for group in groups), rules)
    proposals = [_proposal(name, value, reason, confidence, failing, rules) for name, value in sorted(change.items())]
    return Derived(proposals, [])


def _require(groups: Sequence[NodeGroup], changes: Sequence[Proposal], rules: Rules) -> Derived:
    """How strongly the entry should ask for Singularity: as it is now, or with the change that was found to help."""
    texts = rules.require
    verdict = judge_named(texts["capability"], groups, rules)
    if verdict.answer == "unknown":
        return Derived([], [])
    confidence = verdict.confidence
    row = texts[verdict.answer]
    if changes:
        row = texts["repaired"]
        repaired = confidence_of(verdict.nodes_measured, verdict.nodes_measured, verdict.nodes, rules)
        confidence = min(repaired, *(change.confidence for change in changes), key=CONFIDENCES.index)
    words = _words(verdict) | {"change": " and ".join(f"{change.attribute}={change.value}" for change in changes)}
    reason = row["reason"].format(**words)
    proposal = _proposal(texts["attribute"], row["value"], reason, confidence, groups, rules)
    return Derived([replace(proposal, needs=tuple(change.attribute for change in changes))], [])


def _gpu_slots(groups: Sequence[NodeGroup], rules: Rules) -> Derived:
    """The GPUs that a glidein of this entry has: where every node that could tell has GPUs, equally many, and most work."""
    texts = rules.gpu_slots
    verdict = judge_named(texts["works"], groups, rules)
    if not verdict.nodes_yes:
        return Derived([], [])
    _, working = _split(groups, texts["works"], rules)
    inside = judge_named(texts["works_inside"], working, rules)
    without = sum(group.nodes for group in groups if find(group.profile, steps(texts["reason"])) in texts["none"])
    counts = Counter[Any]()
    for group in working:
        counts[find(group.profile, steps(texts["count"]))] += group.nodes
    words = _words(verdict) | {
        "count": Count(next(iter(counts)) or 0),
        "counts": ", ".join(f"{_count(count)} (on {Count(nodes):node})" for count, nodes in counts.most_common()),
        "without": without,
    }
    if without or (verdict.share or 0) < texts["least_share"]:
        return Derived([], [texts["not_everywhere"].format(**words)])
    if inside.share is not None and inside.share < texts["least_share"]:
        return Derived([], [texts["not_inside"].format(**words | {"no": inside.nodes_no, "cause": _cause(inside)})])
    if len(counts) > 1 or None in counts:
        return Derived([], [texts["counts_differ"].format(**words)])
    value = texts["value"].format(**words)
    if refusals := _refusals({texts["attribute"]: value}, [texts["attribute"]], rules):
        return Derived([], refusals)
    reason = texts["because"].format(**words)
    return Derived([_proposal(texts["attribute"], value, reason, verdict.confidence, working, rules)], [])


def _count(number: int | None) -> str:
    return "an unknown number" if number is None else str(number)


def judge_named(capability: str, groups: Sequence[NodeGroup], rules: Rules) -> Verdict:
    """The verdict on the capability of this name. Raises KeyError for one that the rules don't have."""
    row = rules.capability(capability)
    if row is None:
        raise KeyError(f"rules.toml: no capability {capability}")
    return judge(row, groups, rules)


def _split(groups: Sequence[NodeGroup], capability: str, rules: Rules) -> tuple[list[NodeGroup], list[NodeGroup]]:
    row = rules.capability(capability)
    answers = [(group, answer_of(group.profile, row)[0]) for group in groups] if row else []
    no, yes = ([group for group, answer in answers if answer == wanted] for wanted in ("no", "yes"))
    return no, yes


def _changes_that_ran(failing: Sequence[NodeGroup]) -> list[Change]:
    """The changes of configuration with which Singularity ran on every one of these nodes."""
    ran = [
        [item["change"] for item in group.profile["singularity"]["alternatives"] if item["status"] == "ok"]
        for group in failing
    ]
    return [change for change in ran[0] if all(change in others for others in ran[1:])]


def _attributes_of(change: Change, rules: Rules) -> dict[str, str | None]:
    """A change as attributes: its command-line options go together into the attribute that holds options."""
    attributes = {name: value for name, value in change.items() if not name.startswith("-")}
    options = [name if value is None else f"{name}={value}" for name, value in sorted(change.items()) if name.startswith("-")]
    return attributes | ({rules.options["attribute"]: " ".join(options)} if options else {})


def _refusals(change: Change, allowed: Sequence[str], rules: Rules) -> list[str]:
    """Why a change may not be proposed; empty where it may. `allowed`: the attributes that it may set."""
    refusals = []
    for name, value in change.items():
        shown = f"{name}={(value or '')[:_VALUE_SHOWN]!r}"
        if name not in allowed:
            refusals.append(f"{shown} helps, but is none of the attributes that may be proposed.")
        elif value is None or not rules.attributes[name].pattern.fullmatch(value):
            refusals.append(f"{shown} helps, but is not a value that may be proposed for it.")
    return refusals


def _preference(change: Change, order: Sequence[str]) -> tuple[int, list[int], list[tuple[str, str]]]:
    ranks = sorted(order.index(name) for name in change)
    return len(change), ranks, sorted((name, value or "") for name, value in change.items())


def _proposal(
    attribute: str, value: str | None, reason: str, confidence: str, groups: Sequence[NodeGroup], rules: Rules
) -> Proposal:
    return Proposal(
        attribute=attribute,
        value=value or "",
        type=rules.attributes[attribute].type,
        reason=reason,
        confidence=confidence,
        nodes=sum(group.nodes for group in groups),
        report_ids=tuple(group.report_id for group in groups if group.report_id)[:_EVIDENCE_SHOWN],
    )


def _words(verdict: Verdict) -> dict[str, Any]:
    return {
        "measured": Count(verdict.nodes_measured),
        "yes": Count(verdict.nodes_yes),
        "no": Count(verdict.nodes_no),
        "nodes": Count(verdict.nodes),
        "cause": _cause(verdict),
    }


def _cause(verdict: Verdict) -> str:
    return next((reason.code for reason in verdict.reasons if reason.code), "no cause was given")
