"""Parquet files of history: the columns of history_rows with their types, written a portion at a time (pyarrow).

What a file holds stands in its footer: how many reports, and the last number of `reports` among them. So whether a day
has changed is known without a list of our own beside the files.
"""

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from site_db.errors import SiteDbError
from site_db.extras import how_to_install
from site_db.history_rows import FIELDS, PROFILE_FIELDS, REPORT_FIELDS, Facts, Field, Rows
from site_db.rules import default_rules

# A change of the columns: days are written again in the new form, as far as the database still has their reports.
FORM = 1
_FORM_KEY, _LAST_KEY = b"site_db.form", b"site_db.last_report"


class NoParquet(SiteDbError):
    """pyarrow is not installed, or a file is none of ours."""


class DayFile(NamedTuple):
    """What the footer of a file says."""

    path: Path
    form: int
    reports: int
    last: int


def library() -> Any:  # noqa: ANN401 - pyarrow has no types
    """pyarrow with its Parquet part, imported late: it costs 0.2 s. Raises NoParquet."""
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise NoParquet("Parquet needs pyarrow, which is not installed.", how_to_install("parquet")) from error


def write_file(path: Path, portions: Iterable[Rows]) -> int:
    """Write the portions, a row group each; how many reports that are. The caller gives a path that nobody reads yet."""
    pa = library()
    profile_schema = _schema(pa, PROFILE_FIELDS)
    schema = _schema(pa, FIELDS)
    reports = last = 0
    with pa.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in portions:
            writer.write_table(_table(pa, rows, schema, profile_schema), row_group_size=len(rows.numbers))
            reports += len(rows.numbers)
            last = max(last, *rows.numbers)
        told = {_FORM_KEY: FORM, _LAST_KEY: last, b"site_db.rules_version": default_rules().version}
        writer.add_key_value_metadata({key: str(value).encode() for key, value in told.items()})
    return reports


def read_footer(path: Path) -> DayFile:
    """What a file says about itself. Raises NoParquet for one that is damaged or not ours."""
    with _readable(path) as pa:
        footer = pa.parquet.read_metadata(path)
        told = footer.metadata or {}
        return DayFile(path, int(told[_FORM_KEY]), footer.num_rows, int(told[_LAST_KEY]))


def report_ids(path: Path) -> Iterator[str]:
    """The ids of all reports of a file. Raises NoParquet for one that is damaged or not ours."""
    with _readable(path) as pa, pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["report_id"]):
            yield from batch.column(0).to_pylist()


@contextmanager
def _readable(path: Path) -> Iterator[Any]:
    pa = library()
    try:
        yield pa
    except (pa.ArrowException, KeyError, ValueError, OSError) as error:
        message = f"{path} is damaged, or was not written by site-db export parquet: {error}."
        raise NoParquet(message, "Move it away: the next export writes what the database still has.") from error


def _table(pa: Any, rows: Rows, schema: Any, profile_schema: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    """The facts of each profile become columns once, and are then taken by every report of it."""
    order = list(rows.facts)
    place = {number: index for index, number in enumerate(order)}
    facts: list[Facts] = [rows.facts[number] for number in order]
    taken = pa.Table.from_pylist(facts, schema=profile_schema).take(pa.array([place[one] for one in rows.profiles]))
    own = [pa.array(rows.columns[field.name], type=schema.field(field.name).type) for field in REPORT_FIELDS]
    return pa.Table.from_arrays([*own, *taken.columns], schema=schema)


def _schema(pa: Any, fields: Iterable[Field]) -> Any:  # noqa: ANN401 - pyarrow has no types
    text = pa.string()
    kinds = {
        "text": text,
        "texts": pa.list_(text),
        "time": pa.timestamp("us", tz="UTC"),
        "bool": pa.bool_(),
        "integer": pa.int64(),
        "answers": pa.list_(pa.struct([("capability", text), ("works", pa.bool_()), ("reason", text)])),
        "checks": pa.list_(pa.struct([("check", text), ("status", text), ("reason", text)])),
    }
    return pa.schema([(field.name, kinds[field.kind]) for field in fields])
