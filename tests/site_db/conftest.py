"""Every test that takes `database_url` or `store` runs on SQLite and on a private PostgreSQL."""

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import psycopg.sql
import pytest

from site_db.store import Store

# A server of its own: no TCP, no disk flushes, gone with the test run.
_SETTINGS = ("listen_addresses=''", "fsync=off", "shared_buffers=16MB", "max_connections=20")


def _run_as_postgres(*command: str, cwd: Path) -> None:
    as_user = ("runuser", "-u", "postgres", "--") if os.geteuid() == 0 else ()  # PostgreSQL refuses to run as root
    subprocess.run([*as_user, *command], check=True, cwd=cwd, stdout=subprocess.DEVNULL)


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgresql_socket() -> Iterator[Path]:
    """The socket folder of a private server, user `postgres`."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed (apt-get install postgresql)")
    # Not pytest's folder: postgres may not enter root's, and the path of a socket may have only 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    data, log = folder / "data", folder / "log"
    options = " ".join(f"-c {setting}" for setting in (*_SETTINGS, f"unix_socket_directories='{folder}'"))
    control = [str(programs / "pg_ctl"), "--silent", "-D", str(data)]
    init_options = "-U postgres -A trust -E UTF8 --locale=C --no-sync"
    try:
        _run_as_postgres(*control, "initdb", "-o", init_options, cwd=folder)
        _run_as_postgres(*control, "--wait", "-l", str(log), "-o", options, "start", cwd=folder)
        try:
            yield folder
        finally:
            _run_as_postgres(*control, "--wait", "-m", "immediate", "stop", cwd=folder)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'site.db'}"
        return
    socket = request.getfixturevalue("postgresql_socket")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(host=str(socket), user="postgres", autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        yield f"postgresql+psycopg://postgres@/{name}?host={socket}"
        connection.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(name)))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store.open(database_url)
    yield opened
    opened.close()
