"""History as rows: one a report, with what decides what can run, for whoever keeps it longer than the database does.

What is not known is None, never 0 or false. Names are those of the entry, site and node at the time of the export.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import ColumnElement, Select, func, select

from site_db import tables
from site_db.dialects import portions
from site_db.reduction import NO_NAME, UNKNOWN_SITE
from site_db.rollups import DAY_MICROSECONDS
from site_db.rules import default_rules, find
from site_db.store import Store
from site_db.verdicts import answer_of

# Rows of one portion: what is in memory at once, and one row group of a Parquet file.
ROWS_AT_ONCE = 20_000
_EPOCH = date(1970, 1, 1)
_REPORTS, _ENTRIES, _NODES, _PROFILES = tables.reports.c, tables.entries.c, tables.nodes.c, tables.profiles.c
_WORKS = {"yes": True, "no": False}

Kind = Literal["text", "texts", "time", "bool", "integer", "answers", "checks"]


class Field(NamedTuple):
    """One column: its name, its type, and where in a profile it stands (nothing: it is not taken as it is)."""

    name: str
    kind: Kind
    found: str = ""


REPORT_FIELDS = (
    Field("report_id", "text"),
    Field("created_at", "time"),
    Field("received_at", "time"),
    Field("complete", "bool"),
    Field("factory", "text"),
    Field("entry", "text"),
    Field("site", "text"),
    Field("resource", "text"),
    Field("machine_id", "text"),
    Field("machine_id_derived", "bool"),
    Field("hostname", "text"),
)
PROFILE_FIELDS = (
    Field("profile", "text"),
    Field("profile_version", "integer", "profile_version"),
    Field("arch", "text", "host.arch"),
    Field("microarch", "text", "host.microarch"),
    Field("os", "text", "host.os.id"),
    Field("os_version", "text", "host.os.version_id"),
    Field("kernel", "text"),
    Field("libc", "text", "host.libc"),
    Field("container", "text", "host.container.kind"),
    Field("cgroup_version", "integer", "host.cgroup.version"),
    Field("singularity_usable", "bool", "singularity.usable"),
    Field("singularity_reason", "text", "singularity.reason"),
    Field("singularity_mode", "text", "singularity.mode"),
    Field("singularity_product", "text", "singularity.product"),
    Field("singularity_version", "text", "singularity.version"),
    Field("setuid_installed", "bool", "singularity.setuid.installed"),
    Field("setuid_usable", "bool", "singularity.setuid.usable"),
    Field("cvmfs_kind", "text", "cvmfs.kind"),
    Field("gpu_status", "text", "gpus.status"),
    Field("gpu_reason", "text", "gpus.reason"),
    Field("gpu_driver_version", "text", "gpus.driver_version"),
    Field("gpu_cuda_version", "text", "gpus.cuda_version"),
    Field("gpu_rocm_version", "text", "gpus.rocm_version"),
    Field("gpu_devices", "integer"),
    Field("gpu_visible", "integer"),
    Field("gpu_models", "texts"),
    Field("answers", "answers"),
    Field("checks", "checks"),
)
FIELDS = (*REPORT_FIELDS, *PROFILE_FIELDS)

Facts = dict[str, Any]


class Day(NamedTuple):
    """The reports that were made on one UTC day: how many, and between which numbers of `reports` they stand."""

    day: date
    reports: int
    first: int
    last: int


class Rows(NamedTuple):
    """A portion of reports: the values of REPORT_FIELDS by column, each report's profile, and the facts of the profiles."""

    numbers: list[int]
    columns: dict[str, list[Any]]
    profiles: list[int]
    facts: Mapping[int, Facts]

    def mappings(self) -> Iterator[Facts]:
        """One mapping of FIELDS a report."""
        names = list(self.columns)
        for values, profile in zip(zip(*self.columns.values(), strict=True), self.profiles, strict=True):
            yield dict(zip(names, values, strict=True)) | self.facts[profile]


