"""Causes out of Singularity's messages: the rows of data/stderr_rules.json, the first that matches wins.

A row: ``pattern`` (a regular expression for one line, case ignored), ``reason``, and optionally ``ask``: the name of a
fact that knows better when it is set, such as the reason that the namespace trials found; ``source``.
"""

import json
import re
from typing import Any, Dict, List, NamedTuple, Optional

from probe import packed
from probe.checks import clip, decisive_lines

# Singularity's own last words come after its warnings: lines that only inform are looked at last.
_NOTICE = re.compile(r"^(INFO|WARNING|DEBUG|VERBOSE)\b", re.IGNORECASE)
# Where it has such words, and no row knows them, an everyday warning beside them is not the cause.
_GRAVE = re.compile(r"^(FATAL|ERROR|ABORT)\b", re.IGNORECASE)


class Match(NamedTuple):
    """A cause and the line that names it."""

    reason: str
    line: str


_rules: List[Dict[str, Any]] = []


def rules() -> List[Dict[str, Any]]:
    """All rows, patterns compiled."""
    if not _rules:
        for row in json.loads((packed.read("stderr_rules.json") or b'{"rules": []}').decode())["rules"]:
            _rules.append(dict(row, pattern=re.compile(row["pattern"], re.IGNORECASE)))
    return _rules


def match(stderr: str, facts: Dict[str, Any]) -> Optional[Match]:
    """The cause that a program's stderr names, None when no row knows it."""
    lines = decisive_lines(stderr, 1000)
    notices = [line for line in lines if _NOTICE.match(line)]
    others = [line for line in lines if line not in notices]
    for group in (others, [] if any(map(_GRAVE.match, others)) else notices):
        for rule in rules():
            for line in group:
                if rule["pattern"].search(line):
                    return Match(facts.get(rule.get("ask", "")) or rule["reason"], clip(line) or "")
    return None
