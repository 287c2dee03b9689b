"""The tables, as SQLAlchemy Core metadata. Why each is there: docs/database.md.

A change here needs a revision in migrations/versions/; a test compares the two on both databases.
Times are microseconds since 1970 (times.py).
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.schema import SchemaItem

# Names by rule, so that a migration can drop a constraint by its name on both databases.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only in a column of type INTEGER, which holds 64 bits there anyway.
_Id = BigInteger().with_variant(Integer(), "sqlite")

profiles = Table(
    "profiles",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("fingerprint", String(64), nullable=False, unique=True),
    Column("document", Text, nullable=False),
)

sites = Table(
    "sites",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

entries = Table(
    "entries",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("factory", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("site_id", ForeignKey("sites.id"), nullable=False, index=True),
    Column("resource", Text, nullable=False),
    UniqueConstraint("factory", "name"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("machine_id", String(32), nullable=False, unique=True),
    Column("derived", Boolean, nullable=False),  # the report had no machine_id: made from entry and hostname
    Column("hostname", Text, nullable=False, index=True),
)

reports = Table(
    "reports",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("report_id", LargeBinary(16), nullable=False, unique=True),
    Column("entry_id", ForeignKey("entries.id"), nullable=False),
    Column("node_id", ForeignKey("nodes.id"), nullable=False),
    Column("profile_id", ForeignKey("profiles.id"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
)

raw_reports = Table(
    "raw_reports",
    metadata,
    Column("report", ForeignKey("reports.id", ondelete="CASCADE"), primary_key=True),
    Column("body", LargeBinary, nullable=False),  # the JSON text, zstd
)

observations = Table(
    "observations",
    metadata,
    Column("entry_id", ForeignKey("entries.id"), primary_key=True),
    Column("node_id", ForeignKey("nodes.id"), primary_key=True, index=True),
    Column("profile_id", ForeignKey("profiles.id"), nullable=False),
    Column("report", ForeignKey("reports.id", ondelete="SET NULL")),
    Column("created_at", BigInteger, nullable=False),
    Column("first_seen", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("id", _Id, primary_key=True),
    # PostgreSQL indexes no text beyond 2,704 bytes, and a reference may have 8,192: the hash is what is unique.
    Column("ref_sha256", LargeBinary(32), nullable=False, unique=True),
    Column("ref", Text, nullable=False),
)

image_observations = Table(
    "image_observations",
    metadata,
    Column("node_id", ForeignKey("nodes.id"), primary_key=True),
    Column("image_id", ForeignKey("images.id"), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("reason", String(64)),
    Column("exec_s", Float),
    Column("created_at", BigInteger, nullable=False),
    # Where, and on which kind of node, it was seen; with no foreign key, which SQLite cannot add to a table that is there.
    Column("site_id", BigInteger),
    Column("profile_id", BigInteger),
)

image_counts = Table(
    "image_counts",
    metadata,
    Column("image_id", ForeignKey("images.id"), primary_key=True),
    Column("site_id", ForeignKey("sites.id"), primary_key=True, index=True),
    Column("profile_id", ForeignKey("profiles.id"), primary_key=True),
    Column("status", String(16), primary_key=True),
    Column("reason", String(64), primary_key=True),  # "": none
    Column("nodes", Integer, nullable=False),
    Column("newest", BigInteger, nullable=False),
    sqlite_with_rowid=False,  # the matrix reads it from end to end, in the order of its key
)

# --- what images are there, and what they need (site_db/images/) ----------------------------------------------------------

image_requirements = Table(
    "image_requirements",
    metadata,
    Column("image_id", ForeignKey("images.id"), primary_key=True),
    Column("way", String(16), primary_key=True),  # inspected or declared: reading an image again drops no declaration
    Column("document", Text, nullable=False),  # JSON: images/model.py
    Column("origin", String(1024), nullable=False),  # the path that was inspected, or the file that declares it
    Column("inspected_at", BigInteger, nullable=False),
)

image_catalogues = Table(
    "image_catalogues",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("path", String(1024), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("imported_at", BigInteger, nullable=False),
)

catalogue_images = Table(
    "catalogue_images",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("catalogue_id", ForeignKey("image_catalogues.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(512), nullable=False),
    Column("arch", String(32), nullable=False),  # "": the catalogue doesn't say
    Column("line", Integer, nullable=False),
    Column("reference", Text, nullable=False),
    Column("image_id", ForeignKey("images.id"), index=True),  # none: a pattern, which stands for many
    Column("gone_at", BigInteger),
    UniqueConstraint("catalogue_id", "name", "arch"),
)

# --- what the factories have configured (site_db/configuration/) ---------------------------------------------------------

configuration_files = Table(
    "configuration_files",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("factory", String(255), nullable=False),  # "" where nobody said whose file it is
    Column("path", String(1024), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("imported_at", BigInteger, nullable=False),
    UniqueConstraint("factory", "path"),
)

configured_entries = Table(
    "configured_entries",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("file_id", ForeignKey("configuration_files.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("line", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("gatekeeper", Text, nullable=False),
    Column("gridtype", Text),
    Column("site", Text),
    Column("resource", Text),
    Column("section", Text),  # OSG autoconf only: SITE/GATEKEEPER/SECTION
    Column("vanished_at", BigInteger),
    UniqueConstraint("file_id", "name"),
)

configured_attributes = Table(
    "configured_attributes",
    metadata,
    Column("entry_id", ForeignKey("configured_entries.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(16), primary_key=True),  # attr or submit_attr
    Column("name", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    Column("type", String(16), nullable=False),
    Column("flags", Text, nullable=False),  # JSON: const, publish and the like, as the file has them
    Column("line", Integer),  # none: it comes from the defaults
)

registered_resources = Table(
    "registered_resources",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("file_id", ForeignKey("configuration_files.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),  # "" for a site without resources
    Column("site", String(255), nullable=False),
    Column("facility", Text),
    Column("resource_group", Text),
    Column("fqdn", Text),
    Column("active", Boolean),
    Column("country", Text),
    UniqueConstraint("file_id", "site", "name"),
)

policy_rows = Table(
    "policy_rows",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("file_id", ForeignKey("configuration_files.id", ondelete="CASCADE"), nullable=False),
    Column("line", Integer, nullable=False),
    Column("action", String(16), nullable=False),
    Column("target", Text, nullable=False),
    Column("entry", Text),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("dated", String(10), nullable=False),  # ISO dates: they sort as texts
    Column("expires", String(10), nullable=False),
)


def _counted(scope: str) -> list[SchemaItem]:
    """The columns of a count of nodes: those whose newest report under this entry or site was made on `day`."""
    return [
        Column("day", Integer, primary_key=True, autoincrement=False),  # since 1970, UTC
        Column(f"{scope}_id", ForeignKey(f"{_PLURALS[scope]}.id"), primary_key=True),
        Column("profile_id", ForeignKey("profiles.id"), primary_key=True),
        Column("nodes", Integer, nullable=False),
        Column("oldest", BigInteger, nullable=False),
        Column("newest", BigInteger, nullable=False),
        Column("report", ForeignKey("reports.id")),
    ]


def _totals(scope: str) -> list[SchemaItem]:
    return [
        Column(f"{scope}_id", ForeignKey(f"{_PLURALS[scope]}.id"), primary_key=True),
        Column("nodes", Integer, nullable=False),
        Column("reports", BigInteger, nullable=False),
        Column("newest", BigInteger, nullable=False),
    ]


_PLURALS = {"entry": "entries", "site": "sites"}

entry_counts = Table("entry_counts", metadata, *_counted("entry"))
site_counts = Table("site_counts", metadata, *_counted("site"))
entry_totals = Table("entry_totals", metadata, *_totals("entry"))
site_totals = Table("site_totals", metadata, *_totals("site"))

daily_nodes = Table(
    "daily_nodes",
    metadata,
    Column("entry_id", ForeignKey("entries.id"), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("profile_id", ForeignKey("profiles.id"), primary_key=True),
    Column("nodes", Integer, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("entry_id", ForeignKey("entries.id"), nullable=False),
    Column("capability", Text, nullable=False),
    Column("direction", String(8), nullable=False),  # lost, gained
    Column("state", String(16), nullable=False),  # suspected, confirmed, closed, settled
    Column("first_at", BigInteger, nullable=False),
    Column("first_node_id", ForeignKey("nodes.id"), nullable=False),
    Column("first_report", ForeignKey("reports.id")),
    Column("last_at", BigInteger, nullable=False),
    Column("confirmed_at", BigInteger),
    Column("closed_at", BigInteger),
    Column("told_at", BigInteger),
    Column("reason", String(64)),
    Column("nodes", Integer, nullable=False),
    Column("returned", Integer, nullable=False),
    Column("flaps", Integer, nullable=False),
    Column("score", Float, nullable=False),
    Column("evidence", Text, nullable=False),  # JSON: scores by share, reports by node
    Index(None, "entry_id", "state"),
    Index(None, "confirmed_at"),
)

deviations = Table(
    "deviations",
    metadata,
    Column("entry_id", ForeignKey("entries.id"), primary_key=True),
    Column("node_id", ForeignKey("nodes.id"), primary_key=True),
    Column("capability", Text, primary_key=True),
    Column("expected", String(8), nullable=False),  # what the node answered before: yes, no
    Column("support", Integer, nullable=False),  # the number of its reports until then
)
