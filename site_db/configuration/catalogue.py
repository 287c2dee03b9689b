"""What is configured, as the database has it, joined with what reported and what the registries know."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import orjson
from sqlalchemy import Connection, select

from site_db import tables
from site_db.configuration.model import ATTR, SUBMIT_ATTR, Action, Entry, PolicyRow, Setting
from site_db.configuration.policy import Policy
from site_db.queries import ENTRIES, SITES, groups_by_entry
from site_db.site_reports import SiteReportPart
from site_db.storable import storable
from site_db.verdicts import NodeGroup

JoinedBy = Literal["entry", "resource"]

_FILES, _CONFIGURED, _ATTRIBUTES = (
    tables.configuration_files.c,
    tables.configured_entries.c,
    tables.configured_attributes.c,
)
_REGISTERED, _POLICY = tables.registered_resources.c, tables.policy_rows.c
# Entries and resources of reports that named none (reduction.py).
_NO_NAME = "(none)"


@dataclass(frozen=True)
class Configured:
    """One entry as the factory takes it, and the file that it stands in."""

    entry: Entry
    factory: str
    file: str

    @property
    def key(self) -> tuple[str, str]:
        """Factory and name: factories use names alike."""
        return self.factory, self.entry.name

    @property
    def place(self) -> str:
        """FILE:LINE."""
        return f"{self.file}:{self.entry.line}"


@dataclass(frozen=True)
class Measured:
    """The nodes behind a configured entry, and by which name they were found.

    `others`: factories that report this name, and whose nodes do not count for the entry. `site`: where the entry's own
    reports say that it is; None where there are none.
    """

    groups: Sequence[NodeGroup]
    joined_by: JoinedBy | None
    others: tuple[str, ...] = ()
    site: str | None = None


@dataclass(frozen=True)
class Unjoined:
    """A name that has no counterpart: `kind` says on which side it is, `why` what is missing."""

    kind: str
    name: str
    place: str
    why: str


@dataclass(frozen=True)
class UnjoinedNames(SiteReportPart):
    """All names without a counterpart."""

    configured: int
    reported: int
    names: tuple[Unjoined, ...]


def read_catalogue(
    connection: Connection, attributes: Collection[str] | None = None, name: str | None = None
) -> list[Configured]:
    """The entries that count, by name; of several files of one factory the last by name holds, as the factory has it.

    `attributes`: only these, with GLIDEIN_Site and GLIDEIN_ResourceName (None: all). `name`: only this entry.
    """
    query = (
        select(tables.configured_entries, _FILES.factory, _FILES.path)
        .join_from(tables.configured_entries, tables.configuration_files)
        .where(_CONFIGURED.vanished_at.is_(None))
    )
    if name is not None:
        query = query.where(_CONFIGURED.name == name)
    rows = sorted(map(dict, connection.execute(query).mappings()), key=lambda row: Path(row["path"]).name)
    last = {(row["factory"], row["name"]): row for row in rows}
    settings = _settings(connection, attributes, [row["id"] for row in last.values()] if name is not None else None)
    found = [Configured(_entry(row, settings.get(row["id"], {})), row["factory"], row["path"]) for row in last.values()]
    return sorted(found, key=lambda item: (item.entry.name, item.factory))


def measured_by_entry(
    connection: Connection, since: int, configured: Sequence[Configured]
) -> dict[tuple[str, str], Measured]:
    """The nodes behind each configured entry since then (microseconds), by its factory and name.

    Those that reported under its name from its factory; else those that others reached at its resource. There a
    node counts for each entry that it was seen under.
    """
    groups = groups_by_entry(connection, since)
    by_name: dict[str, dict[str, _Own]] = {}
    by_resource: dict[str, list[NodeGroup]] = {}
    query = select(ENTRIES.id, ENTRIES.name, ENTRIES.factory, ENTRIES.resource, SITES.name.label("site"))
    for row in connection.execute(query.join_from(tables.entries, tables.sites)):
        if found := groups.get(row.id):
            by_name.setdefault(row.name, {})[row.factory] = _Own(found, row.site)
            if row.resource != _NO_NAME:
                by_resource.setdefault(row.resource, []).extend(found)
    return {
        item.key: _measured(item, by_name.get(item.entry.name, {}), by_resource.get(item.entry.resource or "", ()))
        for item in configured
    }


class _Own(NamedTuple):
    """The nodes that reported under an entry's name from one factory, and the site that they name."""

    groups: list[NodeGroup]
    site: str


def _measured(item: Configured, own: Mapping[str, _Own], neighbours: Sequence[NodeGroup]) -> Measured:
    factory = own_factory(item.factory, own)
    others = tuple(sorted(own.keys() - {factory}))
    if factory is not None:
        return Measured(together(own[factory].groups), "entry", others, own[factory].site)
    return Measured(together(neighbours), "resource" if neighbours else None, others)


def own_factory(configured: str, reporting: Collection[str]) -> str | None:
    """Whose reports are about an entry: of the factories that report its name the one that its file is of; where that is
    not known (empty) the only one. None: nobody's."""
    if configured:
        return configured if configured in reporting else None
    named = [factory for factory in reporting if factory != _NO_NAME] or list(reporting)
    return named[0] if len(named) == 1 else None


