"""Raw reports go, conclusions stay; a copy is whole while somebody writes."""

import threading
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from site_db import retention, views
from site_db.backup import NoBackup, back_up
from site_db.retention import Dropped, drop_raw_reports
from site_db.sizes import read_sizes
from site_db.store import Store
from tests.site_db.submissions import NOW, sample


def test_old_raw_reports_go_and_what_they_said_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_AT_ONCE", 3)
    items = [sample(node=n)._replace(received_at=NOW - timedelta(days=20 - n)) for n in range(15)]
    for item in items:
        store.add([item])
    before = views.entry_report(store, "Example_T2_CE1", NOW).freshness
    cutoff = NOW - timedelta(days=10, hours=1)
    planned = drop_raw_reports(store, cutoff, dry_run=True)
    seen: list[Dropped] = []
    assert drop_raw_reports(store, cutoff, progress=seen.append) == planned
    assert (planned.reports, len(seen)) == (10, 4)
    assert planned.size_bytes > 1000
    kept = [store.raw_report(UUID(item.report["report_id"]).bytes) is not None for item in items]
    assert kept == [False] * 10 + [True] * 5
    assert views.entry_report(store, "Example_T2_CE1", NOW).freshness == before
    assert views.why(store, "Example_T2_CE1", "singularity", NOW).examples
    assert store.add([items[0]]) == ["known"]
    assert drop_raw_reports(store, cutoff) == Dropped(0, 0)


def test_sizes_are_told(store: Store) -> None:
    store.add([sample(node=1), sample(node=2)])
    sizes = read_sizes(store)
    assert (sizes.reports, sizes.nodes) == (2, 2)
    assert sizes.database_bytes > 10_000


def test_a_copy_is_one_state_while_reports_come_in(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'site.db'}")
    store.add([sample(node=number) for number in range(200)])
    writing, done = threading.Event(), threading.Event()

    def write() -> None:
        number = 200
        while not done.is_set():
            number += 1
            store.add([sample(node=number)])
            writing.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert writing.wait(30)
    size = back_up(store, tmp_path / "copy.db")
    done.set()
    writer.join()
    assert size == (tmp_path / "copy.db").stat().st_size
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    copy = Store.open(f"sqlite:///{tmp_path / 'copy.db'}")
    told, there = read_sizes(copy), read_sizes(store)
    assert 200 < told.reports <= there.reports
    assert copy.add([sample(node=9999)]) == ["new"]
    copy.close()
    with pytest.raises(NoBackup, match="there already"):
        back_up(store, tmp_path / "copy.db")
    with pytest.raises(NoBackup, match=r"missing"):
        back_up(store, tmp_path / "missing/copy.db")
    store.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_postgresql_is_copied_by_its_own_tool(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NoBackup, match="its own tool") as caught:
        back_up(store, tmp_path / "copy")
    assert "pg_dump" in caught.value.remedy
