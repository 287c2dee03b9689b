"""What is asked about images: the list, the match of one, the matrix, a pick, coverage. Each reads one state."""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from site_db import tables
from site_db.images.fleet import (
    Fleet,
    KnownImage,
    Seen,
    find_image,
    observations_since,
    read_fleet,
    read_images,
    read_seen,
    reports_since,
    select_images,
    site_ids,
)
from site_db.images.matching import (
    Disagreement,
    Judged,
    SiteMatch,
    disagreements,
    judged,
    match_sites,
    total_of,
)
from site_db.images.matrix import Matrix, Pick, make_matrix, pick, read_observed
from site_db.images.needs import Predictions
from site_db.images.selection import Condition
from site_db.rules import Rules, default_rules
from site_db.site_reports import SiteReportPart
from site_db.store import Store
from site_db.times import moment

_COUNTS, _LISTED, _CATALOGUES = tables.image_counts.c, tables.catalogue_images.c, tables.image_catalogues.c
_SHOWN_DISAGREEMENTS = 200


@dataclass(frozen=True)
class Coverage:
    """How far the tests of one image reach: nodes and sites on which it was tried, and when last."""

    nodes: int
    sites: int
    yes: int
    no: int
    newest: datetime


@dataclass(frozen=True)
class Listing(SiteReportPart):
    """One image of the list. `catalogues`: paths of the files that name it now."""

    image: str
    names: tuple[str, ...]
    catalogues: tuple[str, ...]
    requirements: dict[str, Any]
    coverage: Coverage | None


@dataclass(frozen=True)
class PatternListing:
    """A line of a catalogue that stands for every tag that matches; `known`: images that do."""

    name: str
    reference: str
    catalogue: str
    known: int


@dataclass(frozen=True)
class ImageList(SiteReportPart):
    """All images. `gone`: names that a catalogue had once and has no more, with their references."""

    generated_at: datetime
    images: tuple[Listing, ...]
    patterns: tuple[PatternListing, ...]
    gone: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ImageMatch(SiteReportPart):
    """One image against the fleet."""

    image: str
    names: tuple[str, ...]
    generated_at: datetime
    window_days: int
    requirements: dict[str, Any]
    total: Judged
    total_gpu: Judged | None
    coverage: Coverage | None
    sites: tuple[SiteMatch, ...]
    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True)
class SiteImage(SiteReportPart):
    """One image at one site."""

    image: str
    names: tuple[str, ...]
    match: SiteMatch


@dataclass(frozen=True)
class SiteImages(SiteReportPart):
    """All images at one site, those that run on the most nodes first."""

    site: str
    generated_at: datetime
    images: tuple[SiteImage, ...]


def list_images(store: Store, now: datetime) -> ImageList:
    """All images that a catalogue lists, that were added, or that nodes reported."""
    with store.reading() as connection:
        images = read_images(connection)
        coverage = _coverage(connection, observations_since(now))
        rows = connection.execute(
            select(_LISTED.name, _LISTED.reference, _LISTED.image_id, _LISTED.gone_at, _CATALOGUES.path)
            .join_from(tables.catalogue_images, tables.image_catalogues)
            .order_by(_LISTED.name, _CATALOGUES.path)
        ).all()
    listed: dict[int, list[str]] = {}
    for row in rows:
        if row.image_id is not None and row.gone_at is None:
            listed.setdefault(row.image_id, []).append(row.path)
    references = [image.reference for image in images]
    patterns = [
        PatternListing(row.name, row.reference, row.path, len(fnmatch.filter(references, row.reference)))
        for row in rows
        if row.image_id is None and row.gone_at is None
    ]
    listings = [_listing(image, listed.get(image.id, ()), coverage.get(image.id)) for image in images]
    gone = tuple((row.name, row.reference) for row in rows if row.gone_at is not None)
    return ImageList(now, tuple(listings), tuple(patterns), gone)


@dataclass(frozen=True)
class Nodes:
    """The nodes of all sites, and what they say to images: for who asks about many images one after the other."""

    fleet: Fleet
    predictions: Predictions


def all_nodes(store: Store, now: datetime, rules: Rules | None = None) -> Nodes:
    """The nodes of all sites that reported within the window."""
    with store.reading() as connection:
        return _all_nodes(connection, now, rules or default_rules())


def _all_nodes(connection: Connection, now: datetime, rules: Rules) -> Nodes:
    fleet = read_fleet(connection, reports_since(now, rules))
    return Nodes(fleet, Predictions(fleet.kinds))


def match_image(
    store: Store, name: str, now: datetime, rules: Rules | None = None, nodes: Nodes | None = None
) -> ImageMatch:
    """One image at every site; `nodes`: those of `all_nodes`, if they were read already. Raises UnknownName, AmbiguousName."""
    rules = rules or default_rules()
    since = observations_since(now)
    with store.reading() as connection:
        image = find_image(connection, name)
        nodes = nodes or _all_nodes(connection, now, rules)
        seen = read_seen(connection, since, image.id)
    sites = match_sites(image, nodes.fleet, nodes.predictions, seen, rules)
    gpus = [match.gpu.counts for match in sites if match.gpu]
    found = disagreements(image, nodes.fleet, nodes.predictions.of(image.need), seen, _SHOWN_DISAGREEMENTS)
    return ImageMatch(
        image=image.reference,
        names=image.names,
        generated_at=now,
        window_days=rules.window_days,
        requirements=image.requirements.to_dict(),
        total=judged(total_of(match.start.counts for match in sites), rules),
        total_gpu=judged(total_of(gpus), rules) if gpus else None,
        coverage=_coverage_of(seen),
        sites=tuple(sites),
        disagreements=tuple(found),
    )


