"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "profiles",
        sa.Column("id", _Id, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_profiles"),
        sa.UniqueConstraint("fingerprint", name="uq_profiles_fingerprint"),
    )
    op.create_table(
        "sites",
        sa.Column("id", _Id, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sites"),
        sa.UniqueConstraint("name", name="uq_sites_name"),
    )
    op.create_table(
        "entries",
        sa.Column("id", _Id, nullable=False),
        sa.Column("factory", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("site_id", _Id, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_entries"),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_entries_site_id"),
        sa.UniqueConstraint("factory", "name", name="uq_entries_factory_name"),
    )
    op.create_index("ix_entries_site_id", "entries", ["site_id"])
    op.create_table(
        "nodes",
        sa.Column("id", _Id, nullable=False),
        sa.Column("machine_id", sa.String(32), nullable=False),
        sa.Column("derived", sa.Boolean, nullable=False),
        sa.Column("hostname", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nodes"),
        sa.UniqueConstraint("machine_id", name="uq_nodes_machine_id"),
    )
    op.create_index("ix_nodes_hostname", "nodes", ["hostname"])
    op.create_table(
        "reports",
        sa.Column("id", _Id, nullable=False),
        sa.Column("report_id", sa.LargeBinary(16), nullable=False),
        sa.Column("entry_id", _Id, nullable=False),
        sa.Column("node_id", _Id, nullable=False),
        sa.Column("profile_id", _Id, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_reports"),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name="fk_reports_entry_id"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_reports_node_id"),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name="fk_reports_profile_id"),
        sa.UniqueConstraint("report_id", name="uq_reports_report_id"),
    )
    op.create_table(
        "raw_reports",
        sa.Column("report", _Id, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("report", name="pk_raw_reports"),
        sa.ForeignKeyConstraint(["report"], ["reports.id"], name="fk_raw_reports_report", ondelete="CASCADE"),
    )
    op.create_table(
        "observations",
        sa.Column("entry_id", _Id, nullable=False),
        sa.Column("node_id", _Id, nullable=False),
        sa.Column("profile_id", _Id, nullable=False),
        sa.Column("report", _Id, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("first_seen", sa.BigInteger, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "node_id", name="pk_observations"),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name="fk_observations_entry_id"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_observations_node_id"),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name="fk_observations_profile_id"),
        sa.ForeignKeyConstraint(["report"], ["reports.id"], name="fk_observations_report", ondelete="SET NULL"),
    )
    op.create_index("ix_observations_node_id", "observations", ["node_id"])
    op.create_table(
        "images",
        sa.Column("id", _Id, nullable=False),
        sa.Column("ref_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("ref", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.UniqueConstraint("ref_sha256", name="uq_images_ref_sha256"),
    )
    op.create_table(
        "image_observations",
        sa.Column("node_id", _Id, nullable=False),
        sa.Column("image_id", _Id, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=True),
        sa.Column("exec_s", sa.Float, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("node_id", "image_id", name="pk_image_observations"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_image_observations_node_id"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_image_observations_image_id"),
    )


def downgrade() -> None:
    raise NotImplementedError("a database goes forward only; go back by restoring a backup")
