"""Heterogeneity: the kinds of nodes behind one entry or site, and what tells them apart. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from site_db.rules import Rules, Trait, find
from site_db.verdicts import Answer, NodeGroup, answer_of, capabilities_of


@dataclass(frozen=True)
class Kind:
    """Nodes with one profile.

    `traits` are all traits of the rules as text (None: not known), `answers` the capabilities in which the kinds
    differ, `report_id` an example.
    """

    fingerprint: str
    nodes: int
    share: float
    newest: datetime
    report_id: str | None
    traits: Mapping[str, str | None]
    answers: Mapping[str, Answer]


@dataclass(frozen=True)
class Kinds:
    """The kinds, the largest first, with the names of the traits and capabilities in which they differ."""

    kinds: tuple[Kind, ...]
    traits_that_differ: tuple[str, ...]
    capabilities_that_differ: tuple[str, ...]


def kinds_of(groups: Sequence[NodeGroup], rules: Rules) -> Kinds:
    """The kinds of nodes in `groups` (one for each profile)."""
    total = sum(group.nodes for group in groups)
    traits = {trait.name: [_text(group.profile, trait) for group in groups] for trait in rules.traits}
    answers = {
        capability.name: [answer_of(group.profile, capability)[0] for group in groups]
        for capability in capabilities_of(groups, rules)
    }
    differing = {name: values for name, values in answers.items() if len(set(values)) > 1}
    kinds = [
        Kind(
            fingerprint=group.fingerprint,
            nodes=group.nodes,
            share=group.nodes / total,
            newest=group.newest,
            report_id=group.report_id,
            traits={name: values[number] for name, values in traits.items()},
            answers={name: values[number] for name, values in differing.items()},
        )
        for number, group in enumerate(groups)
    ]
    return Kinds(
        kinds=tuple(kinds),
        traits_that_differ=tuple(name for name, values in traits.items() if len(set(values)) > 1),
        capabilities_that_differ=tuple(differing),
    )


def _text(profile: Mapping[str, Any], trait: Trait) -> str | None:
    values = [find(profile, steps) for steps in trait.found]
    words = (".".join(map(str, value)) if isinstance(value, list) else value for value in values)
    return " ".join(str(word) for word in words if word is not None) or None
