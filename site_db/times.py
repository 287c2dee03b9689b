"""Times in the database: whole microseconds since 1970, UTC.

An integer compares, indexes and travels alike on SQLite and PostgreSQL. Microseconds, because two reports of one node
(its first and its periodic run) must keep their order, and a report's own time is that fine.
"""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """`moment` (aware) as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds_since_1970: int) -> datetime:
    """The aware UTC time of `microseconds_since_1970`."""
    return _EPOCH + timedelta(microseconds=microseconds_since_1970)


def parse_time(text: str) -> datetime | None:
    """The time of an RFC 3339 text in UTC (`...Z`); None for a date that does not exist (30 February, second 60)."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def format_time(when: datetime) -> str:
    """`when` as RFC 3339 in UTC, whole seconds: `2026-11-20T12:00:00Z`."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
