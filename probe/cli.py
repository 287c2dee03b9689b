"""Which program this is: a command that somebody typed, a GlideinWMS custom script, a startd_cron job."""

import os
import sys
from typing import List, Optional

COMMANDS = ("run", "explain", "startd-cron")


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the program; returns its exit code."""
    import gc

    keep_standard_descriptors()
    gc.disable()  # a short life with little garbage; each child would copy what a collection touches
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) == 2 and given[0] not in COMMANDS and not given[0].startswith("-"):
        from probe import glidein

        if glidein.is_config(given[0]):
            return glidein.main(given[0])
    from probe import by_hand

    return by_hand.main(given)


def keep_standard_descriptors() -> None:
    """Put /dev/null where a standard stream was closed: else the next file opened would take its place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
