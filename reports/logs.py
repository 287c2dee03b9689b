"""The logs of the collector: one line a record, nothing raw from a stranger, no secret."""

import logging
import sys

from reports.safe_text import printable


class OneLineFormatter(logging.Formatter):
    """Every line that begins at the margin is ours: whatever follows in a record (a traceback) is indented."""

    def format(self, record: logging.LogRecord) -> str:
        """The record with its control characters made visible."""
        first, *rest = super().format(record).split("\n")
        return "\n".join([printable(first), *("    | " + printable(line) for line in rest)])


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send the records of the collector and of its server to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("site_db", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    # Starting and stopping is said by `site-db serve` itself.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
