"""The limits of a collector, in one place."""

from dataclasses import dataclass

from reports.intake import REPORT_LIMIT_BYTES

MIB = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """What a collector takes at most. Sizes in bytes, times in seconds."""

    report_limit_bytes: int = REPORT_LIMIT_BYTES
    # A whole request as it arrives, and after decompression.
    body_limit_bytes: int = 32 * MIB
    decoded_limit_bytes: int = 256 * MIB
    batch_limit_lines: int = 20_000
    body_timeout_s: float = 60.0
    concurrent_posts: int = 256
    # What clients are told to wait when the database is away.
    retry_after_s: int = 10
