"""The revisions make the tables that the code uses."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from site_db.engine import VERSION_TABLE
from site_db.store import Store
from site_db.tables import metadata


def test_the_revisions_and_the_metadata_agree(store: Store) -> None:
    with store.reading() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []
