"""The revisions make the tables that the code uses, on data that is there, and all of it or nothing."""

import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, select, text

from site_db import tables, views
from site_db.engine import VERSION_TABLE, migrate, newest_revision, open_engine
from site_db.store import Store
from site_db.tables import metadata
from tests.sample_reports import CASES
from tests.site_db.submissions import NOW, sample

ROOT = Path(__file__).parents[2]
OLDER = ("profiles", "sites", "entries", "nodes", "reports", "raw_reports", "observations")
COUNTS = ("entry_counts", "site_counts", "entry_totals", "site_totals", "daily_nodes")

# Opens a database in which a migration is due, and stops for ever in the middle of it.
_STUCK = """
import sys
import alembic.op
real = alembic.op.create_index
def create_index(*arguments, **options):
    real(*arguments, **options)
    print("halfway", flush=True)
    sys.stdin.read()
alembic.op.create_index = create_index
from site_db.store import Store
Store.open(sys.argv[1])
"""


def test_the_revisions_and_the_metadata_agree(store: Store) -> None:
    with store.reading() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def rows(store: Store, name: str) -> list[tuple[object, ...]]:
    with store.reading() as connection:
        return sorted(tuple(row) for row in connection.execute(select(tables.metadata.tables[name])))


def fill_older(database_url: str, like: Store) -> None:
    """A database of revision 0002 with the rows that `like` has in the tables of that time."""
    engine = open_engine(database_url)
    migrate(engine, "0002")
    with like.reading() as there, engine.execution_options(writes=True).begin() as here:
        assert "entry_counts" not in inspect(here).get_table_names()
        for name in OLDER:
            table = tables.metadata.tables[name]
            here.execute(insert(table), [dict(row) for row in there.execute(select(table)).mappings()])
            if "id" in table.columns and here.dialect.name == "postgresql":
                here.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"))
    engine.dispose()


def example(tmp_path: Path) -> Store:
    """A store with reports of some days, one a commit."""
    store = Store.open(f"sqlite:///{tmp_path / 'example.db'}")
    for number in range(24):
        case = list(CASES)[number % len(CASES)]
        names = {"glidein__entry": f"E{number % 3}", "glidein__site": f"S{number % 2}" if number > 20 else "S0"}
        store.add([sample(case, node=number % 5, hours_ago=24 * 6 - number * 5, **names)])
    return store


def test_counts_are_made_from_what_is_there(database_url: str, tmp_path: Path) -> None:
    reference = example(tmp_path)
    fill_older(database_url, reference)
    store = Store.open(database_url)
    stale = {"entry_counts": 4, "site_counts": 4, "entry_totals": 3, "site_totals": 3}
    for name in COUNTS:
        plain = [row[: stale.get(name)] for row in rows(store, name)]
        assert plain == [row[: stale.get(name)] for row in rows(reference, name)], name
    shown = views.list_sites(store, NOW).to_dict()
    assert shown["sites"]
    store.close()
    reference.close()


def test_a_kill_in_the_middle_of_a_migration_harms_nothing(database_url: str, tmp_path: Path) -> None:
    reference = example(tmp_path)
    fill_older(database_url, reference)
    child = subprocess.Popen(
        [sys.executable, "-c", _STUCK, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert child.stdout
    assert child.stdin
    assert child.stdout.readline().strip() == "halfway"
    child.kill()
    child.wait(timeout=30)
    child.stdout.close()
    child.stdin.close()
    store = Store.open(database_url)
    assert rows(store, "reports") == rows(reference, "reports")
    assert len(rows(store, "daily_nodes")) == len(rows(reference, "daily_nodes"))
    assert store.add([sample(node=99)]) == ["new"]
    store.close()
    reference.close()


def test_the_newest_file_is_the_newest_revision() -> None:
    """By its name alone it is known, without Alembic, that nothing is to be done."""
    script = ScriptDirectory(str(ROOT / "site_db" / "migrations"))
    assert script.get_current_head() == newest_revision()


def test_a_database_that_is_up_to_date_is_opened_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'site.db'}"
    Store.open(url).close()
    program = (
        "import sys; from site_db.store import Store; Store.open(sys.argv[1]).close(); print('alembic' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.strip() == "False"
