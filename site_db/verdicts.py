"""Verdicts: what a group of nodes can do, from how many of them can. Pure functions over node groups and rules.

Three-valued everywhere. A node that could not tell is unknown, never a no, and counts in neither share nor interval.
"""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from site_db.rules import Capability, Rules, find
from site_db.wording import Count

Answer = Literal["yes", "no", "mixed", "unknown"]

_Z = 1.959964  # 95 %
_REASONS_SHOWN = 5
_EVIDENCE_SHOWN = 5


@dataclass(frozen=True)
class NodeGroup:
    """Nodes with the same profile: how many, when their newest reports were made, and one of these as an example."""

    fingerprint: str
    profile: dict[str, Any]
    nodes: int
    oldest: datetime
    newest: datetime
    report_id: str | None


@dataclass(frozen=True)
class ReasonCount:
    """On how many nodes the answer was not yes for this reason; `code` None: no reason was given."""

    code: str | None
    nodes: int


@dataclass(frozen=True)
class Evidence:
    """One report as an example of the `nodes` that gave this answer for this reason; `found`: the steps to it there."""

    report_id: str | None
    found: tuple[str, ...]
    answer: Answer
    reason: str | None
    nodes: int


@dataclass(frozen=True)
class Verdict:
    """One capability of a node, entry, resource or site.

    `share` and its 95 % bounds `lower` and `upper`: yes among yes and no; None where no node answered either.
    `reasons`: of the nodes that said no; where none did, of those that could not tell.
    """

    capability: str
    title: str
    answer: Answer
    confidence: str
    sentence: str
    nodes_yes: int
    nodes_no: int
    nodes_unknown: int
    share: float | None
    lower: float | None
    upper: float | None
    oldest: datetime | None
    newest: datetime | None
    reasons: tuple[ReasonCount, ...]
    evidence: tuple[Evidence, ...]

    @property
    def nodes_measured(self) -> int:
        """Nodes that answered yes or no."""
        return self.nodes_yes + self.nodes_no

    @property
    def nodes(self) -> int:
        """All nodes in the window."""
        return self.nodes_measured + self.nodes_unknown


def answer_of(profile: dict[str, Any], capability: Capability) -> tuple[Answer, str | None]:
    """What one profile says: yes, no or unknown, and the reason it gives."""
    value, reason = find(profile, capability.found), find(profile, capability.reason)
    if reason in capability.no_reasons or value in capability.no:
        return "no", reason
    return ("yes" if value in capability.yes else "unknown"), reason


def capabilities_of(groups: Iterable[NodeGroup], rules: Rules) -> list[Capability]:
    """The capabilities to judge for these nodes, in the order of the rules; members of a family by name."""
    groups = list(groups)
    found: dict[str, Capability] = {}
    for row in rules.capabilities:
        members = {member.name: member for group in groups for member in row.members(group.profile)}
        if not groups:
            members = {member.name: member for member in row.members({})}
        found.update(sorted(members.items()))
    return list(found.values())


class Tally:
    """Counts nodes by answer and reason."""

    def __init__(self) -> None:
        self.nodes: Counter[Answer] = Counter()
        self._reasons: dict[Answer, Counter[str | None]] = {"yes": Counter(), "no": Counter(), "unknown": Counter()}

    def add(self, answer: Answer, reason: str | None, nodes: int) -> None:
        """Count `nodes` that gave this answer (yes, no or unknown) for this reason."""
        self.nodes[answer] += nodes
        self._reasons[answer][reason] += nodes

    @property
    def measured(self) -> int:
        """Nodes that answered yes or no."""
        return self.nodes["yes"] + self.nodes["no"]

    @property
    def share(self) -> float | None:
        """Yes among yes and no; None where there is neither."""
        return self.nodes["yes"] / self.measured if self.measured else None

    def answer(self, rules: Rules) -> Answer:
        """The answer for all of them together."""
        share = self.share
        if share is None:
            return "unknown"
        if share >= rules.yes_from:
            return "yes"
        return "no" if share <= rules.no_up_to else "mixed"

    def reasons(self) -> tuple[ReasonCount, ...]:
        """The most frequent reasons for no; where no node said no, those of the nodes that could not tell."""
        counts = self._reasons["no"] or self._reasons["unknown"]
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0] or ""))
        return tuple(ReasonCount(code, nodes) for code, nodes in ranked[:_REASONS_SHOWN])


