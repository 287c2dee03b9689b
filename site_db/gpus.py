"""GPUs of sites and entries, as jobs meet them: a view over the newest reports, beside what configuration claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, select

from site_db.configuration.catalogue import read_catalogue
from site_db.configuration.resource_slots import gpu_claim
from site_db.errors import UnknownName
from site_db.gpu_nodes import GpuNodes, Model, Span, kinds_of_gpus, models_of, span
from site_db.images.fleet import reports_since
from site_db.queries import ENTRIES, OBSERVED, SITES, groups_by_entry, groups_by_site, node_groups
from site_db.rules import Capability, Rules, default_rules
from site_db.site_reports import SiteReportPart
from site_db.storable import storable
from site_db.store import Store
from site_db.verdicts import NodeGroup, Verdict, answer_of, judge
from site_db.views import find_entry

_SLOTS, _REQUEST = "GLIDEIN_Resource_Slots", "Request_GPUs"


@dataclass(frozen=True)
class Claim:
    """What imported configuration says of an entry: its GPUs in GLIDEIN_Resource_Slots, and Request_GPUs. None: nothing."""

    resource_slots: str | None
    request_gpus: str | None
    place: str


@dataclass(frozen=True)
class Gpus:
    """The GPUs of one place: a site, or an entry of it (`entry` and `factory` are None for a site).

    `works`: nodes with a GPU that works among those that could tell; a node without one is a no. `inside`: of those
    where one works, the nodes on which it works inside the container. Spans are over nodes where one works.
    """

    site: str
    entry: str | None
    factory: str | None
    nodes: int
    works: Verdict
    inside: Verdict
    models: tuple[Model, ...]
    nvidia_driver: Span
    cuda_full: Span
    cuda_minor: Span
    cuda_forward: Span
    kinds: tuple[GpuNodes, ...]
    claim: Claim | None


@dataclass(frozen=True)
class GpuReport(SiteReportPart):
    """GPUs of all sites (`name` is None), of one site and its entries, or of one entry; places without a sign of a GPU and
    without a claim are only counted (`left_out`)."""

    name: str | None
    generated_at: datetime
    window_days: int
    places: tuple[Gpus, ...]
    left_out: int


class _Place(NamedTuple):
    site: str
    entry: str | None
    factory: str | None
    groups: Sequence[NodeGroup]
    claim: Claim | None = None


def list_gpus(store: Store, now: datetime, rules: Rules | None = None) -> GpuReport:
    """The GPUs of every site."""
    rules = rules or default_rules()
    with store.reading() as connection:
        groups = groups_by_site(connection, reports_since(now, rules))
        names = {row[0]: row[1] for row in connection.execute(select(SITES.id, SITES.name).order_by(SITES.name))}
    return _report(
        None, [_Place(name, None, None, groups.get(number, ())) for number, name in names.items()], now, rules
    )


def gpus_of(store: Store, name: str, now: datetime, rules: Rules | None = None) -> GpuReport:
    """The GPUs of a site and its entries, or of an entry (NAME, NAME@FACTORY). Raises UnknownName, AmbiguousName."""
    rules = rules or default_rules()
    wanted = storable(name)
    with store.reading() as connection:
        number = connection.scalar(select(SITES.id).where(SITES.name == wanted))
        if number is not None:
            return _report(wanted, _of_site(connection, number, wanted, now, rules), now, rules)
        return _report(wanted, [_of_entry(connection, wanted, now, rules)], now, rules)


def _of_site(connection: Connection, number: int, name: str, now: datetime, rules: Rules) -> list[_Place]:
    since = reports_since(now, rules)
    whole = groups_by_site(connection, since, number).get(number, [])
    groups = groups_by_entry(connection, since, number)
    query = select(ENTRIES.id, ENTRIES.name, ENTRIES.factory).where(ENTRIES.site_id == number)
    rows = connection.execute(query.order_by(ENTRIES.name, ENTRIES.factory)).all()
    claims = _claims(connection)
    entries = [_Place(name, row[1], row[2], groups.get(row[0], []), _claim_of(claims, row[1], row[2])) for row in rows]
    return [_Place(name, None, None, whole), *entries]


def _of_entry(connection: Connection, name: str, now: datetime, rules: Rules) -> _Place:
    try:
        entry = find_entry(connection, name)
    except UnknownName as error:
        names = [*connection.scalars(select(SITES.name)), *connection.scalars(select(ENTRIES.name))]
        raise UnknownName("site or entry", name, names) from error
    groups = node_groups(connection, reports_since(now, rules), OBSERVED.entry_id == entry.id)
    claim = _claim_of(_claims(connection, entry.name), entry.name, entry.factory)
    return _Place(entry.site, entry.name, entry.factory, groups, claim)


def _claims(connection: Connection, name: str | None = None) -> dict[tuple[str, str], Claim]:
    """By entry and factory; the factory is empty where the file was imported without one."""
    found = {}
    for item in read_catalogue(connection, (_SLOTS, _REQUEST), name):
        slots, request = gpu_claim(item.entry.value(_SLOTS)), item.entry.submit_attrs.get(_REQUEST)
        claim = Claim(slots.text if slots else None, request.value if request else None, item.place)
        found[item.entry.name, item.factory] = claim
    return found


def _claim_of(claims: Mapping[tuple[str, str], Claim], entry: str, factory: str) -> Claim | None:
    return claims.get((entry, factory)) or claims.get((entry, ""))


def _report(name: str | None, places: Sequence[_Place], now: datetime, rules: Rules) -> GpuReport:
    found = [gpus_at(place, rules) for place in places]
    # What was asked for by name is shown whatever there is.
    shown = tuple(item for item in found if _has_sign(item) or (name is not None and item is found[0]))
    return GpuReport(name, now, rules.window_days, shown, len(found) - len(shown))


def _has_sign(item: Gpus) -> bool:
    return bool(item.kinds or (item.claim and item.claim.resource_slots))


def gpus_at(place: _Place, rules: Rules) -> Gpus:
    """The GPUs of some nodes. Pure."""
    works, inside = _capabilities(rules)
    working = [group for group in place.groups if answer_of(group.profile, works)[0] == "yes"]
    kinds = kinds_of_gpus(place.groups)
    usable = [kind for kind in kinds if kind.status == "ok"]
    return Gpus(
        site=place.site,
        entry=place.entry,
        factory=place.factory,
        nodes=sum(group.nodes for group in place.groups),
        works=judge(works, place.groups, rules),
        inside=judge(inside, working, rules),
        models=models_of(kinds),
        nvidia_driver=span(kind.nvidia_driver for kind in usable),
        cuda_full=span(kind.cuda_full for kind in usable),
        cuda_minor=span(kind.cuda_minor for kind in usable),
        cuda_forward=span(kind.cuda_forward for kind in usable),
        kinds=kinds,
        claim=place.claim,
    )


def _capabilities(rules: Rules) -> tuple[Capability, Capability]:
    """The rules' own; but to who looks for GPUs, a node without any is a no and not unknown."""
    works, inside = rules.capability("gpu"), rules.capability("gpu_container")
    if works is None or inside is None:
        raise KeyError("rules.toml: no capability gpu or gpu_container")
    return replace(works, no_reasons=works.no_reasons | rules.changes.gone), inside
