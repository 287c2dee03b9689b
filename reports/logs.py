"""The logs of the collector: one line a record, nothing raw from a stranger, no secret, and no flood."""

import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from reports.safe_text import printable

FORMATS = ("text", "json")
# A token in a text: what a client may have put into a place that is quoted in a refusal.
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){0,2}|(?i:bearer) +[^\s\"',;]{8,}")
_TEXT_LIMIT = 4000
# Equal messages: so many at once, and so many a second in the long run.
_BURST, _PER_S, _KINDS = 50, 5.0, 200


def without_tokens(text: str) -> str:
    """The text with everything that looks like a token taken out."""
    return _TOKEN.sub("[token]", text)


class OneLineFormatter(logging.Formatter):
    """Every line that begins at the margin is ours: whatever follows in a record (a traceback) is indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with its control characters made visible."""
        first, *rest = without_tokens(super().format(record)).split("\n")
        held_back = getattr(record, "held_back", 0)
        first += f" ({held_back} more like this were not logged)" if held_back else ""
        return "\n".join([printable(first), *("    | " + printable(line) for line in rest)])


class JsonFormatter(logging.Formatter):
    """One JSON object a line, ASCII-safe for terminals: time, level, logger, message, and what the record is `about`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        made = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        members: dict[str, Any] = {
            "time": made.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _clean(record.getMessage()),
            **getattr(record, "about", {}),
        }
        if held_back := getattr(record, "held_back", 0):
            members["held_back"] = held_back
        if record.exc_info:
            members["traceback"] = [_clean(line) for line in self.formatException(record.exc_info).split("\n")]
        return orjson.dumps(members, default=str).decode()


class Budget(logging.Filter):
    """Lets a bounded number of records of one kind through; the next that comes through says how many did not.

    A kind is a message before its values are filled in. Errors always come through.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # What is left for each kind, when that was, and how many were held back.
        self._left: OrderedDict[str, tuple[float, float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is to be written."""
        if record.levelno >= logging.ERROR:
            return True
        kind, now = str(record.msg), self._clock()
        left, then, held_back = self._left.pop(kind, (float(_BURST), now, 0))
        left = min(_BURST, left + (now - then) * _PER_S)
        is_in = left >= 1
        self._left[kind] = (left - 1, now, 0) if is_in else (left, now, held_back + 1)
        if len(self._left) > _KINDS:
            self._left.popitem(last=False)
        record.held_back = held_back if is_in else 0
        return is_in


def log_to_stderr(level: int = logging.INFO, output_format: str = "text") -> None:
    """Send the records of the collector and of its server to stderr, in one of FORMATS."""
    handler = logging.StreamHandler(sys.stderr)
    text = OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if output_format == "json" else text)
    handler.addFilter(Budget())
    for name in ("site_db", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    # Starting and stopping is said by `site-db serve` itself.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def _clean(text: str) -> str:
    return printable(without_tokens(text[:_TEXT_LIMIT]))
