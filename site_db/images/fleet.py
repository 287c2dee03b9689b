"""What is read of the database for a match: the nodes that are there by site and profile, the images, what was observed.

Reads kept counts only, never reports or single nodes, and past SQLAlchemy's rows where there are hundreds of thousands.
"""

import fnmatch
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, Executable, cast, func, literal_column, select

from site_db import tables
from site_db.dialects import portions
from site_db.errors import AmbiguousName, UnknownName
from site_db.images.contents import tables as image_tables
from site_db.images.model import Fact, Requirements, combine
from site_db.images.needs import Need, need_of
from site_db.images.node_kinds import NodeKind, Profile, node_kind
from site_db.images.registering import stored_requirements
from site_db.profiles import parsed
from site_db.rollups import day_of
from site_db.rules import Rules
from site_db.storable import storable
from site_db.times import microseconds

_SITES, _PROFILES, _IMAGES = tables.sites.c, tables.profiles.c, tables.images.c
_SITE_COUNTS, _IMAGE_COUNTS = tables.site_counts.c, tables.image_counts.c
_LISTED, _CATALOGUES = tables.catalogue_images.c, tables.image_catalogues.c

Place = tuple[int, int]  # site, profile
_PLACES = 2**32  # the number of a place: that of its site times this, and that of its profile


@dataclass(frozen=True)
class Fleet:
    """The nodes that reported within the window: how many of which profile at which site, each node once a site.

    `documents`: the profiles, as the database has them.
    """

    sites: Mapping[int, str]
    nodes: Mapping[Place, int]
    documents: Mapping[int, str]

    def at_site(self, number: int) -> Mapping[int, int]:
        """The nodes of one site, by profile."""
        return self._by_site.get(number, {})

    @functools.cached_property
    def _by_site(self) -> Mapping[int, dict[int, int]]:
        found: dict[int, dict[int, int]] = {}
        for (site, profile), nodes in self.nodes.items():
            found.setdefault(site, {})[profile] = nodes
        return found

    @functools.cached_property
    def profiles(self) -> Mapping[int, Profile]:
        """Every profile."""
        return {number: parsed(document) for number, document in self.documents.items()}

    @functools.cached_property
    def kinds(self) -> Mapping[int, NodeKind]:
        """What the match looks at of every profile."""
        return {number: _kind(document) for number, document in self.documents.items()}


@dataclass(frozen=True)
class KnownImage:
    """One image: its reference, what catalogues call it, what is known of its needs."""

    id: int
    reference: str
    names: tuple[str, ...]
    requirements: Requirements
    need: Need


class Seen(NamedTuple):
    """One kept count: nodes of a profile at a site on which an image had this outcome; `newest` in microseconds."""

    image_id: int
    site_id: int
    profile_id: int
    status: str
    reason: str
    nodes: int
    newest: int


def reports_since(now: datetime, rules: Rules) -> int:
    """The begin of the window of nodes: that of a UTC day, because counts are kept by day."""
    return _days_before(now, rules.window_days)


def observations_since(now: datetime) -> int:
    """The begin of the window of observations."""
    return _days_before(now, image_tables()["observation_days"])


def _days_before(now: datetime, days: int) -> int:
    first = now.astimezone(UTC) - timedelta(days=days)
    return microseconds(first.replace(hour=0, minute=0, second=0, microsecond=0))


def read_fleet(connection: Connection, since: int, site_ids: Sequence[int] | None = None) -> Fleet:
    """The nodes of all sites, or of these."""
    # One number for a place: SQLite groups by it in two thirds of the time that two columns take.
    place = numbered_place(_SITE_COUNTS.site_id, _SITE_COUNTS.profile_id)
    query = select(place, func.sum(_SITE_COUNTS.nodes)).where(_SITE_COUNTS.day >= day_of(since)).group_by(place)
    names = select(_SITES.id, _SITES.name).order_by(_SITES.name)
    if site_ids is not None:
        query, names = query.where(_SITE_COUNTS.site_id.in_(site_ids)), names.where(_SITES.id.in_(site_ids))
    counted = {divmod(number, _PLACES): int(nodes) for number, nodes in many_rows(connection, query)}
    sites = dict(many_rows(connection, names))
    return Fleet(sites, counted, _documents(connection, {profile for _, profile in counted}))


def numbered_place(site_id: ColumnElement[int], profile_id: ColumnElement[int]) -> ColumnElement[int]:
    """A place as one number, in a query."""
    return cast(site_id, BigInteger) * literal_column(str(_PLACES)) + profile_id


def number_of(place: Place) -> int:
    """A place as one number, as `numbered_place` has it."""
    return place[0] * _PLACES + place[1]


def read_profiles(connection: Connection, ids: Iterable[int]) -> dict[int, Profile]:
    """The profiles with these numbers."""
    return {number: parsed(document) for number, document in _documents(connection, ids).items()}


def _documents(connection: Connection, ids: Iterable[int]) -> dict[int, str]:
    found: dict[int, str] = {}
    for portion in portions(sorted(ids)):
        # The numbers as they are: to bind hundreds of them costs more than to read the rows.
        numbers: ColumnElement[int] = literal_column(",".join(map(str, portion)))
        query = select(_PROFILES.id, _PROFILES.document).where(_PROFILES.id.in_([numbers]))
        found.update(many_rows(connection, query))
    return found


