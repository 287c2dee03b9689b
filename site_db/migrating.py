"""Migrations, by Alembic: bringing a database's tables to this release's form. Imported only where one is due."""

from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, inspect, text

from site_db.engine import VERSION_TABLE, place, told_plainly
from site_db.errors import DatabaseTooNew, DatabaseUnavailable

_MIGRATION_LOCK = 0x51DB  # any number, the same in every release: two collectors that start together migrate in turn


def migrate(engine: Engine, revision: str | None = None) -> None:
    """Bring the tables to this release's form (or an older `revision`), in one transaction: all of it or nothing.

    Raises DatabaseTooNew for a revision that this release doesn't know, DatabaseUnavailable for a database with other
    tables in it; neither is touched.
    """
    config = Config()
    config.set_main_option("script_location", str(resources.files("site_db") / "migrations").replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    wanted = revision or script.get_current_head()
    with told_plainly(engine):
        with engine.connect() as connection:
            if _known_revision(connection, script) == wanted:
                return
        with engine.execution_options(writes=True).begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            _known_revision(connection, script)
            config.attributes["connection"] = connection
            command.upgrade(config, revision or "head")


def _known_revision(connection: Connection, script: ScriptDirectory) -> str | None:
    tables = inspect(connection).get_table_names()
    if tables and VERSION_TABLE not in tables:
        raise DatabaseUnavailable(
            f"{place(connection.engine)} holds tables of another program ({', '.join(sorted(tables)[:3])}).",
            "Give the URL of an empty database, or of one that site-db made.",
        )
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    revision = context.get_current_revision()
    try:
        script.get_revisions(revision or ())
    except CommandError as error:
        raise DatabaseTooNew(
            f"{place(connection.engine)} was written by a newer release (revision {revision!r}); nothing was changed.",
            "Upgrade this program to the release that last wrote the database, or give another database.",
        ) from error
    return revision