def list_days(store: Store) -> list[Day]:
    """Every day on which reports were made, the oldest first. Reads all of `reports` once, without their texts."""
    day = (_REPORTS.created_at // DAY_MICROSECONDS).label("day")
    query = select(day, func.count(), func.min(_REPORTS.id), func.max(_REPORTS.id)).group_by(day).order_by(day)
    with store.reading() as connection:
        return [Day(_EPOCH + timedelta(days=row[0]), *row[1:]) for row in connection.execute(query)]


def read_day(store: Store, day: Day) -> Iterator[Rows]:
    """The reports of a day in the order of their numbers, in portions; each is read in a transaction of its own."""
    names = (
        *(_REPORTS.report_id, _REPORTS.created_at, _REPORTS.received_at, _REPORTS.complete),
        *(_ENTRIES.factory, _ENTRIES.name, tables.sites.c.name, _ENTRIES.resource),
        *(_NODES.machine_id, _NODES.derived, _NODES.hostname),
    )
    query = (
        select(_REPORTS.id, _REPORTS.profile_id, *names)
        .join_from(tables.reports, tables.entries)
        .join(tables.sites, _ENTRIES.site_id == tables.sites.c.id)
        .join(tables.nodes, _REPORTS.node_id == _NODES.id)
    )
    for rows in _read(store, day, query):
        numbers, profiles, *columns = (list(column) for column in zip(*rows, strict=True))
        yield Rows(numbers, _plain(columns), profiles, _facts_of(store, set(profiles)))


def read_report_ids(store: Store, day: Day) -> Iterator[str]:
    """The ids of a day's reports."""
    for rows in _read(store, day, select(_REPORTS.id, _REPORTS.report_id)):
        yield from (uuid_text(bytes(row[1])) for row in rows)


def _read(store: Store, day: Day, query: Select[Any]) -> Iterator[Sequence[Any]]:
    """The rows of a query over `reports` for a day; their first value is the number of the report."""
    query = query.where(made_on(day.day), _REPORTS.id <= day.last).order_by(_REPORTS.id).limit(ROWS_AT_ONCE)
    last = day.first - 1
    while True:
        with store.reading() as connection:
            rows = connection.execute(query.where(_REPORTS.id > last)).all()
        if not rows:
            return
        yield rows
        last = rows[-1][0]


def made_on(day: date) -> ColumnElement[bool]:
    """The condition that a report was made on this UTC day."""
    start = (day - _EPOCH).days * DAY_MICROSECONDS
    return (_REPORTS.created_at >= start) & (_REPORTS.created_at < start + DAY_MICROSECONDS)


def _facts_of(store: Store, ids: set[int]) -> dict[int, Facts]:
    facts: dict[int, Facts] = {}
    with store.reading() as connection:
        for portion in portions(sorted(ids)):
            found = connection.execute(select(tables.profiles).where(_PROFILES.id.in_(portion)))
            facts.update((row.id, _facts(row.fingerprint, row.document)) for row in found)
    return facts


def _plain(columns: list[list[Any]]) -> dict[str, list[Any]]:
    named = dict(zip((field.name for field in REPORT_FIELDS), columns, strict=True))
    named["report_id"] = [uuid_text(bytes(value)) for value in named["report_id"]]
    for name in ("factory", "entry", "site", "resource", "hostname"):
        named[name] = [_name(value) for value in named[name]]
    for name in ("complete", "machine_id_derived"):
        named[name] = [bool(value) for value in named[name]]
    return named


def _name(value: str) -> str | None:
    """What stands for a name that no report gave is no name; nor is an entry made of it and the site."""
    return None if value in (NO_NAME, UNKNOWN_SITE) or value.startswith(f"{NO_NAME}@") else value


def uuid_text(identity: bytes) -> str:
    """A report's id as text."""
    digits = identity.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@lru_cache(2000)
def _facts(fingerprint: str, document: str) -> Facts:
    """The values of PROFILE_FIELDS. Hundreds of profiles stand for millions of reports: most are asked for again."""
    profile = orjson.loads(document)
    taken = {field.name: find(profile, tuple(field.found.split("."))) for field in PROFILE_FIELDS if field.found}
    kernel = find(profile, ("host", "kernel"))
    made = {
        "profile": fingerprint,
        "kernel": ".".join(map(str, kernel)) if kernel else None,
        **_gpu_counts(profile["gpus"]),
        "answers": _answers(profile),
        "checks": list(_checks(profile, "")),
    }
    return {field.name: made.get(field.name, taken.get(field.name)) for field in PROFILE_FIELDS}


def _gpu_counts(found: Mapping[str, Any]) -> Facts:
    """No device is none only where the node said so: one whose driver is missing or hung may have some."""
    devices = sum(device["count"] for device in found["devices"])
    models = sorted({device["model"] for device in found["devices"] if device["model"] is not None})
    none = found["reason"] == "gpu_none"
    seen = found.get("visible_count") if none or found["status"] in ("ok", "fail") else None
    return {
        "gpu_devices": devices if devices or none else None,
        "gpu_visible": seen,
        "gpu_models": models if models or none else None,
    }


def _answers(profile: dict[str, Any]) -> list[Facts]:
    found = []
    for row in default_rules().capabilities:
        for capability in row.members(profile):
            answer, reason = answer_of(profile, capability)
            found.append({"capability": capability.name, "works": _WORKS.get(answer), "reason": reason})
    return found


def _checks(place: Mapping[str, Any], name: str) -> Iterator[Facts]:
    """Whatever has a status and a reason, by the steps to it."""
    if "status" in place and "reason" in place:
        yield {"check": name, "status": place["status"], "reason": place["reason"]}
    for step, inner in place.items():
        if isinstance(inner, dict):
            yield from _checks(inner, f"{name}.{step}" if name else step)
