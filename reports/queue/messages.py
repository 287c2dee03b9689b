"""What travels through the queue: one message a report, its text as it was accepted, and when it came.

The text is all that a report is: what a token's names filled in is written into it before.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import zstandard

from site_db.store import Submission

CONTENT_TYPE, ENCODING, KIND = "application/json", "zstd", "report"
RECEIVED_AT = "received_at"
# The database packs it anew; here it only has to be quick. A report of 20 kB becomes 5 kB.
_ZSTD_LEVEL = 1
# More than any limit that a collector can have: what unfolds beyond it was not sent by one.
_TEXT_LIMIT_BYTES = 65 * 1024 * 1024


class Poison(Exception):
    """A message that no worker will ever store. `reason` is one of a fixed set of words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Text(NamedTuple):
    """A report's text out of a message."""

    raw: bytes
    received_at: datetime


def pack(submission: Submission) -> tuple[bytes, dict[str, Any]]:
    """The body of a submission's message, and its headers."""
    received_at = submission.received_at.astimezone(UTC).isoformat()
    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(submission.raw), {RECEIVED_AT: received_at}


def unpack(body: bytes, headers: Mapping[str, Any] | None) -> Text:
    """The text of a message. Raises Poison."""
    try:
        received_at = datetime.fromisoformat((headers or {})[RECEIVED_AT])
        if received_at.tzinfo is None:
            raise ValueError("no time zone")
    except (KeyError, TypeError, ValueError) as error:
        raise Poison("headers", f"no {RECEIVED_AT}: {error}") from error
    try:
        # The decompressor does not bound a frame that says its size.
        if zstandard.get_frame_parameters(body).content_size > _TEXT_LIMIT_BYTES:
            raise Poison("too_large", f"unfolds beyond {_TEXT_LIMIT_BYTES} bytes")
        return Text(zstandard.ZstdDecompressor().decompress(body, max_output_size=_TEXT_LIMIT_BYTES), received_at)
    except zstandard.ZstdError as error:
        raise Poison("damaged", f"the body cannot be decompressed: {error}") from error
