"""Catalogues of images, what images need, and how many nodes of which kind ran them where.

What was observed of images until now is counted under the site and profile of the node's newest report.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for name in ("site_id", "profile_id"):
        op.add_column("image_observations", sa.Column(name, sa.BigInteger))
    op.create_table(
        "image_counts",
        sa.Column("image_id", _Id, nullable=False),
        sa.Column("site_id", _Id, nullable=False),
        sa.Column("profile_id", _Id, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("nodes", sa.Integer, nullable=False),
        sa.Column("newest", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "site_id", "profile_id", "status", "reason", name="pk_image_counts"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_image_counts_image_id"),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name="fk_image_counts_site_id"),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name="fk_image_counts_profile_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_image_counts_site_id", "image_counts", ["site_id"])
    _create_catalogues()
    _fill()


def _create_catalogues() -> None:
    op.create_table(
        "image_requirements",
        sa.Column("image_id", _Id, nullable=False),
        sa.Column("way", sa.String(16), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("origin", sa.String(1024), nullable=False),
        sa.Column("inspected_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("image_id", "way", name="pk_image_requirements"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_image_requirements_image_id"),
    )
    op.create_table(
        "image_catalogues",
        sa.Column("id", _Id, nullable=False),
        sa.Column("path", sa.String(1024), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("imported_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_image_catalogues"),
        sa.UniqueConstraint("path", name="uq_image_catalogues_path"),
    )
    op.create_table(
        "catalogue_images",
        sa.Column("id", _Id, nullable=False),
        sa.Column("catalogue_id", _Id, nullable=False),
        sa.Column("name", sa.String(512), nullable=False),
        sa.Column("arch", sa.String(32), nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("image_id", _Id),
        sa.Column("gone_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_catalogue_images"),
        sa.ForeignKeyConstraint(
            ["catalogue_id"], ["image_catalogues.id"], name="fk_catalogue_images_catalogue_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_catalogue_images_image_id"),
        sa.UniqueConstraint("catalogue_id", "name", "arch", name="uq_catalogue_images_catalogue_id_name_arch"),
    )
    op.create_index("ix_catalogue_images_image_id", "catalogue_images", ["image_id"])


def _fill() -> None:
    """Places of the observations that are there, as `images.recording.rebuild` would count them."""
    newest = """
        SELECT {column} FROM observations JOIN entries ON entries.id = observations.entry_id
        WHERE observations.node_id = image_observations.node_id
        ORDER BY observations.created_at DESC, observations.entry_id LIMIT 1"""
    site, profile = (newest.format(column=name) for name in ("entries.site_id", "observations.profile_id"))
    op.execute(f"UPDATE image_observations SET site_id = ({site}), profile_id = ({profile})")  # noqa: S608 - names of ours
    op.execute(
        """INSERT INTO image_counts (image_id, site_id, profile_id, status, reason, nodes, newest)
        SELECT image_id, site_id, profile_id, status, COALESCE(reason, ''), count(*), max(created_at)
        FROM image_observations WHERE site_id IS NOT NULL
        GROUP BY image_id, site_id, profile_id, status, COALESCE(reason, '')"""
    )


def downgrade() -> None:
    raise NotImplementedError("a database goes forward only; go back by restoring a backup")
