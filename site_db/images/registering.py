"""Writing down which images there are: catalogues, single images, what each needs. Each call is one transaction."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, select, update

from site_db import tables
from site_db.dialects import insert_for, portions
from site_db.images.bounded_files import read_file
from site_db.images.catalogues import SIZE_LIMIT, Catalogue, Listed, WrongLine, parse_catalogue
from site_db.images.model import Requirements, combine, from_json
from site_db.site_reports import SiteReportPart
from site_db.storable import storable
from site_db.store import Store
from site_db.times import microseconds

_ROWS = tables.catalogue_images.c
_PATH_LIMIT = 1024

Row = dict[str, Any]
Key = tuple[str, str]


@dataclass(frozen=True)
class Imported(SiteReportPart):
    """What became of one catalogue. `gone`: names that it has no more; they stay in the database, marked."""

    path: str
    kind: str
    images: int
    patterns: int
    new: int
    changed: int
    gone: tuple[str, ...]
    wrong: tuple[WrongLine, ...]


class Given(NamedTuple):
    """Facts about one image, and where they are from: a path that was inspected, or a file that declares them."""

    way: Literal["inspected", "declared"]
    requirements: Requirements
    origin: str


def import_catalogue(store: Store, path: Path, now: datetime, kind: str | None = None) -> Imported:
    """Bring the database to what a catalogue says now. Raises Unreadable, BrokenCatalogue."""
    data = read_file(path, SIZE_LIMIT)
    place = storable(str(path.absolute()))[:_PATH_LIMIT]
    # A byte that is no UTF-8 becomes a character that no name has: its line is named as wrong.
    catalogue = parse_catalogue(data.decode("utf-8", "replace").removeprefix("\ufeff"), str(path), kind)
    with store.writing() as connection:
        number = _catalogue_id(connection, place, catalogue.kind, hashlib.sha256(data).digest(), now)
        new, changed, gone = _merge(connection, number, catalogue, now)
    patterns = sum(image.is_pattern for image in catalogue.images)
    count = len(catalogue.images) - patterns
    return Imported(str(path), catalogue.kind, count, patterns, new, changed, tuple(sorted(gone)), catalogue.wrong)


def add_image(store: Store, reference: str, facts: Sequence[Given], now: datetime) -> Requirements:
    """Add an image, or new facts of one that is there; returns all that is known now.

    What is inspected replaces what was inspected before, what is declared what was declared before.
    """
    with store.writing() as connection:
        number = image_ids(connection, [storable(reference)])[storable(reference)]
        if facts:
            statement = insert_for(connection, tables.image_requirements)
            statement = statement.on_conflict_do_update(
                index_elements=["image_id", "way"],
                set_={name: statement.excluded[name] for name in ("document", "origin", "inspected_at")},
            )
            connection.execute(statement, [{"image_id": number, **_given(given, now)} for given in facts])
        return stored_requirements(connection, [number]).get(number, Requirements({}))


def stored_requirements(connection: Connection, image_ids: Sequence[int] | None = None) -> dict[int, Requirements]:
    """What was written down about all images (or these): what is declared goes before what was inspected."""
    column = tables.image_requirements.c
    query = select(column.image_id, column.document).order_by(column.image_id, column.way.desc())
    if image_ids is not None:
        query = query.where(column.image_id.in_(image_ids))
    found: dict[int, Requirements] = {}
    for number, document in connection.execute(query):  # "inspected" comes before "declared" in this order
        requirements = from_json(document)
        found[number] = combine(requirements, found[number]) if number in found else requirements
    return found


def image_ids(connection: Connection, references: Iterable[str]) -> dict[str, int]:
    """The numbers of images by reference; one that is missing is made."""
    hashes = {hashlib.sha256(reference.encode()).digest(): reference for reference in references}
    column = tables.images.c
    rows = [{"ref_sha256": digest, "ref": hashes[digest]} for digest in sorted(hashes)]
    if rows:
        statement = insert_for(connection, tables.images).on_conflict_do_nothing(index_elements=["ref_sha256"])
        connection.execute(statement, rows)
    found = {}
    for portion in portions(sorted(hashes)):
        query = select(column.ref_sha256, column.id).where(column.ref_sha256.in_(portion))
        found.update({hashes[bytes(digest)]: number for digest, number in connection.execute(query)})
    return found


def _given(given: Given, now: datetime) -> Row:
    origin = storable(given.origin)[:_PATH_LIMIT]
    row = {"way": given.way, "document": given.requirements.to_json(), "origin": origin}
    return {**row, "inspected_at": microseconds(now)}


def _catalogue_id(connection: Connection, path: str, kind: str, sha256: bytes, now: datetime) -> int:
    column = tables.image_catalogues.c
    statement = insert_for(connection, tables.image_catalogues)
    names = ("kind", "sha256", "imported_at")
    statement = statement.on_conflict_do_update(
        index_elements=["path"], set_={name: statement.excluded[name] for name in names}
    )
    row = {"path": path, "kind": kind, "sha256": sha256, "imported_at": microseconds(now)}
    connection.execute(statement, [row])
    return int(connection.execute(select(column.id).where(column.path == path)).scalar_one())


def _merge(
    connection: Connection, catalogue_id: int, catalogue: Catalogue, now: datetime
) -> tuple[int, int, list[str]]:
    """Returns how many images are new, how many changed (or came back), and the names of those that went."""
    query = select(tables.catalogue_images).where(_ROWS.catalogue_id == catalogue_id)
    before = {(row["name"], row["arch"]): row for row in connection.execute(query).mappings()}
    numbers = image_ids(connection, sorted({image.reference for image in catalogue.images if not image.is_pattern}))
    wanted: dict[Key, Row] = {(image.name, image.arch or ""): _row(image, numbers) for image in catalogue.images}
    new = [{"catalogue_id": catalogue_id, **row} for key, row in wanted.items() if key not in before]
    changed = [(before[key], row) for key, row in wanted.items() if key in before]
    changed = [(old, row) for old, row in changed if any(old[name] != value for name, value in row.items())]
    gone = [row for key, row in before.items() if key not in wanted and row["gone_at"] is None]
    if new:
        connection.execute(tables.catalogue_images.insert(), new)
    for old, row in changed:
        connection.execute(update(tables.catalogue_images).where(_ROWS.id == old["id"]).values(row))
    _mark_gone(connection, [row["id"] for row in gone], now)
    moved = [old for old, row in changed if any(old[name] != row[name] for name in ("reference", "gone_at"))]
    return len(new), len(moved), [row["name"] for row in gone]


def _row(image: Listed, numbers: dict[str, int]) -> Row:
    return {
        "name": image.name,
        "arch": image.arch or "",
        "line": image.line,
        "reference": image.reference,
        "image_id": numbers.get(image.reference),
        "gone_at": None,
    }


def _mark_gone(connection: Connection, ids: Sequence[int], now: datetime) -> None:
    for portion in portions(ids):
        statement = update(tables.catalogue_images).where(_ROWS.id.in_(portion))
        connection.execute(statement.values(gone_at=microseconds(now)))
