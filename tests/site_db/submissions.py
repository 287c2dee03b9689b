"""Reports on their way into a store, for tests."""

import json
from datetime import UTC, datetime, timedelta

from site_db.store import Submission
from tests.sample_reports import Report, sample_report

NOW = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)


def submission(report: Report, received_at: datetime = NOW) -> Submission:
    return Submission(report, json.dumps(report).encode(), received_at)


def sample(case: str = "healthy", *, node: int = 1, hours_ago: float = 1, **changes: object) -> Submission:
    """A report of node number `node`, made `hours_ago` before NOW."""
    made = (NOW - timedelta(hours=hours_ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    fields = {
        "created_at": made,
        "host__machine_id": f"{node:032x}",
        "host__hostname": f"wn{node:03}.example.org",
        **changes,
    }
    return submission(sample_report(case, **fields))
