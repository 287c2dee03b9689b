"""What is said to people, on stderr; and what leaves on stdout in one piece: attributes for a glidein or a startd."""

import os
import sys


def say(text: str) -> None:
    """One line on stderr, printable ASCII whatever is in the text."""
    from probe.explain import printable

    if sys.stderr is not None:
        line = "singularity-probe: " + printable(text) + "\n"
        sys.stderr.write(line.encode("ascii", "backslashreplace").decode("ascii"))


def print_whole(text: str) -> None:
    """Write to stdout; who is no longer there to read it is no fault of ours."""
    data = text.encode("utf-8", "replace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:  # the reader went away, or the log's disk is full
        pass