@functools.lru_cache(maxsize=4096)
def _kind(document: str) -> NodeKind:
    return node_kind(parsed(document))


def site_ids(connection: Connection, names: Iterable[str]) -> list[int]:
    """The numbers of sites. Raises UnknownName."""
    found = []
    for name in map(storable, names):
        number = connection.scalar(select(_SITES.id).where(_SITES.name == name))
        if number is None:
            raise UnknownName("site", name, connection.scalars(select(_SITES.name)))
        found.append(number)
    return found


def read_images(connection: Connection, ids: Sequence[int] | None = None) -> list[KnownImage]:
    """All images (or these), by reference: those that catalogues list, that were added, and that nodes reported."""
    wanted = select(_IMAGES.id, _IMAGES.ref).order_by(_IMAGES.ref)
    if ids is not None:
        wanted = wanted.where(_IMAGES.id.in_(ids))
    listed = _listed(connection, ids)
    stored = stored_requirements(connection, ids)
    found = []
    for number, reference in connection.execute(wanted):
        names, declared = listed.get(number, ((), Requirements({})))
        requirements = combine(stored.get(number, Requirements({})), declared)
        found.append(KnownImage(number, reference, names, requirements, need_of(reference, requirements)))
    return found


def _listed(connection: Connection, ids: Sequence[int] | None) -> dict[int, tuple[tuple[str, ...], Requirements]]:
    """The names that catalogues have for images, and what they say of them; what is gone from a catalogue is left out."""
    query = (
        select(_LISTED.image_id, _LISTED.name, _LISTED.arch, _CATALOGUES.path)
        .join_from(tables.catalogue_images, tables.image_catalogues)
        .where(_LISTED.image_id.is_not(None), _LISTED.gone_at.is_(None))
        .order_by(_LISTED.name)
    )
    if ids is not None:
        query = query.where(_LISTED.image_id.in_(ids))
    names: dict[int, list[str]] = {}
    facts: dict[int, dict[str, Fact]] = {}
    for number, name, arch, path in connection.execute(query):
        names.setdefault(number, []).append(name)
        if arch:
            facts.setdefault(number, {})["arch"] = Fact(arch, "declared", path)
    return {number: (tuple(given), Requirements(facts.get(number, {}))) for number, given in names.items()}


def find_image(connection: Connection, name: str) -> KnownImage:
    """The image of this reference, of this name in a catalogue, or whose reference ends so after a slash.

    Raises UnknownName, AmbiguousName.
    """
    name = storable(name)
    by_reference = select(_IMAGES.id).where(_IMAGES.ref == name)
    by_name = select(_LISTED.image_id).where(_LISTED.name == name, _LISTED.image_id.is_not(None))
    for query in (by_reference, by_name, by_name.where(_LISTED.gone_at.is_(None))):
        numbers = sorted(set(connection.scalars(query)))
        if len(numbers) == 1:
            return read_images(connection, numbers)[0]
    rows = connection.execute(select(_IMAGES.id, _IMAGES.ref)).all()
    wanted = [row for row in rows if row[1].endswith("/" + name)] or [row for row in rows if row[0] in set(numbers)]
    if not wanted:
        error = UnknownName("image", name, [row[1] for row in rows] + [row[1].rpartition("/")[2] for row in rows])
        error.remedy = error.remedy if error.near else "See them all: site-db images list."
        raise error
    if len(wanted) > 1:
        raise AmbiguousName("image", name, [row[1] for row in wanted])
    return read_images(connection, [wanted[0][0]])[0]


def select_images(connection: Connection, patterns: Sequence[str]) -> list[KnownImage]:
    """The images whose reference or name matches any of some patterns (* and ?); all images without a pattern."""
    images = read_images(connection)
    if not patterns:
        return images
    found: dict[int, KnownImage] = {}
    for pattern in patterns:
        matching = [image for image in images if _matches(image, pattern)]
        if not matching:
            matching = [find_image(connection, pattern)]
        found.update((image.id, image) for image in matching)
    return sorted(found.values(), key=lambda image: image.reference)


def _matches(image: KnownImage, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in (image.reference, *image.names))


def read_seen(
    connection: Connection, since: int, image_id: int | None = None, site_ids: Sequence[int] | None = None
) -> list[Seen]:
    """What was observed since then: of all images or one, at all sites or these; in the order of image, site, profile."""
    conditions = [_IMAGE_COUNTS.newest >= since]
    if image_id is not None:
        conditions.append(_IMAGE_COUNTS.image_id == image_id)
    if site_ids is not None:
        conditions.append(_IMAGE_COUNTS.site_id.in_(site_ids))
    order = (_IMAGE_COUNTS.image_id, _IMAGE_COUNTS.site_id, _IMAGE_COUNTS.profile_id)
    query = select(tables.image_counts).where(*conditions).order_by(*order)
    return list(map(_seen, many_rows(connection, query)))


# Seen._make without its check of the length: a row has the columns of the table.
_seen = functools.partial(tuple.__new__, Seen)


def many_rows(connection: Connection, query: Executable, values: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """The rows of a query as the driver gives them: SQLAlchemy's own would cost more than the query where there are many."""
    cursor: Any = connection.execute(query, values).cursor
    assert cursor is not None  # noqa: S101 - a select has one, until it is read
    return iter(cursor)
