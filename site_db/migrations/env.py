"""Alembic's entry: runs the revisions on the connection that `site_db.engine` hands over, inside its transaction."""

from alembic import context

from site_db.engine import VERSION_TABLE
from site_db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
