"""What sites can be told apart by: the factories of their entries, the VOs that these admit, and the country.

Factories come from reports; VOs and countries from imported configuration and registries, so they may be unknown.
"""

import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from sqlalchemy import Connection, select

from site_db import tables
from site_db.store import Store

_ENTRIES, _SITES = tables.entries.c, tables.sites.c
_CONFIGURED, _ATTRIBUTES = tables.configured_entries.c, tables.configured_attributes.c
_REGISTERED = tables.registered_resources.c
Key = TypeVar("Key", bound=Hashable)
_VOS, _COUNTRY = "GLIDEIN_Supported_VOs", "GLIDEIN_Country"


@dataclass(frozen=True)
class Labels:
    """The labels of one site or entry, each sorted; empty: not known."""

    factories: tuple[str, ...] = ()
    vos: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()


class _Entry(NamedTuple):
    name: str
    factory: str
    resource: str
    site: str


def site_labels(store: Store) -> dict[str, Labels]:
    """The labels of every site that has entries, by its name."""
    return _labels(store, lambda entry: entry.site)


def entry_labels(store: Store) -> dict[tuple[str, str], Labels]:
    """The labels of every entry, by name and factory."""
    return _labels(store, lambda entry: (entry.name, entry.factory))


def _labels(store: Store, key_of: Callable[[_Entry], Key]) -> dict[Key, Labels]:
    query = select(_ENTRIES.name, _ENTRIES.factory, _ENTRIES.resource, _SITES.name)
    with store.reading() as connection:
        entries = [_Entry(*row) for row in connection.execute(query.join_from(tables.entries, tables.sites))]
        configured = _configured(connection)
        registered = _registered_countries(connection)
    found: dict[Key, tuple[set[str], set[str], set[str]]] = {}
    for entry in entries:
        factories, vos, countries = found.setdefault(key_of(entry), (set(), set(), set()))
        factories.add(entry.factory)
        vos.update(configured.get((entry.name, _VOS), ()))
        countries.update(configured.get((entry.name, _COUNTRY), ()))
        countries.update(country for name in entry[2:] if (country := registered.get(name)))
    return {key: Labels(*(tuple(sorted(names)) for names in sets)) for key, sets in found.items()}


def _configured(connection: Connection) -> dict[tuple[str, str], set[str]]:
    """The words of the two attributes, by name of entry and attribute."""
    query = (
        select(_CONFIGURED.name, _ATTRIBUTES.name, _ATTRIBUTES.value)
        .join_from(tables.configured_attributes, tables.configured_entries)
        .where(_ATTRIBUTES.name.in_((_VOS, _COUNTRY)), _CONFIGURED.vanished_at.is_(None))
    )
    found: dict[tuple[str, str], set[str]] = {}
    for entry, attribute, value in connection.execute(query):
        found.setdefault((entry, attribute), set()).update(_words(value))
    return found


def _words(value: str) -> Iterable[str]:
    return filter(None, re.split(r"[,\s]+", value))


def _registered_countries(connection: Connection) -> dict[str, str]:
    """The country of every name of a resource or site that a registry has one for."""
    query = select(_REGISTERED.name, _REGISTERED.site, _REGISTERED.country).where(_REGISTERED.country.is_not(None))
    return {name: row.country for row in connection.execute(query) for name in (row.name, row.site) if name}
