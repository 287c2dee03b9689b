"""What the factories have configured, what the registries know, and the operators' policy."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "configuration_files",
        sa.Column("id", _Id, nullable=False),
        sa.Column("factory", sa.String(255), nullable=False),
        sa.Column("path", sa.String(1024), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("imported_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_configuration_files"),
        sa.UniqueConstraint("factory", "path", name="uq_configuration_files_factory_path"),
    )
    op.create_table(
        "configured_entries",
        sa.Column("id", _Id, nullable=False),
        sa.Column("file_id", _Id, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("gatekeeper", sa.Text, nullable=False),
        sa.Column("gridtype", sa.Text, nullable=True),
        sa.Column("site", sa.Text, nullable=True),
        sa.Column("resource", sa.Text, nullable=True),
        sa.Column("section", sa.Text, nullable=True),
        sa.Column("vanished_at", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_configured_entries"),
        sa.ForeignKeyConstraint(
            ["file_id"], ["configuration_files.id"], name="fk_configured_entries_file_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("file_id", "name", name="uq_configured_entries_file_id_name"),
    )
    op.create_table(
        "configured_attributes",
        sa.Column("entry_id", _Id, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("flags", sa.Text, nullable=False),
        sa.Column("line", sa.Integer, nullable=True),
        sa.PrimaryKeyConstraint("entry_id", "kind", "name", name="pk_configured_attributes"),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["configured_entries.id"], name="fk_configured_attributes_entry_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "registered_resources",
        sa.Column("id", _Id, nullable=False),
        sa.Column("file_id", _Id, nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("site", sa.String(255), nullable=False),
        sa.Column("facility", sa.Text, nullable=True),
        sa.Column("resource_group", sa.Text, nullable=True),
        sa.Column("fqdn", sa.Text, nullable=True),
        sa.Column("active", sa.Boolean, nullable=True),
        sa.Column("country", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_registered_resources"),
        sa.ForeignKeyConstraint(
            ["file_id"], ["configuration_files.id"], name="fk_registered_resources_file_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("file_id", "site", "name", name="uq_registered_resources_file_id_site_name"),
    )
    op.create_table(
        "policy_rows",
        sa.Column("id", _Id, nullable=False),
        sa.Column("file_id", _Id, nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("entry", sa.Text, nullable=True),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("dated", sa.String(10), nullable=False),
        sa.Column("expires", sa.String(10), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_policy_rows"),
        sa.ForeignKeyConstraint(
            ["file_id"], ["configuration_files.id"], name="fk_policy_rows_file_id", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    raise NotImplementedError("a database goes forward only; go back by restoring a backup")
