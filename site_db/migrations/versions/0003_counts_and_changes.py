"""Kept counts of nodes, daily counts, and changes.

The counts are filled from the observations that are there. Changes begin with the reports that come from now on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DAY = 86_400_000_000
_PLURALS = {"entry": "entries", "site": "sites"}


def upgrade() -> None:
    for scope in _PLURALS:
        _create_counts(scope)
    op.create_table(
        "daily_nodes",
        sa.Column("entry_id", _Id, nullable=False),
        sa.Column("day", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("profile_id", _Id, nullable=False),
        sa.Column("nodes", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "day", "profile_id", name="pk_daily_nodes"),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name="fk_daily_nodes_entry_id"),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name="fk_daily_nodes_profile_id"),
    )
    _create_changes()
    _fill()


def _create_counts(scope: str) -> None:
    key, counts, totals = f"{scope}_id", f"{scope}_counts", f"{scope}_totals"
    op.create_table(
        counts,
        sa.Column("day", sa.Integer, nullable=False, autoincrement=False),
        sa.Column(key, _Id, nullable=False),
        sa.Column("profile_id", _Id, nullable=False),
        sa.Column("nodes", sa.Integer, nullable=False),
        sa.Column("oldest", sa.BigInteger, nullable=False),
        sa.Column("newest", sa.BigInteger, nullable=False),
        sa.Column("report", _Id),
        sa.PrimaryKeyConstraint("day", key, "profile_id", name=f"pk_{counts}"),
        sa.ForeignKeyConstraint([key], [f"{_PLURALS[scope]}.id"], name=f"fk_{counts}_{key}"),
        sa.ForeignKeyConstraint(["profile_id"], ["profiles.id"], name=f"fk_{counts}_profile_id"),
        sa.ForeignKeyConstraint(["report"], ["reports.id"], name=f"fk_{counts}_report"),
    )
    op.create_table(
        totals,
        sa.Column(key, _Id, nullable=False),
        sa.Column("nodes", sa.Integer, nullable=False),
        sa.Column("reports", sa.BigInteger, nullable=False),
        sa.Column("newest", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(key, name=f"pk_{totals}"),
        sa.ForeignKeyConstraint([key], [f"{_PLURALS[scope]}.id"], name=f"fk_{totals}_{key}"),
    )


def _create_changes() -> None:
    op.create_table(
        "changes",
        sa.Column("id", _Id, nullable=False),
        sa.Column("entry_id", _Id, nullable=False),
        sa.Column("capability", sa.Text, nullable=False),
        sa.Column("direction", sa.String(8), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("first_node_id", _Id, nullable=False),
        sa.Column("first_report", _Id),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("confirmed_at", sa.BigInteger),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("told_at", sa.BigInteger),
        sa.Column("reason", sa.String(64)),
        sa.Column("nodes", sa.Integer, nullable=False),
        sa.Column("returned", sa.Integer, nullable=False),
        sa.Column("flaps", sa.Integer, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name="fk_changes_entry_id"),
        sa.ForeignKeyConstraint(["first_node_id"], ["nodes.id"], name="fk_changes_first_node_id"),
        sa.ForeignKeyConstraint(["first_report"], ["reports.id"], name="fk_changes_first_report"),
    )
    op.create_index("ix_changes_entry_id_state", "changes", ["entry_id", "state"])
    op.create_index("ix_changes_confirmed_at", "changes", ["confirmed_at"])
    op.create_table(
        "deviations",
        sa.Column("entry_id", _Id, nullable=False),
        sa.Column("node_id", _Id, nullable=False),
        sa.Column("capability", sa.Text, nullable=False),
        sa.Column("expected", sa.String(8), nullable=False),
        sa.Column("support", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", "node_id", "capability", name="pk_deviations"),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name="fk_deviations_entry_id"),
        sa.ForeignKeyConstraint(["node_id"], ["nodes.id"], name="fk_deviations_node_id"),
    )


def _fill() -> None:
    for scope in _PLURALS:
        key = f"{scope}_id"
        newest = f"""
            SELECT entries.{"id" if scope == "entry" else key} AS scope, observations.profile_id,
                   observations.created_at, observations.report,
                   sum(observations.count) OVER (PARTITION BY {"entries.id" if scope == "entry" else key}, node_id)
                       AS reports,
                   row_number() OVER (PARTITION BY {"entries.id" if scope == "entry" else key}, node_id
                                      ORDER BY observations.created_at DESC, entry_id) AS place
            FROM observations JOIN entries ON entries.id = observations.entry_id"""  # noqa: S608 - names of ours
        op.execute(
            f"""INSERT INTO {scope}_counts (day, {key}, profile_id, nodes, oldest, newest, report)
            SELECT created_at / {_DAY}, scope, profile_id, count(*), min(created_at), max(created_at), max(report)
            FROM ({newest}) AS standing WHERE place = 1
            GROUP BY created_at / {_DAY}, scope, profile_id"""  # noqa: S608 - names of ours
        )
        op.execute(
            f"""INSERT INTO {scope}_totals ({key}, nodes, reports, newest)
            SELECT scope, count(*), sum(reports), max(created_at)
            FROM ({newest}) AS standing WHERE place = 1 GROUP BY scope"""  # noqa: S608 - names of ours
        )
    op.execute(
        f"""INSERT INTO daily_nodes (entry_id, day, profile_id, nodes)
        SELECT entry_id, day, profile_id, count(*) FROM (
            SELECT entry_id, created_at / {_DAY} AS day, profile_id,
                   row_number() OVER (PARTITION BY entry_id, node_id, created_at / {_DAY}
                                      ORDER BY created_at DESC, report_id DESC) AS place
            FROM reports) AS last_of_day
        WHERE place = 1 GROUP BY entry_id, day, profile_id"""  # noqa: S608 - a number of ours
    )


def downgrade() -> None:
    raise NotImplementedError("a database goes forward only; go back by restoring a backup")
