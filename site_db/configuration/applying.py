"""Applying proposals to a factory's file: which changes, the edited bytes, the proof that they say just that."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from site_db.configuration.catalogue import (
    Configured,
    Measured,
    factory_of,
    measured_by_entry,
    read_catalogue,
    read_policy,
)
from site_db.configuration.edit_xml import xml_edits
from site_db.configuration.edit_yaml import yaml_edits
from site_db.configuration.editing import Change, apply_edits
from site_db.configuration.importing import Beside, read_configuration, reader
from site_db.configuration.model import BrokenFile, Entry, Parsed
from site_db.configuration.policy import Policy, told
from site_db.configuration.present import Limits, derive_within
from site_db.errors import UnknownName
from site_db.proposals import Proposal, Proposals
from site_db.rules import Rules, default_rules
from site_db.site_reports import SiteReportPart
from site_db.storable import storable
from site_db.store import Store
from site_db.times import microseconds

_LINE = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class AppliedChange:
    """One attribute that the file gets."""

    entry: str
    proposal: Proposal


@dataclass(frozen=True)
class Applied(SiteReportPart):
    """What becomes of one file. `diff`: the unified diff; `written`: whether the file has it now, `backup`: its old self."""

    file: str
    min_confidence: str
    changes: tuple[AppliedChange, ...]
    notes: tuple[str, ...]
    policy_expired: tuple[str, ...]
    diff: str
    written: bool = False
    backup: str | None = None


@dataclass(frozen=True)
class Edited:
    """The bytes of a file before and after, and what was done."""

    path: Path
    before: bytes
    after: bytes
    applied: Applied


def plan(
    store: Store,
    path: Path,
    now: datetime,
    only: Sequence[str] = (),
    min_confidence: str = "medium",
    beside: Beside | None = None,
    rules: Rules | None = None,
    factory: str | None = None,
) -> Edited:
    """What the proposals make of a file; nothing is written. `only`: these entries (none: all in the file).

    What the file says now is the present configuration, whatever was imported. `factory`: whose file it is (None: as it
    was imported); only what this factory's glideins reported counts. Raises BrokenFile, UnknownName for an
    entry that the file has not.
    """
    rules, beside = rules or default_rules(), beside or Beside()
    before, parsed = read_configuration(path, beside)
    entries = _chosen(parsed, only)
    since = microseconds(now - timedelta(days=rules.window_days))
    with store.reading() as connection:
        factory = factory_of(connection, path) if factory is None else storable(factory)
        configured = [Configured(entry, factory, str(path)) for entry in entries]
        measured = measured_by_entry(connection, since, configured)
        policy = read_policy(connection, now.date())
        files = {item.entry.name: Path(item.file) for item in read_catalogue(connection, ()) if item.factory == factory}
    found = [_proposals(item, measured[item.key], policy, now, min_confidence, rules) for item in configured]
    changes = [
        Change(proposals.entry, rules.attributes[item.attribute], item.value)
        for proposals in found
        for item in proposals.proposals
    ]
    after, refused = edit(before, changes, path, parsed, beside)
    made = [AppliedChange(each.entry, item) for each in found for item in each.proposals if each.entry not in refused]
    applied = Applied(
        file=str(path),
        min_confidence=min_confidence,
        changes=tuple(made),
        notes=(
            *(f"{each.entry}: {note}" for each in found for note in each.notes),
            *refused.values(),
            *(f"{problem.place} {problem.text}" for problem in parsed.problems if not problem.place.startswith(str(path))),
            *_replaced_elsewhere(made, path, files),
        ),
        policy_expired=tuple(map(told, policy.expired)),
        diff=unified_diff(before, after, path.name),
    )
    return Edited(path, before, after, applied)


def edit(
    before: bytes, changes: Sequence[Change], path: Path, parsed: Parsed, beside: Beside
) -> tuple[bytes, dict[str, str]]:
    """The bytes with these changes made, and the entries that could not be changed, with the cause. Raises BrokenFile.

    The result is read again: every entry has to say what it said, with just these changes, or nothing is given back.
    """
    barred = _barred(changes, parsed)
    changes = [change for change in changes if change.entry not in barred]
    edits, refused = (xml_edits if parsed.kind == "factory_xml" else yaml_edits)(before, changes, str(path))
    refused |= barred
    after = apply_edits(before, edits)
    if after == before:
        return before, refused
    again = reader(path, parsed, beside)(after)
    wanted = {entry.name: _meaning(entry) for entry in parsed.entries}
    for change in changes:
        if change.entry in wanted and change.entry not in refused:
            wanted[change.entry]["attrs"][change.attribute.name] = (change.value, change.attribute.type)
    got = {entry.name: _meaning(entry) for entry in again.entries}
    if got != wanted:
        wrong = sorted(name for name in wanted if got.get(name) != wanted[name])
        raise BrokenFile(
            str(path),
            f"the edited text would not say what was proposed (entries {', '.join(wrong[:3])})",
            "Nothing was written. Set these attributes by hand, and report this as a fault of site-db.",
        )
    return after, refused


def _barred(changes: Sequence[Change], parsed: Parsed) -> dict[str, str]:
    """The entries that the factory would refuse with these changes: an attribute that is constant for all entries, or is
    not, has to be the same in each (factoryXmlConfig.py of GlideinWMS)."""
    attrs = {entry.name: entry.attrs for entry in parsed.entries}
    found = {}
    for change in changes:
        name = change.attribute.name
        common = parsed.common.get(name)
        if common is None or attrs.get(change.entry, {}).get(name) is not common:
            continue
        const = common.flags.get("const", str(True))
        if const != str(change.attribute.const):
            said = f"{name} is set for all entries of the factory, with const={const}: edit by hand"
            found[change.entry] = f"{change.entry}: {said}"
    return found


def _replaced_elsewhere(made: Sequence[AppliedChange], path: Path, files: Mapping[str, Path]) -> list[str]:
    """Notes on entries that the factory takes from another file: a change here has no effect."""
    elsewhere = {
        change.entry: file
        for change in made
        if (file := files.get(change.entry)) and file.name > path.name and file != path.absolute()
    }
    return [f"{entry}: the factory takes this entry from {file}: change it there" for entry, file in elsewhere.items()]


def unified_diff(before: bytes, after: bytes, name: str) -> str:
    """The change as a unified diff; bytes that are no UTF-8 show as escapes."""
    old, new = (_LINE.findall(data.decode("utf-8", "backslashreplace")) for data in (before, after))
    lines = []
    for line in difflib.unified_diff(old, new, f"a/{name}", f"b/{name}"):
        lines.append(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n")
    return "".join(lines)


def _chosen(parsed: Parsed, only: Sequence[str]) -> list[Entry]:
    by_name = {entry.name: entry for entry in parsed.entries}
    for name in only:
        if name not in by_name:
            raise UnknownName("entry", name, by_name)
    return [by_name[name] for name in dict.fromkeys(only)] if only else list(by_name.values())


def _proposals(
    item: Configured, measured: Measured, policy: Policy, now: datetime, min_confidence: str, rules: Rules
) -> Proposals:
    """The proposals that are to be made in the file: only from an entry's own nodes, never from its neighbours'."""
    entry = item.entry
    groups = measured.groups if measured.joined_by == "entry" else ()
    sites = [site for site in (entry.site, measured.site) if site]
    limits = Limits(storable(entry.name), sites, entry.attrs, policy, min_confidence)
    fit = derive_within(groups, limits, rules)
    in_order = tuple(sorted(fit.proposals, key=lambda item: item.attribute))
    notes = (*fit.notes, *([] if groups else _other_factories(item, measured)))
    return Proposals(entry.name, item.factory, entry.site or "", now, in_order, notes)


def _other_factories(item: Configured, measured: Measured) -> list[str]:
    if not measured.others:
        return []
    names = ", ".join(measured.others)
    if item.factory:
        return [f"left alone: {names} reported this name, and not {item.factory}, whose file this is"]
    return [f"left alone: {names} reported this name, and whose file this is is not known: say --factory"]


def _meaning(entry: Entry) -> dict[str, dict[str, tuple[str, str]]]:
    """Values and types."""
    kinds = {"attrs": entry.attrs, "submit_attrs": entry.submit_attrs}
    return {
        kind: {name: (setting.value, setting.type) for name, setting in settings.items()}
        for kind, settings in kinds.items()
    }
