"""Storing reports: once each, the newest counts, nothing hostile breaks it."""

import random
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select, text

from site_db import tables
from site_db.engine import VERSION_TABLE
from site_db.errors import DatabaseTooNew, DatabaseUnavailable
from site_db.store import Store
from tests.sample_reports import CASES, image, sample_report
from tests.site_db.submissions import sample, submission


def _count(store: Store, name: str) -> int:
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(tables.metadata.tables[name])) or 0


def _observations(store: Store) -> list[tuple[object, ...]]:
    query = (
        select(
            tables.entries.c.name,
            tables.sites.c.name,
            tables.nodes.c.hostname,
            tables.profiles.c.fingerprint,
            *(tables.observations.c[name] for name in ("created_at", "first_seen", "count")),
        )
        .select_from(tables.observations)
        .join(tables.entries)
        .join(tables.sites)
        .join(tables.nodes)
        .join(tables.profiles)
        .order_by(tables.entries.c.name, tables.nodes.c.hostname)
    )
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_a_report_is_new_once_and_known_afterwards(store: Store) -> None:
    one, two = sample(node=1), sample(node=2)
    assert store.add([one, two, one]) == ["new", "new", "known"]
    assert store.add([two, sample(node=3)]) == ["known", "new"]
    assert store.add([]) == []
    counts = {name: _count(store, name) for name in ("reports", "raw_reports", "observations", "nodes", "profiles")}
    assert counts == {"reports": 3, "raw_reports": 3, "observations": 3, "nodes": 3, "profiles": 1}


def test_the_report_is_kept_as_it_came(store: Store) -> None:
    report = sample_report()
    sent = submission(report)._replace(raw=b'{"as": "it came" }')
    store.add([sent])
    with store.reading() as connection:
        report_id = connection.scalar(select(tables.reports.c.report_id))
    assert store.raw_report(bytes(report_id or b"")) == b'{"as": "it came" }'
    assert store.raw_report(b"\0" * 16) is None


def test_a_late_report_does_not_overwrite_a_newer_one(store: Store) -> None:
    newer, older = sample("no_runtime", hours_ago=1), sample("healthy", hours_ago=5)
    store.add([newer])
    before = _observations(store)[0]
    store.add([older])
    after = _observations(store)[0]
    assert after[:5] == before[:5]
    assert (before[6], after[6]) == (1, 2)
    assert after[5] == before[5] - 4 * 3600 * 1_000_000  # first seen goes back


def test_the_order_of_arrival_makes_no_difference(database_url: str, tmp_path: Path) -> None:
    cases = list(CASES)
    arrivals = [
        sample(cases[number % len(cases)], node=number % 3, hours_ago=number, glidein__site=f"Site{number % 2}")
        for number in range(1, 13)
    ]
    reference = Store.open(f"sqlite:///{tmp_path / 'reference.db'}")
    reference.add(arrivals)
    expected = _observations(reference)
    reference.close()
    random.Random(7).shuffle(arrivals)
    store = Store.open(database_url)
    for start in range(0, len(arrivals), 5):
        store.add(arrivals[start : start + 5])
    assert _observations(store) == expected
    store.close()


def test_a_report_from_the_future_counts_as_made_when_it_came(store: Store) -> None:
    store.add([sample("no_runtime", created_at="9999-01-01T00:00:00Z")])
    store.add([submission(sample_report(created_at="2026-02-30T00:00:60Z"))])  # fits the schema's pattern, is no date
    with store.reading() as connection:
        assert all(row.created_at == row.received_at for row in connection.execute(select(tables.reports)))


def test_a_run_by_hand_is_stored_under_the_site_it_names(store: Store) -> None:
    nothing = dict.fromkeys(("factory", "entry", "site", "resource"))
    by_hand = {f"glidein__{name}": value for name, value in nothing.items()}
    store.add([sample(node=1, **by_hand), sample(node=2, **{**by_hand, "glidein__site": "Home"})])
    assert [row[:2] for row in _observations(store)] == [("(none)", "(unknown)"), ("(none)@Home", "Home")]


def test_a_node_without_machine_id_is_known_by_host_and_entry(store: Store) -> None:
    store.add(
        [
            sample(host__machine_id=None, hours_ago=2),
            sample(host__machine_id=None, hours_ago=1),
            sample(host__machine_id=None, glidein__entry="Other"),
        ]
    )
    with store.reading() as connection:
        assert [row.derived for row in connection.execute(select(tables.nodes))] == [True, True]
    assert [row[6] for row in _observations(store)] == [2, 1]


