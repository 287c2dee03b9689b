"""In which line of a TOML text a value stands: tomllib reads the values, but forgets where they were."""

import re
from collections.abc import Iterable

Path = tuple[str | int, ...]
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")


def line_of(text: str, path: Iterable[str | int]) -> int | None:
    """The line (from 1) of a path into a valid TOML text, or of the nearest thing around it; None for the whole text.

    Lines inside a multi-line string that look like TOML may mislead it; nothing but a message depends on it.
    """
    lines = _lines(text)
    steps = tuple(path)
    while steps and steps not in lines:
        steps = steps[:-1]
    return lines.get(steps)


def _lines(text: str) -> dict[Path, int]:
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.match(line):
            table = _table(_steps(header[2]), header[1] == "[[", counts)
            found.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            found.setdefault(table + _steps(assignment[1]), number)
    return found


def _table(names: Path, is_list: bool, counts: dict[Path, int]) -> Path:
    """The path of a table, with the number of the item wherever a step is a list of tables."""
    path: Path = ()
    for step, name in enumerate(names, 1):
        path = (*path, name)
        if is_list and step == len(names):
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def _steps(dotted: str) -> Path:
    return tuple(step.strip("\"'") for step in re.findall(_KEY, dotted))
