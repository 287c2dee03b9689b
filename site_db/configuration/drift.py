"""Drift: where an entry's configuration and what was measured on its nodes disagree, by rules that are data."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import zstandard
from sqlalchemy import Connection, select

from site_db import tables
from site_db.configuration.catalogue import Configured, Measured, measured_by_entry, read_catalogue, read_policy
from site_db.configuration.drift_rules import SEVERITIES, Condition, DriftRules, default_drift_rules
from site_db.configuration.policy import told
from site_db.dialects import portions
from site_db.errors import UnknownName
from site_db.rules import Rules, default_rules, find, steps
from site_db.site_reports import SiteReportPart
from site_db.storable import storable
from site_db.store import Store
from site_db.times import microseconds
from site_db.verdicts import NodeGroup, answer_of, confidence_of
from site_db.wording import Count

_EVIDENCE_SHOWN = 5
_NONE = "none"

ReadReport = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Finding:
    """One disagreement. `nodes_affected` of `nodes_measured` show it; `joined_by`: whose nodes these are (the entry's own,
    or those of others at its resource). `policy`: the decision because of which it does not count."""

    rule: str
    severity: str
    entry: str
    factory: str
    place: str
    site: str | None
    resource: str | None
    attribute: str
    configured: str | None
    sentence: str
    remedy: str
    nodes_affected: int
    nodes_measured: int
    share: float
    confidence: str
    joined_by: str
    report_ids: tuple[str, ...]
    policy: str | None


@dataclass(frozen=True)
class Drift(SiteReportPart):
    """All findings, the gravest first, what was compared, and policy that has expired."""

    generated_at: datetime
    window_days: int
    entries_enabled: int
    entries_measured: int
    findings: tuple[Finding, ...]
    policy_expired: tuple[str, ...]

    def at_least(self, severity: str) -> int:
        """How many findings count that are at least this grave."""
        lowest = SEVERITIES.index(severity)
        return sum(SEVERITIES.index(item.severity) >= lowest for item in self.findings if item.policy is None)


def check_drift(store: Store, now: datetime, entry: str | None = None, rules: Rules | None = None) -> Drift:
    """The drift of all enabled entries, or of one. Raises UnknownName for one that no imported file configures."""
    rules, drift_rules = rules or default_rules(), default_drift_rules()
    since = microseconds(now - timedelta(days=rules.window_days))
    wanted = None if entry is None else storable(entry)
    with store.reading() as connection:
        configured = read_catalogue(connection, drift_rules.attributes, wanted)
        if wanted is not None and not configured:
            raise UnknownName("configured entry", wanted, [item.entry.name for item in read_catalogue(connection, ())])
        enabled = [item for item in configured if item.entry.enabled or wanted is not None]
        measured = measured_by_entry(connection, since, enabled)
        policy = read_policy(connection, now.date())
        reports = _example_reports(connection, enabled, measured, drift_rules)
    findings = []
    for item in enabled:
        seen_at = measured[item.key].site
        row = policy.disables(item.entry.site) or policy.disables(seen_at) or policy.pins(item.entry.name)
        reason = told(row) if row else None
        findings += find_drift(item, measured[item.key], drift_rules, rules, reports.get, reason)
    findings.sort(key=lambda found: (-SEVERITIES.index(found.severity), -found.nodes_affected, found.entry, found.rule))
    expired = tuple(map(told, policy.expired))
    seen = sum(bool(each.groups) for each in measured.values())
    return Drift(now, rules.window_days, len(enabled), seen, tuple(findings), expired)


def find_drift(
    item: Configured,
    measured: Measured,
    drift_rules: DriftRules,
    rules: Rules,
    read: ReadReport,
    policy: str | None = None,
) -> list[Finding]:
    """What disagrees for one entry. `read` gives an example report by its id."""
    findings = []
    for rule in drift_rules.rules:
        value = rule.value_of(item.entry)
        words = rule.applies(item.entry)
        if words is None or not measured.groups or (measured.joined_by == "resource" and not rule.by_resource):
            continue
        looker = _Looker(drift_rules, rules, read, words)
        affected, base, seen = looker.count(rule.conditions, measured.groups)
        nodes = sum(group.nodes for group in affected)
        if not nodes or nodes / base < rule.share:
            continue
        told_words = _Words(
            {**words, "attribute": rule.attribute, "value": value or "", "entry": item.entry.name}
            | {"nodes": Count(nodes), "measured": Count(base), "share": f"{nodes / base:.0%}", "seen": seen}
        )
        finding = Finding(
            rule=rule.name,
            severity=rule.severity,
            entry=item.entry.name,
            factory=item.factory,
            place=item.place,
            site=item.entry.site,
            resource=item.entry.resource,
            attribute=rule.attribute,
            configured=value,
            sentence=rule.sentence.format_map(told_words),
            remedy=rule.remedy.format_map(told_words),
            nodes_affected=nodes,
            nodes_measured=base,
            share=nodes / base,
            confidence=confidence_of(nodes, base, sum(group.nodes for group in measured.groups), rules),
            joined_by=measured.joined_by or "",
            report_ids=tuple(group.report_id for group in affected if group.report_id)[:_EVIDENCE_SHOWN],
            policy=policy,
        )
        findings.append(finding)
    return findings


class _Words(dict[str, Any]):
    """Words for a sentence; a group of the pattern that took no part is empty."""

    def __missing__(self, name: str) -> str:
        return ""


@dataclass(frozen=True)
class _Looker:
    """Looks at nodes for one rule and one entry."""

    drift_rules: DriftRules
    rules: Rules
    read: ReadReport
    words: Mapping[str, str]

    def count(
        self, conditions: Sequence[Condition], groups: Iterable[NodeGroup]
    ) -> tuple[list[NodeGroup], int, str]:
        """The groups that show all conditions, how many nodes could tell, and what was seen most at the last."""
        affected, base, seen = [], 0, Counter[str]()
        for group in groups:
            texts = [self._text(condition, group) for condition in conditions]
            answers = [self._decide(*pair) for pair in zip(conditions, texts, strict=True)]
            if False in answers:
                base += group.nodes
            elif None not in answers:
                base += group.nodes
                affected.append(group)
                seen[texts[-1]] += group.nodes
        return affected, base, seen.most_common(1)[0][0] if seen else ""

    def _decide(self, condition: Condition, text: str) -> bool | None:
        for pattern, answer in ((condition.no, False), (condition.yes, True)):
            for word, value in self.words.items():
                pattern = pattern.replace("{" + word + "}", re.escape(value or ""))
            if pattern and re.fullmatch(pattern, text):
                return answer
        return None

    def _text(self, condition: Condition, group: NodeGroup) -> str:
        looks: dict[str, Callable[[str, NodeGroup], str]] = {
            "capability": self._capability,
            "found": self._found,
            "alternative": self._alternative,
            "os": self._os,
            "runtime_by": self._runtime_by,
        }
        return looks[condition.look](condition.what, group)

    def _capability(self, name: str, group: NodeGroup) -> str:
        row = self.rules.capability(name)
        return answer_of(group.profile, row)[0] if row else "unknown"

    def _found(self, place: str, group: NodeGroup) -> str:
        value = find(group.profile, steps(place))
        return _outcome(value) if isinstance(value, Mapping) else "" if value is None else str(value)

    def _alternative(self, name: str, group: NodeGroup) -> str:
        alternatives = find(group.profile, ("singularity", "alternatives")) or []
        texts = [_outcome(item) for item in alternatives if set(item["change"]) == {name}]
        return "ok" if "ok" in texts else next(iter(texts), _NONE)

    def _os(self, _what: str, group: NodeGroup) -> str:
        about = find(group.profile, ("host", "os")) or {}
        system = self.drift_rules.systems.get(str(about.get("id")))
        major = str(about.get("version_id") or "").partition(".")[0]
        return f"{system}{major}" if system and major else _NONE

    def _runtime_by(self, place: str, group: NodeGroup) -> str:
        """Whether an example report found a binary at the configured place: of a glidein only, because a run by hand knows
        no configuration."""
        report = self.read(group.report_id) if group.report_id else None
        if report is None or find(report, ("probe", "trigger")) == "manual":
            return _NONE
        found = [str(runtime["found_by"]).partition(":")[0] for runtime in report.get("runtimes", [])]
        return "found" if place in found else "missing"


def _outcome(check: Mapping[str, Any]) -> str:
    status, reason = check.get("status"), check.get("reason")
    return f"{status}:{reason}" if reason else str(status)


def _example_reports(
    connection: Connection,
    items: Iterable[Configured],
    measured: Mapping[tuple[str, str], Measured],
    drift_rules: DriftRules,
) -> dict[str, Mapping[str, Any]]:
    """What the rules ask of raw reports, by report_id: read in one go, and only for entries that these rules apply to."""
    rules = [rule for rule in drift_rules.rules if any(each.look == "runtime_by" for each in rule.conditions)]
    wanted = {
        UUID(group.report_id).bytes
        for item in items
        if any(rule.applies(item.entry) is not None for rule in rules)
        for group in measured[item.key].groups
        if group.report_id
    }
    found: dict[str, Mapping[str, Any]] = {}
    decompressor = zstandard.ZstdDecompressor()
    for portion in portions(sorted(wanted)):
        query = (
            select(tables.reports.c.report_id, tables.raw_reports.c.body)
            .join_from(tables.reports, tables.raw_reports)
            .where(tables.reports.c.report_id.in_(portion))
        )
        for report_id, body in connection.execute(query):
            report = orjson.loads(decompressor.decompress(body))
            found[str(UUID(bytes=bytes(report_id)))] = {name: report[name] for name in ("probe", "runtimes")}
    return found
