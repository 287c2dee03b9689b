"""Reading a file that somebody gave: never a device or a FIFO, never more than a bound."""

import os
import stat
from pathlib import Path

from site_db.errors import SiteDbError


class Unreadable(SiteDbError):
    """A file that is not there, is no ordinary file, may not be read, or is too large."""


def read_file(path: Path, limit_bytes: int) -> bytes:
    """All of an ordinary file. Raises Unreadable."""
    try:
        # Without O_NONBLOCK the open itself waits for the other end of a FIFO.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unreadable(f"{path} is no ordinary file.", "Give the path of a file.")
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}.", "Give the path of a file that this user may read.") from error
    except ValueError as error:  # a NUL in the path
        raise Unreadable(f"{str(path)!r}: {error}.", "Give the path of a file.") from error
    if len(data) > limit_bytes:
        raise Unreadable(f"{path} is larger than {limit_bytes >> 20} MiB.", "Give it in parts.")
    return data