def together(groups: Sequence[NodeGroup]) -> list[NodeGroup]:
    """Groups of several entries as one list, one group for each profile; the largest first."""
    found: dict[str, NodeGroup] = {}
    for group in groups:
        there = found.get(group.fingerprint)
        found[group.fingerprint] = (
            replace(
                there,
                nodes=there.nodes + group.nodes,
                oldest=min(there.oldest, group.oldest),
                newest=max(there.newest, group.newest),
            )
            if there
            else group
        )
    return sorted(found.values(), key=lambda group: (-group.nodes, group.fingerprint))


def factory_of(connection: Connection, path: Path) -> str:
    """The factory that a file was imported for; empty where it was not, or for several."""
    query = select(_FILES.factory).where(_FILES.path == storable(str(path.absolute())))
    found = list(connection.scalars(query))
    return found[0] if len(found) == 1 else ""


def read_policy(connection: Connection, day: date) -> Policy:
    """The imported policy as it stands on that day."""
    rows = connection.execute(select(tables.policy_rows).order_by(_POLICY.file_id, _POLICY.line)).mappings()
    return Policy([_policy_row(dict(row)) for row in rows], day)


def unjoined(connection: Connection) -> UnjoinedNames:
    """What has no counterpart: entries that never reported, reports of entries that no file configures, resources that
    no registry knows."""
    configured = read_catalogue(connection, ())
    names = {name: {item.factory for item in group} for name, group in groupby(configured, lambda item: item.entry.name)}
    query = select(ENTRIES.name, ENTRIES.factory, ENTRIES.resource, SITES.name.label("site")).join_from(
        tables.entries, tables.sites
    )
    reported = connection.execute(query.order_by(ENTRIES.name, ENTRIES.factory)).all()
    registered = [dict(row) for row in connection.execute(select(tables.registered_resources)).mappings()]
    factories = _factories((row.name, row.factory) for row in reported)
    found = [
        *_never_reported(configured, factories, {row.resource for row in reported}),
        *(
            Unjoined("report", row.name, f"{row.factory}, site {row.site}", "no imported file configures this entry")
            for row in reported
            if not names.get(row.name, set()) & {row.factory, ""}
        ),
        *(_not_registered(configured, registered) if registered else ()),
    ]
    return UnjoinedNames(len(configured), len(reported), tuple(found))


def _factories(reported: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Which factories report each name."""
    found: dict[str, list[str]] = {}
    for name, factory in reported:
        found.setdefault(name, []).append(factory)
    return found


def _never_reported(
    configured: Sequence[Configured], factories: Mapping[str, list[str]], resources: set[str]
) -> Iterator[Unjoined]:
    for item in configured:
        reporting = factories.get(item.entry.name, [])
        if own_factory(item.factory, reporting) is not None or not item.entry.enabled:
            continue
        if reporting:
            why = f"never reported by {item.factory or 'a factory of its own'}; this name is by {', '.join(reporting)}"
        elif item.entry.resource in resources:
            why = f"never reported; others reported from its resource {item.entry.resource}"
        else:
            why = "never reported, nor did any other entry of its resource"
        yield Unjoined("entry", item.entry.name, item.place, why)


def _not_registered(configured: Sequence[Configured], registered: Sequence[Mapping[str, Any]]) -> Iterator[Unjoined]:
    resources = {row["name"] for row in registered if row["name"]}
    sites = {row[column] for row in registered for column in ("site", "resource_group", "facility") if row[column]}
    hosts = {row["fqdn"].lower() for row in registered if row["fqdn"]}
    for item in configured:
        entry = item.entry
        if not entry.enabled or entry.resource in resources or _host(entry.gatekeeper) in hosts:
            continue
        if entry.resource:
            yield Unjoined("resource", entry.resource, item.place, f"in no registry (entry {entry.name})")
        if entry.site and entry.site not in sites | resources:
            yield Unjoined("site", entry.site, item.place, f"in no registry (entry {entry.name})")


def _host(gatekeeper: str) -> str:
    """The host of `HOST HOST:PORT`, `HOST:PORT/QUEUE` or a URL."""
    first = (gatekeeper.split() or [""])[0]
    return first.rpartition("//")[2].partition("/")[0].partition(":")[0].lower()


def _settings(
    connection: Connection, attributes: Collection[str] | None, entries: Sequence[int] | None
) -> dict[int, dict[str, list[Setting]]]:
    query = select(tables.configured_attributes)
    if attributes is not None:
        query = query.where(_ATTRIBUTES.name.in_([*attributes, "GLIDEIN_Site", "GLIDEIN_ResourceName"]))
    if entries is not None:
        query = query.where(_ATTRIBUTES.entry_id.in_(entries))
    found: dict[int, dict[str, list[Setting]]] = {}
    for row in connection.execute(query):
        setting = Setting(row.name, row.value, row.type, orjson.loads(row.flags), row.line)
        found.setdefault(row.entry_id, {}).setdefault(row.kind, []).append(setting)
    return found


def _entry(row: Mapping[str, Any], settings: Mapping[str, list[Setting]]) -> Entry:
    attrs, submit_attrs = ({item.name: item for item in settings.get(kind, [])} for kind in (ATTR, SUBMIT_ATTR))
    about = {name: row[name] for name in ("name", "line", "enabled", "gatekeeper", "gridtype", "section")}
    return Entry(**about, attrs=attrs, submit_attrs=submit_attrs)


def _policy_row(row: Mapping[str, Any]) -> PolicyRow:
    return PolicyRow(
        action=cast("Action", row["action"]),
        target=row["target"],
        author=row["author"],
        reason=row["reason"],
        dated=date.fromisoformat(row["dated"]),
        expires=date.fromisoformat(row["expires"]),
        entry=row["entry"],
        line=row["line"],
    )
