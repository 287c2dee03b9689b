"""Import: files of every kind are recognised, read whole, and stored together in one transaction or not at all."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml.nodes import MappingNode, Node
from sqlalchemy import Connection, Table, delete, select, update

from site_db import tables
from site_db.configuration.autoconf import Sources, compose_yaml, entry_defaults, load_yaml, parse_autoconf
from site_db.configuration.factory_folder import read_around
from site_db.configuration.factory_xml import parse_factory_xml
from site_db.configuration.model import ATTR, NAME_LIMIT, SUBMIT_ATTR, BrokenFile, Entry, Parsed, Problem
from site_db.configuration.policy import parse_policy
from site_db.configuration.registries import is_topology, parse_cric, read_topology
from site_db.configuration.vanishing import Imported, ImportedFile, forget_missing
from site_db.storable import storable
from site_db.store import Store
from site_db.times import microseconds

_SIZE_LIMIT = 64 << 20
_PATH_LIMIT = 1024
_YAML = (".yml", ".yaml")
_SUFFIXES = (".xml", *_YAML, ".json", ".toml")
_ROWS_AT_ONCE = 1000
# What the other files of autoconf begin with.
_NO_WHITELIST = frozenset({"DEFAULT_SITE", "DEFAULT_ENTRY", "OSG_WHITELISTS", "OSG_COLLECTOR"})
Row = dict[str, Any]


class ReadFile(NamedTuple):
    """A file that was read: where it is, what is in it, the SHA-256 of its bytes."""

    path: str
    parsed: Parsed
    sha256: bytes


@dataclass(frozen=True)
class Beside:
    """The files that autoconf whitelists are merged with, where they are not beside the whitelist."""

    defaults: Path | None = None
    collected: Path | None = None
    names: Mapping[str, str] = field(default_factory=lambda: {"defaults": "default.yml", "collected": "OSG.yml"})


def import_files(
    store: Store,
    paths: Sequence[Path],
    factory: str,
    now: datetime,
    beside: Beside | None = None,
    progress: Callable[[str], None] = lambda _path: None,
) -> Imported:
    """Read all files, then store them: an error in any of them leaves the database as it was.

    What was imported for this factory from a folder that is given, and is not there any more, counts no more.
    Raises BrokenFile for a file that cannot be read, with its place; DatabaseUnavailable.
    """
    read = list(read_files(paths, beside or Beside(), progress))
    with store.writing() as connection:
        files = [_store(connection, item, factory, now) for item in read]
        files += forget_missing(connection, list(filter(_is_folder, paths)), [item.path for item in read], factory, now)
    return Imported(factory, tuple(files), tuple(_overridden(read)))


def read_files(
    paths: Sequence[Path], beside: Beside, progress: Callable[[str], None] = lambda _path: None
) -> Iterator[ReadFile]:
    """The files at these paths, folders searched. Raises BrokenFile."""
    for path in dict.fromkeys(_expanded(paths)):
        progress(str(path))
        yield _read(path.absolute(), beside)


def read_configuration(path: Path, beside: Beside) -> tuple[bytes, Parsed]:
    """One file of entries: its bytes and what they say. Raises BrokenFile for one without entries."""
    data = _bytes(path)
    parsed = _parse(path, data, beside)
    if parsed.kind not in ("factory_xml", "autoconf"):
        raise BrokenFile(str(path), "holds no entries", "Give a factory's XML or an autoconf whitelist.")
    return data, parsed


def reader(path: Path, parsed: Parsed, beside: Beside) -> Callable[[bytes], Parsed]:
    """How to read other content of the same file."""
    if parsed.kind == "factory_xml":
        return lambda data: _parse_factory_xml(path, data)
    sources = _sources(path, beside)
    return lambda data: parse_autoconf(data, str(path), sources)


def _expanded(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not _is_folder(path):
            yield path
            continue
        found = sorted(item for item in path.rglob("*") if item.suffix in _SUFFIXES and item.is_file())
        if not found:
            raise BrokenFile(str(path), "no configuration in this folder", f"Looked for {', '.join(_SUFFIXES)}.")
        yield from found


def _is_folder(path: Path) -> bool:
    """Whether it is a folder of files; a Topology tree counts as one file."""
    return path.is_dir() and not is_topology(path)


def _read(path: Path, beside: Beside) -> ReadFile:
    if len(str(path)) > _PATH_LIMIT:
        raise BrokenFile(str(path), f"a path of more than {_PATH_LIMIT} characters")
    if path.is_dir():
        try:
            parsed = read_topology(path)
        except OSError as error:
            raise BrokenFile(str(path), f"cannot be read: {error.strerror}") from error
        return ReadFile(str(path), parsed, hashlib.sha256(repr(parsed.resources).encode()).digest())
    data = _bytes(path)
    return ReadFile(str(path), _parse(path, data, beside), hashlib.sha256(data).digest())


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise BrokenFile(str(path), f"cannot be read: {error.strerror}", "Give a file that you may read.") from error
    if len(data) > _SIZE_LIMIT:
        raise BrokenFile(str(path), f"larger than {_SIZE_LIMIT >> 20} MiB")
    return data


def _parse(path: Path, data: bytes, beside: Beside) -> Parsed:
    file = str(path)
    if path.suffix in _YAML:
        return _parse_yaml(path, data, beside)
    if path.suffix == ".json":
        return parse_cric(data, file)
    if path.suffix == ".toml":
        return parse_policy(data, file)
    return _parse_factory_xml(path, data)


def _parse_factory_xml(path: Path, data: bytes) -> Parsed:
    around, problems = read_around(path.absolute())
    parsed = parse_factory_xml(data, str(path), around)
    return replace(parsed, problems=(*parsed.problems, *problems))


def _parse_yaml(path: Path, data: bytes, beside: Beside) -> Parsed:
    """A whitelist; or one of the other files of autoconf, which are read with the whitelists and hold no entries."""
    # By its nodes: the real config.yaml has a key twice, which ends the loading of values.
    root = compose_yaml(data, str(path))
    if _names_in(root) & _NO_WHITELIST or _is_collected(root):
        return Parsed("autoconf", problems=(Problem(str(path), "read with the whitelists: no entries in it"),))
    return parse_autoconf(data, str(path), _sources(path, beside))


def _is_collected(root: Node | None) -> bool:
    """Whether it is the generated OSG.yml: at the place of entries only DEFAULT_ENTRY."""
    found = root
    for _ in range(3):
        found = found.value[0][1] if isinstance(found, MappingNode) and found.value else None
    return _names_in(found) == {"DEFAULT_ENTRY"}


def _names_in(node: Node | None) -> set[str]:
    return {str(key.value) for key, _ in node.value} if isinstance(node, MappingNode) else set()


def _sources(path: Path, beside: Beside) -> Sources:
    defaults = beside.defaults or _if_there(path.with_name(beside.names["defaults"]))
    collected = beside.collected or _if_there(path.with_name(beside.names["collected"]))
    return Sources(
        entry_defaults(load_yaml(_bytes(defaults), str(defaults)), str(defaults)) if defaults else {},
        (load_yaml(_bytes(collected), str(collected)) or {}) if collected else {},
    )


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _overridden(read: Sequence[ReadFile]) -> Iterator[Problem]:
    """Entries in several files: the factory reads them by name of the file and takes the last."""
    first: dict[str, str] = {}
    for item in sorted(read, key=lambda item: Path(item.path).name):
        for entry in item.parsed.entries:
            if entry.name in first and first[entry.name] != item.path:
                place = f"{item.path}:{entry.line}"
                text = f"entry {entry.name} replaces the one in {Path(first[entry.name]).name}"
                yield Problem(place, text)
            first[entry.name] = item.path


def _store(connection: Connection, item: ReadFile, factory: str, now: datetime) -> ImportedFile:
    columns = tables.configuration_files.c
    at = microseconds(now)
    about = {"kind": item.parsed.kind, "sha256": item.sha256, "imported_at": at}
    same = (columns.factory == factory) & (columns.path == storable(item.path))
    number = connection.scalar(select(columns.id).where(same))
    if number is None:
        row = {"factory": factory, "path": storable(item.path), **about}
        number = _insert_one(connection, tables.configuration_files, row)
    else:
        connection.execute(update(tables.configuration_files).where(columns.id == number).values(about))
    new, changed, vanished = _store_entries(connection, number, item.parsed.entries, at)
    _replace(connection, tables.registered_resources, number, _resource_rows(item.parsed))
    _replace(connection, tables.policy_rows, number, _policy_rows(item.parsed))
    return ImportedFile(
        path=item.path,
        kind=item.parsed.kind,
        entries=len(item.parsed.entries),
        resources=len(item.parsed.resources),
        policy_rows=len(item.parsed.policy),
        new=new,
        changed=changed,
        vanished=vanished,
        problems=item.parsed.problems,
    )


def _store_entries(
    connection: Connection, file_id: int, entries: Sequence[Entry], at: int
) -> tuple[int, int, tuple[str, ...]]:
    """Bring the entries of a file to what it says now: how many are new, how many changed, which are gone."""
    columns = tables.configured_entries.c
    rows = connection.execute(select(tables.configured_entries).where(columns.file_id == file_id)).mappings()
    there = {row["name"]: dict(row) for row in rows}
    before = _stored_settings(connection, file_id)
    wanted = {storable(entry.name): entry for entry in entries}
    new = changed = 0
    settings: list[Row] = []
    for name, entry in wanted.items():
        row, old = _entry_row(name, entry, file_id), there.get(name)
        if old is None:
            number = _insert_one(connection, tables.configured_entries, row)
            new += 1
        else:
            number = old["id"]
        after = _setting_rows(number, entry)
        if old is not None and {key: old[key] for key in row} == row and before.get(number, []) == _sorted(after):
            continue
        if old is not None:
            connection.execute(update(tables.configured_entries).where(columns.id == number).values(row))
            _forget_settings(connection, number)
            changed += 1
        settings += after
    _insert(connection, tables.configured_attributes, settings)
    gone = [there_row for name, there_row in there.items() if name not in wanted and there_row["vanished_at"] is None]
    for old in gone:
        connection.execute(update(tables.configured_entries).where(columns.id == old["id"]).values(vanished_at=at))
    return new, changed, tuple(old["name"] for old in gone)


def _entry_row(name: str, entry: Entry, file_id: int) -> Row:
    if len(name) > NAME_LIMIT:
        raise BrokenFile(f"line {entry.line}", f"an entry's name of more than {NAME_LIMIT} characters")
    texts = ("gatekeeper", "gridtype", "site", "resource", "section")
    values = {text: getattr(entry, text) for text in texts}
    return {
        "file_id": file_id,
        "name": name,
        "line": entry.line,
        "enabled": entry.enabled,
        **{text: None if value is None else storable(value) for text, value in values.items()},
        "vanished_at": None,
    }


def _setting_rows(entry_id: int, entry: Entry) -> list[Row]:
    rows = []
    for kind, settings in ((ATTR, entry.attrs), (SUBMIT_ATTR, entry.submit_attrs)):
        for setting in settings.values():
            rows.append(
                {
                    "entry_id": entry_id,
                    "kind": kind,
                    "name": storable(setting.name)[:NAME_LIMIT],
                    "value": storable(setting.value),
                    "type": storable(setting.type)[:16],
                    "flags": json.dumps({name: storable(flag) for name, flag in sorted(setting.flags.items())}),
                    "line": setting.line,
                }
            )
    return list({(row["kind"], row["name"]): row for row in rows}.values())


def _stored_settings(connection: Connection, file_id: int) -> dict[int, list[Row]]:
    query = (
        select(tables.configured_attributes)
        .join_from(tables.configured_attributes, tables.configured_entries)
        .where(tables.configured_entries.c.file_id == file_id)
    )
    found: dict[int, list[Row]] = {}
    for row in connection.execute(query).mappings():
        found.setdefault(row["entry_id"], []).append(dict(row))
    return {number: _sorted(rows) for number, rows in found.items()}


def _sorted(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["kind"], row["name"]))


def _forget_settings(connection: Connection, entry_id: int) -> None:
    columns = tables.configured_attributes.c
    connection.execute(delete(tables.configured_attributes).where(columns.entry_id == entry_id))


def _resource_rows(parsed: Parsed) -> list[Row]:
    texts = ("facility", "resource_group", "fqdn", "country")
    rows = [
        {
            "name": storable(item.name)[:NAME_LIMIT],
            "site": storable(item.site)[:NAME_LIMIT],
            "active": item.active,
            **{text: None if (value := getattr(item, text)) is None else storable(value) for text in texts},
        }
        for item in parsed.resources
    ]
    return list({(row["site"], row["name"]): row for row in rows}.values())


def _policy_rows(parsed: Parsed) -> list[Row]:
    return [
        {
            "line": row.line,
            "action": row.action,
            "target": storable(row.target),
            "entry": None if row.entry is None else storable(row.entry),
            "author": storable(row.author),
            "reason": storable(row.reason),
            "dated": row.dated.isoformat(),
            "expires": row.expires.isoformat(),
        }
        for row in parsed.policy
    ]


def _replace(connection: Connection, table: Table, file_id: int, rows: list[Row]) -> None:
    connection.execute(delete(table).where(table.c.file_id == file_id))
    _insert(connection, table, [{"file_id": file_id, **row} for row in rows])


def _insert_one(connection: Connection, table: Table, row: Row) -> int:
    return int(connection.execute(table.insert().values(row).returning(table.c.id)).scalar_one())


def _insert(connection: Connection, table: Table, rows: list[Row]) -> None:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        connection.execute(table.insert(), rows[start : start + _ROWS_AT_ONCE])