def test_hostile_names_are_stored_without_control_characters(store: Store) -> None:
    long_ref = "".join(chr(0x10000 + number * 7) for number in range(2048))
    hostile = sample(
        glidein__site="a\0b\x1b[31m\ud800",
        glidein__entry="'; DROP TABLE nodes; --",
        host__libc="glibc\0",
        images=[image(long_ref), image("\0"), image(long_ref)],
    )
    assert store.add([hostile]) == ["new"]
    assert [row[:2] for row in _observations(store)] == [("'; DROP TABLE nodes; --", "a\ufffdb\ufffd[31m\ufffd")]
    assert _count(store, "images") == 2


def test_the_newest_outcome_of_an_image_is_kept(store: Store) -> None:
    store.add([sample(hours_ago=1, images=[image("/i", "fail", "image_missing")])])
    store.add([sample(hours_ago=9, images=[image("/i"), image("/j")])])
    query = (
        select(tables.images.c.ref, tables.image_observations.c.reason)
        .join_from(tables.images, tables.image_observations)
        .order_by(tables.images.c.ref)
    )
    with store.reading() as connection:
        assert [tuple(row) for row in connection.execute(query)] == [("/i", "image_missing"), ("/j", None)]


def test_a_database_opens_again_with_what_it_holds(database_url: str) -> None:
    for expected in ("new", "known"):
        store = Store.open(database_url)
        assert store.add([submission(sample_report(report_id="00000000-0000-0000-0000-000000000001"))]) == [expected]
        store.ping()
        store.close()


def test_the_folder_of_a_new_database_is_made(tmp_path: Path) -> None:
    Store.open(f"sqlite:///{tmp_path}/new/folder/site.db").close()
    assert (tmp_path / "new/folder/site.db").is_file()


def test_a_newer_database_is_refused_and_left_alone(database_url: str, tmp_path: Path) -> None:
    Store.open(database_url).close()
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = 'ffff'"))
    before = (tmp_path / "site.db").read_bytes() if engine.dialect.name == "sqlite" else None
    with pytest.raises(DatabaseTooNew, match="'ffff'") as caught:
        Store.open(database_url)
    assert "Upgrade" in caught.value.remedy
    if before:
        assert (tmp_path / "site.db").read_bytes() == before
    engine.dispose()


def test_the_database_of_another_program_is_refused_and_left_alone(database_url: str) -> None:
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE reports (mine INTEGER)"))
    with pytest.raises(DatabaseUnavailable, match="another program") as caught:
        Store.open(database_url)
    assert "empty database" in caught.value.remedy
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM reports")) == 0
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///{tmp}", "unable to open"),
        ("sqlite:///{tmp}/text.db/site.db", "cannot be made"),
        ("sqlite:///{tmp}/text.db", "not a database"),
        ("sqlite:///file:{tmp}/empty.db?mode=ro&uri=true", "readonly"),
        ("postgresql+psycopg://nobody:secret@/none?host={tmp}", "failed"),
        ("postgres://nobody@/none?host={tmp}", "failed"),
        ("mysql://localhost/x", "mysql"),
        ("oracle:", "no database"),
        ("just words", "no database"),
    ],
)
def test_what_is_no_database_is_refused_with_place_and_remedy(url: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, but longer than a header\n" * 100)
    (tmp_path / "empty.db").touch()
    with pytest.raises(DatabaseUnavailable, match=words) as caught:
        Store.open(url.format(tmp=tmp_path))
    assert caught.value.remedy
    assert "secret" not in str(caught.value)


def test_a_damaged_database_is_told_not_traced(tmp_path: Path) -> None:
    path = tmp_path / "site.db"
    store = Store.open(f"sqlite:///{path}")
    store.add([sample(node=number) for number in range(50)])
    store.close()
    body = bytearray(path.read_bytes())
    body[4096:] = b"\xa5" * (len(body) - 4096)
    path.write_bytes(body)
    with pytest.raises(DatabaseUnavailable, match=r"site\.db") as caught:
        Store.open(f"sqlite:///{path}").add([sample(node=99)])
    assert "backup" in caught.value.remedy
