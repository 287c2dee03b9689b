"""History leaves as Parquet that other engines read, and only then the database."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from sqlalchemy import func, inspect, select

from site_db import history_retention, history_rows, tables, views
from site_db.changes_views import Wanted, list_changes
from site_db.errors import SiteDbError
from site_db.history import read_history
from site_db.history_folder import CannotKeepHistory, HistoryFolder, open_folder
from site_db.history_retention import DroppedHistory, drop_history
from site_db.history_rows import FIELDS, list_days
from site_db.parquet import NoParquet
from site_db.store import Store, Submission
from site_db.times import microseconds
from tests.sample_reports import sample_report
from tests.site_db.submissions import NOW, sample, submission

DAY = timedelta(days=1)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def of_day(days_ago: int, node: int = 1, case: str = "healthy", **changes: object) -> Submission:
    item = sample(case, node=node, hours_ago=24 * days_ago, **changes)
    return item._replace(received_at=NOW - days_ago * DAY)


def export(store: Store, path: Path) -> list[str]:
    with open_folder(path, make=True) as folder:
        return write_all(store, folder)


def write_all(store: Store, folder: HistoryFolder) -> list[str]:
    written = [folder.write(store, day) for day in list_days(store) if folder.needs(day)]
    return [str(one.path.relative_to(folder.path)) for one in written if one]


def ask(path: Path, question: str) -> list[tuple[Any, ...]]:
    """A question about `history`, put to DuckDB."""
    with duckdb.connect() as connection:
        source = f"read_parquet('{path}/*/*.parquet', hive_partitioning = true)"
        return connection.execute(f"WITH history AS (FROM {source}) {question}").fetchall()


@pytest.fixture
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_rows, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(history_retention, "_AT_ONCE", 3)


@pytest.mark.usefixtures("small_portions")
def test_duckdb_reads_what_the_database_has(store: Store, tmp_path: Path) -> None:
    store.add([of_day(ago, node, case) for ago, case in ((3, "pid_masked"), (1, "gpu")) for node in range(5)])
    assert export(store, tmp_path / "h") == ["day=2026-11-17/reports.parquet", "day=2026-11-19/reports.parquet"]
    found = ask(tmp_path / "h", "SELECT day, count(*), count(DISTINCT machine_id) FROM history GROUP BY 1 ORDER BY 1")
    assert found == [(date(2026, 11, 17), 5, 5), (date(2026, 11, 19), 5, 5)]
    question = "SELECT DISTINCT singularity_usable, singularity_reason, gpu_models, gpu_devices, kernel FROM history"
    broken, gpu = sorted(ask(tmp_path / "h", question))
    assert broken == (False, "proc_masked", [], 0, "5.14")
    assert (gpu[0], gpu[2]) == (True, ["NVIDIA A40"])
    [(made, machine)] = ask(tmp_path / "h", "SELECT epoch_us(max(created_at)), min(machine_id) FROM history")
    assert (made, machine) == (microseconds(NOW - DAY), "0" * 32)
    question = (
        "SELECT a.works, count(*) FROM history, unnest(answers) AS t(a) WHERE a.capability = 'pid_namespace' GROUP BY 1"
    )
    assert sorted(ask(tmp_path / "h", question)) == [(False, 5), (True, 5)]
    question = "SELECT DISTINCT c.status, c.reason FROM history, unnest(checks) AS t(c) WHERE c.check = 'namespaces.user'"
    assert ask(tmp_path / "h", question) == [("ok", None)]


@on_sqlite
def test_columns_have_types(store: Store, tmp_path: Path) -> None:
    store.add([of_day(1)])
    export(store, tmp_path / "h")
    kinds = {row[0]: row[1] for row in ask(tmp_path / "h", "SELECT column_name, column_type FROM (DESCRIBE history)")}
    triple = "STRUCT({}, {}, reason VARCHAR)[]"
    expected = {
        "text": "VARCHAR",
        "texts": "VARCHAR[]",
        "time": "TIMESTAMP WITH TIME ZONE",
        "bool": "BOOLEAN",
        "integer": "BIGINT",
        "answers": triple.format("capability VARCHAR", "works BOOLEAN"),
        "checks": triple.format('"check" VARCHAR', "status VARCHAR"),
    }
    assert kinds == {field.name: expected[field.kind] for field in FIELDS} | {"day": "DATE"}


@on_sqlite
def test_what_is_not_known_is_null(store: Store, tmp_path: Path) -> None:
    report = sample_report("deadline", created_at="2026-11-20T10:00:00Z", host__machine_id=None)
    report["glidein"] = dict.fromkeys(report["glidein"])
    report["host"]["cgroup"]["version"] = report["host"]["microarch"] = None
    report["gpus"] |= {"status": "timeout", "reason": "runtime_timeout", "visible": None}
    store.add([submission(report)])
    export(store, tmp_path / "h")
    names = (
        "entry, site, factory, resource, singularity_usable, cgroup_version, microarch, gpu_devices, "
        "gpu_visible, gpu_models"
    )
    assert ask(tmp_path / "h", f"SELECT {names} FROM history") == [(None,) * 10]
    question = "SELECT DISTINCT a.works FROM history, unnest(answers) AS t(a) WHERE a.capability = 'singularity'"
    assert ask(tmp_path / "h", question) == [(None,)]


@on_sqlite
def test_a_day_is_written_again_only_if_it_changed(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "h"
    store.add([of_day(2, 1), of_day(1, 1)])
    assert len(export(store, path)) == 2
    kept = path / "day=2026-11-18/reports.parquet"
    before = (kept.stat().st_ino, kept.stat().st_mtime_ns)
    assert export(store, path) == []
    store.add([of_day(1, 2)])
    assert export(store, path) == ["day=2026-11-19/reports.parquet"]
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == before
    assert ask(path, "SELECT count(*), count(DISTINCT report_id) FROM history") == [(3, 3)]


@on_sqlite
def test_a_run_that_dies_leaves_the_old_day(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "h"
    store.add([of_day(1, 1)])
    export(store, path)
    store.add([of_day(1, 2)])

    def dying(*_arguments: object) -> Iterator[object]:
        yield from ()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("site_db.history_folder.read_day", dying)
    with pytest.raises(CannotKeepHistory, match="No space left"):
        export(store, path)
    assert [file.name for file in (path / "day=2026-11-19").iterdir()] == ["reports.parquet"]
    assert ask(path, "SELECT count(*) FROM history") == [(1,)]
    monkeypatch.undo()
    assert len(export(store, path)) == 1


@pytest.mark.usefixtures("small_portions")
def test_history_goes_once_it_is_exported_and_what_was_concluded_stays(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "h"
    items = [of_day(ago, node, "healthy" if ago > 4 else "pid_masked") for ago in range(9, 0, -1) for node in range(8)]
    for start in range(0, len(items), 8):
        store.add(items[start : start + 8])
    before = concluded(store)
    export(store, path)
    store.add([of_day(8, 99)])  # came later, is in no file
    store.add([of_day(0, 100)])
    after = concluded(store)
    cutoff = (NOW - 3 * DAY).date()
    with open_folder(path) as folder:
        planned = drop_history(store, cutoff, folder, dry_run=True)
        assert reports(store) == len(items) + 2
        seen: list[DroppedHistory] = []
        assert drop_history(store, cutoff, folder, progress=seen.append) == planned
        assert drop_history(store, cutoff, folder) == DroppedHistory(0, planned.unexported)
    assert planned.reports > 6 * 8 - 20
    assert len(seen) > 5
    assert reports(store) == len(items) + 2 - planned.reports
    assert concluded(store) == after
    assert before["changes"] == after["changes"] != []
    assert before["entry"]["first"] == after["entry"]["first"]
    assert ask(path, "SELECT count(*) FROM history") == [(len(items),)]
    left = {name for name in indexes(store) if "retention" in name}
    assert left == set()
    assert store.add([items[-1]]) == ["known"]
    store.add([of_day(0, node) for node in range(8)])  # what refers to kept reports moves on


def concluded(store: Store) -> dict[str, Any]:
    history = read_history(store, NOW, 12)
    changes = list_changes(store, NOW, Wanted(None, None, None, None)).to_dict()["changes"]
    freshness = views.entry_report(store, "Example_T2_CE1", NOW).freshness
    return {
        "changes": changes,
        "history": [dict(history.nodes.get(day, {})) for day in history.days],
        "entry": {"freshness": freshness, "first": history.days[0]},
        "why": views.why(store, "Example_T2_CE1", "singularity", NOW),
        "sites": views.list_sites(store, NOW),
    }


def reports(store: Store) -> int:
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(tables.reports)) or 0


def indexes(store: Store) -> set[str]:
    with store.reading() as connection:
        found = inspect(connection)
        return {str(index["name"]) for table in found.get_table_names() for index in found.get_indexes(table)}


def test_only_what_is_exported_goes_unless_told(store: Store, tmp_path: Path) -> None:
    for ago in (5, 4, 0):
        store.add([of_day(ago)])
    with open_folder(tmp_path / "h", make=True) as folder:
        assert drop_history(store, NOW.date(), folder) == DroppedHistory(0, 2)
    assert reports(store) == 3
    assert drop_history(store, NOW.date(), None) == DroppedHistory(2, 0)
    assert reports(store) == 1


def test_reports_that_come_after_their_day_was_dropped_join_what_is_there(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "h"
    old = [of_day(5, node) for node in (1, 2, 3)]
    store.add(old)
    store.add([of_day(0, node) for node in (1, 2, 3)])
    export(store, path)
    with open_folder(path) as folder:
        assert drop_history(store, NOW.date(), folder).reports == 3
    late = of_day(5, 4)
    store.add([late, old[0]])  # one comes again, which nobody knows any more
    assert export(store, path) == ["day=2026-11-15/reports-2.parquet"]
    assert export(store, path) == []
    assert ask(path, "SELECT count(*), count(DISTINCT report_id) FROM history WHERE day = '2026-11-15'") == [(4, 4)]
    with open_folder(path) as folder:
        assert folder.report_ids(date(2026, 11, 15)) == {str(UUID(item.report["report_id"])) for item in (*old, late)}


@on_sqlite
def test_an_export_that_is_cut_off_leaves_no_report_twice(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "h"
    old = [of_day(5, node) for node in (1, 2, 3)]
    store.add(old)
    store.add([of_day(0, node) for node in (1, 2, 3)])
    export(store, path)
    with open_folder(path) as folder:
        assert drop_history(store, NOW.date(), folder).reports == 3
    store.add([of_day(5, 4)])
    assert export(store, path) == ["day=2026-11-15/reports-2.parquet"]
    store.add([*old, of_day(5, 5)])  # all come again: one file can stand for both
    count = "SELECT count(*) - count(DISTINCT report_id) FROM history"
    with monkeypatch.context() as patched:
        unlink = Path.unlink
        patched.setattr(Path, "unlink", lambda at, **more: 1 // 0 if at.name == "reports-2.parquet" else unlink(at, **more))
        with pytest.raises(ZeroDivisionError):
            export(store, path)
    assert ask(path, count) == [(0,)]
    assert export(store, path) == ["day=2026-11-15/reports.parquet"]
    assert ask(path, f"{count} WHERE day = '2026-11-15'") == [(0,)]
    assert ask(path, "SELECT count(*) FROM history WHERE day = '2026-11-15'") == [(5,)]


@on_sqlite
def test_days_that_were_dropped_do_not_come_back(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "h"
    store.add([of_day(ago) for ago in (5, 4, 1)])
    export(store, path)
    with open_folder(path) as folder:
        folder.drop(date(2026, 11, 16))
        assert folder.days() == [date(2026, 11, 16), date(2026, 11, 19)]
    assert export(store, path) == []
    with open_folder(path) as folder:
        folder.drop(date(2026, 11, 1))
        assert folder.dropped_before == date(2026, 11, 16)
        assert drop_history(store, date(2026, 11, 16), folder).unexported == 0
    assert sorted(place.name for place in path.iterdir()) == [
        "_site_db_history.json",
        "day=2026-11-16",
        "day=2026-11-19",
    ]


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").touch()
    with pytest.raises(CannotKeepHistory, match="no folder that"), open_folder(tmp_path, make=True):
        pass
    with pytest.raises(CannotKeepHistory), open_folder(tmp_path / "missing"):
        pass
    twice = open_folder(tmp_path / "h", make=True)
    with open_folder(tmp_path / "h", make=True), pytest.raises(CannotKeepHistory, match="another run"), twice:
        pass
    (tmp_path / "h/_site_db_history.json").write_text("[")
    with pytest.raises(CannotKeepHistory, match="damaged"), open_folder(tmp_path / "h"):
        pass


@on_sqlite
def test_a_damaged_file_is_named_and_nothing_is_dropped(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "h"
    store.add([of_day(5, 1), of_day(5, 2), of_day(0, 1)])
    export(store, path)
    file = path / "day=2026-11-15/reports.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(NoParquet, match="day=2026-11-15") as caught:
        export(store, path)
    assert isinstance(caught.value, SiteDbError)
    with open_folder(path) as folder, pytest.raises(NoParquet):
        drop_history(store, NOW.date(), folder)
    assert reports(store) == 3


@on_sqlite
def test_times_are_whole_microseconds(store: Store, tmp_path: Path) -> None:
    store.add([sample(created_at="2026-11-20T10:00:00.123456Z")])
    export(store, tmp_path / "h")
    made = datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=UTC)
    question = "SELECT epoch_us(created_at), epoch_us(received_at) FROM history"
    assert ask(tmp_path / "h", question) == [(microseconds(made), microseconds(NOW))]
    assert json.loads((tmp_path / "h/_site_db_history.json").read_text() or "{}") == {}
