"""A backup that is put back is the database that it was: by `site-db backup`, and by PostgreSQL's own tools as documented."""

import shutil
import subprocess
import uuid
from pathlib import Path

import psycopg
import psycopg.sql
import pytest
from sqlalchemy import Connection, func, select

from site_db import tables, views
from site_db.backup import back_up
from site_db.store import Store
from tests.site_db.submissions import NOW, sample

ENTRY = "Example_T2_CE1"


def contents(store: Store) -> tuple[object, list[int]]:
    """What people read of the entry, and the number of rows of each table."""

    def count(connection: Connection, name: str) -> int:
        return connection.scalar(select(func.count()).select_from(tables.metadata.tables[name])) or 0

    with store.reading() as connection:
        rows = [count(connection, name) for name in sorted(tables.metadata.tables)]
    return views.entry_report(store, ENTRY, NOW).to_dict(), rows


def check_restored(url: str, before: tuple[object, list[int]], raw: bytes, known: bytes) -> None:
    restored = Store.open(url)
    assert contents(restored) == before
    assert restored.raw_report(known) == raw
    assert restored.add([sample(node=1), sample(node=77)]) == ["new", "new"]
    restored.close()


def filled(store: Store) -> tuple[bytes, bytes]:
    items = [sample("healthy" if node % 3 else "pid_masked", node=node) for node in range(40)]
    store.add(items)
    store.add([sample(node=1, hours_ago=0.5)])
    return items[0].raw, uuid.UUID(items[0].report["report_id"]).bytes


def test_a_copy_of_sqlite_takes_the_place_of_a_lost_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'site.db'}"
    store = Store.open(url)
    raw, known = filled(store)
    back_up(store, tmp_path / "backup.db")
    before = contents(store)
    store.close()
    for lost in tmp_path.glob("site.db*"):
        lost.unlink()
    shutil.copy(tmp_path / "backup.db", tmp_path / "site.db")
    check_restored(url, before, raw, known)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_dump_of_postgresql_goes_into_an_empty_database(
    store: Store, database_url: str, postgresql_socket: Path, tmp_path: Path
) -> None:
    raw, known = filled(store)
    name, other = database_url.partition("@/")[2].partition("?")[0], f"restored_{uuid.uuid4().hex}"
    access = ["--host", str(postgresql_socket), "--username", "postgres"]
    dump = tmp_path / "site.dump"
    subprocess.run(["pg_dump", *access, "--format=custom", f"--file={dump}", name], check=True)
    with psycopg.connect(host=str(postgresql_socket), user="postgres", autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(other)))
        subprocess.run(["pg_restore", *access, f"--dbname={other}", str(dump)], check=True)
        check_restored(database_url.replace(name, other), contents(store), raw, known)
        connection.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(other)))
