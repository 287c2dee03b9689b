"""Several collectors on one database, and programs that die: nothing twice, nothing acknowledged lost."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from uuid import UUID

from sqlalchemy import func, select

from site_db import tables
from site_db.store import Store
from tests.sample_reports import CASES
from tests.site_db.submissions import sample

_CHILD = """
import sys
from site_db.store import Store
from tests.site_db.submissions import sample
store = Store.open(sys.argv[1])
number = 0
while True:
    number += 1
    item = sample(node=number)
    store.add([item])
    print(item.report["report_id"], flush=True)
"""


def _counted(store: Store) -> tuple[int, int]:
    """Nodes by entry, and reports, as the kept counts have them."""
    with store.reading() as connection:
        nodes = connection.scalar(select(func.sum(tables.entry_counts.c.nodes)))
        reports = connection.scalar(select(func.sum(tables.site_totals.c.reports)))
    return int(nodes or 0), int(reports or 0)


def _observed(store: Store) -> tuple[int, int]:
    with store.reading() as connection:
        nodes = connection.scalar(select(func.count()).select_from(tables.observations))
        reports = connection.scalar(select(func.sum(tables.observations.c["count"])))
    return int(nodes or 0), int(reports or 0)


def test_collectors_that_start_together_share_a_new_database(database_url: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(Store.open, [database_url] * 8))
    assert [store.add([sample(node=7)]) for store in stores] == [["new"]] * 8
    for store in stores:
        store.close()


def test_collectors_that_get_the_same_reports_store_each_once(database_url: str) -> None:
    cases = list(CASES)
    items = [
        sample(cases[number % 8], node=number % 7, glidein__entry=f"E{number % 5}", glidein__site=f"S{number % 3}")
        for number in range(60)
    ]

    def collect(seed: int) -> int:
        store = Store.open(database_url)
        mine = items[:]
        Random(seed).shuffle(mine)
        new = [store.add(mine[start : start + 12]).count("new") for start in range(0, len(mine), 12)]
        store.close()
        return sum(new)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(collect, range(4))) == len(items)
    store = Store.open(database_url)
    with store.reading() as connection:
        assert connection.scalar(select(func.sum(tables.observations.c["count"]))) == len(items)
    assert _counted(store) == _observed(store)
    store.close()


def test_what_was_acknowledged_survives_a_kill(database_url: str) -> None:
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, database_url], stdout=subprocess.PIPE, text=True, cwd=root
    )
    assert child.stdout
    acknowledged = [child.stdout.readline().strip() for _ in range(20)]
    child.kill()
    acknowledged += [line.strip() for line in child.stdout.read().splitlines()]
    child.wait(timeout=30)
    child.stdout.close()
    store = Store.open(database_url)
    assert all(store.raw_report(UUID(report_id).bytes) for report_id in acknowledged)
    assert store.add([sample(node=999)]) == ["new"]
    assert _counted(store) == _observed(store)
    store.close()
