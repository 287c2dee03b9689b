"""Which reports are stored already, asked again and again over one connection, on both databases."""

import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import text

from site_db.errors import DatabaseUnavailable
from site_db.known_reports import KnownReports, known_reports
from site_db.store import Store
from tests.site_db.submissions import sample


@pytest.fixture
def ask(database_url: str) -> Iterator[KnownReports]:
    with closing(KnownReports(database_url)) as found:
        yield found


def test_what_others_store_meanwhile_is_seen(store: Store, ask: KnownReports):
    submissions = [sample(node=number) for number in range(1, 4)]
    ids = [uuid.UUID(item.report["report_id"]).bytes for item in submissions]
    assert ask([]) == ask(ids) == set()
    for count, submission in enumerate(submissions, 1):
        store.add([submission])
        assert ask(ids) == known_reports(store, ids) == set(ids[:count])
    assert ask([uuid.uuid4().bytes for _ in range(1500)] + ids[:1]) == {ids[0]}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_after_a_connection_was_lost_it_asks_over_another(store: Store, ask: KnownReports):
    store.add([submission := sample()])
    ids = [uuid.UUID(submission.report["report_id"]).bytes]
    assert ask(ids) == set(ids)
    with store.writing() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    with pytest.raises(DatabaseUnavailable):
        ask(ids)
    assert ask(ids) == set(ids)
