"""What is said to people, on stderr; and what leaves on stdout in one piece: attributes for a glidein or a startd."""

import os
import sys


def say(text: str) -> None:
    """One line on stderr, printable ASCII whatever is in the text."""
    from probe.explain import printable

    line = "singularity-probe: " + printable(text) + "\n"
    to_stderr(line.encode("ascii", "backslashreplace").decode("ascii"))


def to_stderr(text: str) -> None:
    """Write to stderr, if it is there and takes it: a log on a full disk must not end a glidein."""
    try:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()
    except (OSError, ValueError):
        pass


def print_whole(text: str) -> None:
    """Write to stdout; who is no longer there to read it is no fault of ours."""
    data = text.encode("utf-8", "replace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:  # the reader went away, or the log's disk is full
        pass