class Answers:
    """What profiles say, each looked at once: entries and sites by the thousand have the same few kinds of nodes."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Answer, str | None]] = {}

    def of(self, group: NodeGroup, capability: Capability) -> tuple[Answer, str | None]:
        """As answer_of, for capabilities of one set of rules."""
        key = (group.fingerprint, capability.name)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = answer_of(group.profile, capability)
        return found


def judge(
    capability: Capability, groups: Sequence[NodeGroup], rules: Rules, answers: Answers | None = None
) -> Verdict:
    """The verdict on `capability` for all nodes in `groups`; `answers` are shared by those who judge many."""
    tally, answers = Tally(), answers or Answers()
    alike: dict[tuple[Answer, str | None], list[NodeGroup]] = {}
    for group in groups:
        said = answers.of(group, capability)
        tally.add(*said, group.nodes)
        alike.setdefault(said, []).append(group)
    evidence = [
        Evidence(found[0].report_id, capability.found, answer, reason, sum(group.nodes for group in found))
        for (answer, reason), found in alike.items()
    ]
    yes, no, unknown = (tally.nodes[name] for name in ("yes", "no", "unknown"))
    lower, upper = wilson(yes, yes + no) if yes + no else (None, None)
    return Verdict(
        capability=capability.name,
        title=capability.title,
        answer=tally.answer(rules),
        confidence=confidence_of(yes, yes + no, yes + no + unknown, rules),
        sentence=_sentence(capability.title, tally, rules),
        nodes_yes=yes,
        nodes_no=no,
        nodes_unknown=unknown,
        share=tally.share,
        lower=lower,
        upper=upper,
        oldest=min((group.oldest for group in groups), default=None),
        newest=max((group.newest for group in groups), default=None),
        reasons=tally.reasons(),
        evidence=tuple(sorted(evidence, key=_telling_first)[:_EVIDENCE_SHOWN]),
    )


def judge_all(groups: Sequence[NodeGroup], rules: Rules) -> tuple[Verdict, ...]:
    """The verdicts on every capability, in the order of the rules."""
    return tuple(judge(capability, groups, rules) for capability in capabilities_of(groups, rules))


def confidence_of(successes: int, measured: int, nodes: int, rules: Rules) -> str:
    """How sure an answer is: `successes` of `measured` nodes, where `nodes` are all there are."""
    lower, upper = wilson(successes, measured) if measured else (0.0, 1.0)
    share = measured / nodes if nodes else 0.0
    return next(
        row.level
        for row in rules.confidence
        if measured >= row.nodes and share >= row.measured_share and upper - lower <= row.interval
    )


@functools.lru_cache(maxsize=4096)  # asked for the bounds and for the confidence, of site after site
def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a share: unlike the plain one it is not empty at 0 and 1. `trials` > 0."""
    share = successes / trials
    spread = _Z * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    centre, scale = share + _Z**2 / (2 * trials), 1 + _Z**2 / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _telling_first(evidence: Evidence) -> tuple[str, int]:
    return evidence.answer, -evidence.nodes  # no, unknown, yes: what people ask about comes first


def _sentence(title: str, tally: Tally, rules: Rules) -> str:
    cause = next((reason.code for reason in tally.reasons() if reason.code), "none was given")
    unknown = tally.nodes["unknown"]
    words = {
        "title": title,
        "yes": tally.nodes["yes"],
        "no": tally.nodes["no"],
        "unknown": unknown,
        "measured": Count(tally.measured),
        "nodes": Count(tally.measured + unknown),
        "reason": cause,
        "window_days": rules.window_days,
    }
    kind = tally.answer(rules) if words["nodes"] else "no_reports"
    sentence = rules.sentences[kind].format(**words)
    if tally.measured and unknown:
        sentence += " " + rules.sentences["some_unknown"].format(**words)
    return sentence
