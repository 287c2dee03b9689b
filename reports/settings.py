"""The limits of a collector, in one place. `site-db serve --config` sets them under [limits]."""

from dataclasses import dataclass

from reports.intake import REPORT_LIMIT_BYTES

MIB = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """What a collector takes at most. Sizes in bytes, times in seconds. 0 switches the rate and the disk limit off."""

    report_limit_bytes: int = REPORT_LIMIT_BYTES
    # A whole request as it arrives, and after decompression.
    body_limit_bytes: int = 32 * MIB
    decoded_limit_bytes: int = 256 * MIB
    batch_limit_lines: int = 20_000
    # From the connection, or the last answer on it, to the last byte of the next request's headers.
    header_timeout_s: float = 20.0
    body_timeout_s: float = 60.0
    # From the headers to the last byte that the client takes of the answer.
    request_timeout_s: float = 300.0
    concurrent_posts: int = 256
    connections: int = 1024
    # What clients are told to wait when the database is away.
    retry_after_s: int = 10
    # When a report may have been made, seen from now: spools wait, clocks of nodes are wrong.
    report_age_limit_days: float = 90.0
    report_future_limit_s: float = 86_400.0
    # Reports of one token: so many a second in the long run, and so many at once.
    rate_per_s: float = 100.0
    rate_burst: int = 4_000
    # Nothing is taken while less than this is free where bodies and the database are written.
    disk_free_bytes: int = 256 * MIB
