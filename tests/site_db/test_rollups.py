"""The kept counts agree with what is observed, whatever comes in whatever order."""

import random

from sqlalchemy import func, select

from site_db import rollups, tables
from site_db.store import Store
from tests.sample_reports import CASES
from tests.site_db.submissions import sample

COUNTED = ("entry_counts", "site_counts", "entry_totals", "site_totals")
_STALE = {"oldest", "newest", "report"}  # of a count: bounds, and an example; its node may have moved on


def kept(store: Store) -> dict[str, set[tuple[object, ...]]]:
    found = {}
    for name in COUNTED:
        columns = [column for column in tables.metadata.tables[name].columns if column.name not in _STALE]
        with store.reading() as connection:
            found[name] = {tuple(row) for row in connection.execute(select(*columns))}
    return found


def test_counts_kept_report_by_report_are_those_made_anew(store: Store) -> None:
    chance = random.Random(11)
    cases = list(CASES)
    for _ in range(12):
        batch = [
            sample(
                chance.choice(cases),
                node=chance.randrange(9),
                hours_ago=chance.uniform(1, 24 * 12),
                glidein__entry=f"E{chance.randrange(4)}",
                glidein__site=f"S{chance.randrange(3)}",  # entries move from site to site
            )
            for _ in range(10)
        ]
        store.add(batch)
    before = kept(store)
    with store.writing() as connection:
        rollups.rebuild(connection)
    assert before == kept(store)
    assert all(before.values())


def test_a_node_counts_each_day_once_with_its_last_report(store: Store) -> None:
    store.add([sample("healthy", node=1, hours_ago=50), sample("no_runtime", node=1, hours_ago=49)])
    store.add([sample("healthy", node=2, hours_ago=49), sample("healthy", node=1, hours_ago=2)])
    store.add([sample("no_runtime", node=2, hours_ago=60)])  # too late: what it would replace is not known
    days = tables.daily_nodes.c
    with store.reading() as connection:
        rows = connection.execute(select(days.day, func.sum(days.nodes)).group_by(days.day).order_by(days.day)).all()
        kinds = connection.execute(select(days.profile_id, days.nodes)).all()
    assert [int(nodes) for _, nodes in rows] == [2, 1]
    assert len(kinds) == 3
