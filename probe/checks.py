"""Checks: what was tried, how it ended, why, and what to do about it.

A check is a dict of the report: id, status, reason, message, remedy, duration_s, evidence. Its status is one of
``STATUSES``; every status but "ok" carries a reason code of ``data/reasons.json``. Unknown is a status, never a value.
"""

from typing import Any, Dict, List, Optional

from probe import reasons
from probe.limits import cut

STATUSES = ("ok", "fail", "unknown", "timeout", "skipped")

Check = Dict[str, Any]

# The limits of the report's schema.
TEXT_LIMIT = 1024
LINES_LIMIT = 32


def check(
    identifier: str,
    status: str,
    reason: Optional[str] = None,
    message: Optional[str] = None,
    duration_s: Optional[float] = None,
    **evidence: Any,
) -> Check:
    """One check. The remedy comes from the reason's row; evidence values that are None are left out."""
    if status not in STATUSES or (status == "ok") != (reason is None):
        raise ValueError("check {}: status {}, reason {}".format(identifier, status, reason))
    return {
        "id": identifier,
        "status": status,
        "reason": reason,
        "message": clip(message),
        "remedy": reasons.remedy(reason),
        "duration_s": None if duration_s is None else round(duration_s, 4),
        "evidence": {name: clip_value(value) for name, value in evidence.items() if value is not None},
    }


def clip(text: Optional[str]) -> Optional[str]:
    """A text no longer than the report's schema takes."""
    return None if text is None else cut(text, TEXT_LIMIT)


def clip_value(value: Any) -> Any:
    """A piece of evidence no longer than the schema takes."""
    if isinstance(value, str):
        return clip(value)
    if isinstance(value, (list, tuple)):
        return [clip(str(item)) for item in value[:LINES_LIMIT]]
    return value


def decisive_lines(text: str, count: int = 6) -> List[str]:
    """The last lines of a program's stderr that say something, escape codes and blanks removed."""
    import re

    cleaned = re.sub(r"\x1b(\[[0-9;]*[A-Za-z]|[()][A-Z0-9])", "", text)
    lines = [line.strip() for line in cleaned.splitlines()]
    return [line for line in lines if line][-count:]
