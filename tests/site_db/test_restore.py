"""A backup that is put back is the database that it was: by `site-db backup`, and by PostgreSQL's own tools as documented."""

import contextlib
import sqlite3
import stat
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import psycopg.sql
import pytest
from sqlalchemy import Connection, func, select

from site_db import tables, views
from site_db.backup import NoBackup, back_up
from site_db.restore import put_back
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
    assert put_back(url, tmp_path / "backup.db") is None
    check_restored(url, before, raw, known)


CRASHED = """
import os, sqlite3, sys
from site_db.store import Store
from tests.site_db.submissions import sample
store = Store.open(sys.argv[1])
store.add([sample(node=100 + node) for node in range(200)])
sqlite3.connect(sys.argv[1].removeprefix("sqlite:///")).execute("PRAGMA wal_checkpoint(TRUNCATE)")
store.add([sample(node=900)])
os._exit(0)
"""


def test_the_log_of_a_crashed_database_does_not_get_into_a_copy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'site.db'}"
    store = Store.open(url)
    raw, known = filled(store)
    back_up(store, tmp_path / "backup.db")
    before = contents(store)
    with pytest.raises(NoBackup, match="in use"):
        put_back(url, tmp_path / "backup.db")
    assert contents(store) == before
    store.close()
    subprocess.run([sys.executable, "-c", CRASHED, url], check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "site.db-wal").stat().st_size
    (tmp_path / "site.db").chmod(0o640)
    aside = put_back(url, tmp_path / "backup.db")
    assert aside == tmp_path / "site.db.replaced"
    assert stat.S_IMODE((tmp_path / "site.db").stat().st_mode) == 0o640
    with contextlib.closing(Store.open(f"sqlite:///{aside}")) as old:
        assert contents(old)[1] > before[1]
    with pytest.raises(NoBackup, match="there already"):
        put_back(url, tmp_path / "backup.db")
    check_restored(url, before, raw, known)
    with contextlib.closing(sqlite3.connect(tmp_path / "site.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_damaged_database_is_replaced_and_a_damaged_copy_is_not_taken(tmp_path: Path) -> None:
    place, url = tmp_path / "site.db", f"sqlite:///{tmp_path / 'site.db'}"
    with contextlib.closing(Store.open(url)) as store:
        raw, known = filled(store)
        back_up(store, tmp_path / "backup.db")
        before = contents(store)
    for name, content in {"text": b"x" * 5000, "empty": b"", "torn": (tmp_path / "backup.db").read_bytes()[:-8192]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NoBackup, match=name):
            put_back(url, tmp_path / name)
    with pytest.raises(NoBackup, match="no such file"):
        put_back(url, tmp_path / "nothing")
    place.write_bytes(b"\xff" * place.stat().st_size)
    assert put_back(url, tmp_path / "backup.db") == tmp_path / "site.db.replaced"
    check_restored(url, before, raw, known)


def test_a_database_on_postgresql_is_put_back_by_its_own_tool(tmp_path: Path) -> None:
    with pytest.raises(NoBackup) as raised:
        put_back("postgresql+psycopg://sitedb@db/sitedb", tmp_path / "site.dump")
    assert "pg_restore" in raised.value.remedy


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