def images_at_site(store: Store, name: str, now: datetime, rules: Rules | None = None) -> SiteImages:
    """Every image at one site. Raises UnknownName."""
    rules = rules or default_rules()
    with store.reading() as connection:
        numbers = site_ids(connection, [name])
        fleet = read_fleet(connection, reports_since(now, rules), numbers)
        images = read_images(connection)
        seen = read_seen(connection, observations_since(now), site_ids=numbers)
    by_image: dict[int, list[Any]] = {}
    for row in seen:
        by_image.setdefault(row.image_id, []).append(row)
    predictions = Predictions(fleet.kinds)
    found = [
        SiteImage(
            image.reference, image.names, match_sites(image, fleet, predictions, by_image.get(image.id, []), rules)[0]
        )
        for image in images
    ]
    found.sort(key=lambda item: (-item.match.start.counts.yes, item.match.start.counts.no, item.image))
    return SiteImages(next(iter(fleet.sites.values())), now, tuple(found))


@dataclass(frozen=True)
class Wanted:
    """Which images and sites: patterns of names, conditions on facts, names of sites (none: all), GPU needs."""

    images: Sequence[str] = ()
    conditions: Sequence[Condition] = ()
    sites: Sequence[str] = ()
    gpu: bool = False


def image_matrix(store: Store, now: datetime, wanted: Wanted, rules: Rules | None = None) -> Matrix:
    """Images by sites, with the nodes that run each. Raises UnknownName."""
    rules = rules or default_rules()
    with store.reading() as connection:
        numbers = site_ids(connection, wanted.sites) if wanted.sites else None
        images = _wanted_images(connection, wanted)
        fleet = read_fleet(connection, reports_since(now, rules), numbers)
        observed = read_observed(connection, observations_since(now), numbers)
    return make_matrix(images, fleet, Predictions(fleet.kinds), observed, now, wanted.gpu)


def all_disagreements(store: Store, now: datetime, wanted: Wanted, rules: Rules | None = None) -> list[Disagreement]:
    """Where prediction and observation contradict each other, over all these images and sites, the most nodes first."""
    rules = rules or default_rules()
    found: list[Disagreement] = []
    with store.reading() as connection:
        numbers = site_ids(connection, wanted.sites) if wanted.sites else None
        images = {image.id: image for image in _wanted_images(connection, wanted)}
        fleet = read_fleet(connection, reports_since(now, rules), numbers)
        seen = read_seen(connection, observations_since(now), site_ids=numbers)
    predictions = Predictions(fleet.kinds)
    for row in seen:
        if row.image_id in images:
            image = images[row.image_id]
            found += disagreements(image, fleet, predictions.of(image.need), [row])
    return sorted(found, key=lambda item: (-item.nodes, item.image, item.site))


def pick_images(store: Store, now: datetime, wanted: Wanted, rules: Rules | None = None) -> Pick:
    """A small set of these images that covers most nodes of these sites. Raises UnknownName."""
    rules = rules or default_rules()
    with store.reading() as connection:
        numbers = site_ids(connection, wanted.sites) if wanted.sites else None
        images = _wanted_images(connection, wanted)
        fleet = read_fleet(connection, reports_since(now, rules), numbers)
        observed = read_observed(connection, observations_since(now), numbers)
    return pick(images, fleet, Predictions(fleet.kinds), observed, wanted.gpu)


def known_image(store: Store, name: str) -> KnownImage:
    """One image. Raises UnknownName, AmbiguousName."""
    with store.reading() as connection:
        return find_image(connection, name)


def _wanted_images(connection: Connection, wanted: Wanted) -> list[KnownImage]:
    images = select_images(connection, wanted.images)
    return [
        image
        for image in images
        if all(condition.holds(image.reference, image.names, image.requirements) for condition in wanted.conditions)
    ]


def _coverage(connection: Connection, since: int) -> dict[int, Coverage]:
    """Of every image that was tried since then."""
    nodes = func.sum(_COUNTS.nodes)
    query = (
        select(
            _COUNTS.image_id,
            nodes,
            func.count(_COUNTS.site_id.distinct()),
            nodes.filter(_COUNTS.status == "ok"),
            nodes.filter(_COUNTS.status.in_(("fail", "timeout"))),
            func.max(_COUNTS.newest),
        )
        .where(_COUNTS.newest >= since, _COUNTS.status != "skipped")
        .group_by(_COUNTS.image_id)
    )
    return {
        row[0]: Coverage(int(row[1]), row[2], int(row[3] or 0), int(row[4] or 0), moment(row[5]))
        for row in connection.execute(query)
    }


def _coverage_of(seen: Iterable[Seen]) -> Coverage | None:
    """As `_coverage`, of one image, of which all was read that was observed; None where it was not tried."""
    nodes: dict[str, int] = {}
    sites: set[int] = set()
    newest = 0
    for _, site, _, status, _, count, when in seen:
        if status == "skipped":
            continue
        nodes[status] = nodes.get(status, 0) + count
        sites.add(site)
        newest = when if when > newest else newest
    if not nodes:
        return None
    no = nodes.get("fail", 0) + nodes.get("timeout", 0)
    return Coverage(sum(nodes.values()), len(sites), nodes.get("ok", 0), no, moment(newest))


def _listing(image: KnownImage, catalogues: Iterable[str], coverage: Coverage | None) -> Listing:
    return Listing(image.reference, image.names, tuple(catalogues), image.requirements.to_dict(), coverage)
