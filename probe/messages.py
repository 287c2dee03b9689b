"""What is said to people, on stderr; and what leaves on stdout in one piece: attributes for a glidein or a startd."""

import os
import sys


def say(text: str) -> None:
    """One line on stderr, printable ASCII whatever is in the text."""
    line = "singularity-probe: " + printable(text) + "\n"
    to_stderr(line.encode("ascii", "backslashreplace").decode("ascii"))


def printable(text: object) -> str:
    """Text that does no harm to a terminal: control characters and direction marks become visible or go."""
    return "".join(
        character
        if character.isprintable()
        and character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"
        else "?"
        for character in str(text)
    )


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
