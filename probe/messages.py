"""What is said to people, on stderr: never on stdout, which belongs to reports and attributes."""

import sys


def say(text: str) -> None:
    """One line on stderr, printable ASCII whatever is in the text."""
    from probe.explain import printable

    if sys.stderr is not None:
        line = "singularity-probe: " + printable(text) + "\n"
        sys.stderr.write(line.encode("ascii", "backslashreplace").decode("ascii"))
