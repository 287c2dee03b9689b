"""The operators' policy: what is not to be touched, by whom and why, since when and until when.

    [[policy]]
    action = "keep_attribute"    # or pin_entry, disable_site
    target = "GLIDEIN_SINGULARITY_REQUIRE"
    entry = "Example_T2_CE1"     # only with keep_attribute, and not needed: without it all entries
    author = "operator@example.org"
    reason = "ticket 4711: the site changes its nodes by hand"
    dated = 2026-11-01
    expires = 2027-01-31         # the last day on which it acts
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, get_args

from site_db.configuration.model import Action, BrokenFile, Parsed, PolicyRow

_TEXTS = ("action", "target", "author", "reason")
_DATES = ("dated", "expires")
_MEMBERS = frozenset({*_TEXTS, *_DATES, "entry"})
_AT = re.compile(r"line (\d+), column (\d+)")


def parse_policy(data: bytes, file: str) -> Parsed:
    """The rows of a policy file. Raises BrokenFile with the place of the first thing that is wrong."""
    try:
        text = data.decode("utf-8-sig")
        document = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise BrokenFile(f"{file}:{data.count(10, 0, error.start) + 1}", "not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        at = _AT.search(str(error))
        raise BrokenFile(f"{file}:{at[1]}:{at[2]}" if at else file, f"not valid TOML: {error}") from error
    rows = document.get("policy")
    if not isinstance(rows, list) or set(document) != {"policy"}:
        raise BrokenFile(f"{file}:1", "a policy file holds [[policy]] tables and nothing else")
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith("[[policy]]")]
    lines += [1] * (len(rows) - len(lines))
    return Parsed("policy", policy=tuple(_row(row, file, line) for row, line in zip(rows, lines, strict=False)))


def _row(row: Any, file: str, line: int) -> PolicyRow:  # noqa: ANN401 - any TOML
    wrong = _what_is_wrong(row)
    if wrong:
        raise BrokenFile(f"{file}:{line}", wrong)
    return PolicyRow(**row, line=line)


def _what_is_wrong(row: Any) -> str | None:  # noqa: ANN401 - any TOML
    if not isinstance(row, Mapping):
        return "a row is to be a table"
    if unknown := set(row) - _MEMBERS:
        return f"no such member: {', '.join(sorted(unknown))}"
    texts = [name for name in _TEXTS if not isinstance(row.get(name), str) or not row[name].strip()]
    dates = [name for name in _DATES if not isinstance(row.get(name), date) or isinstance(row[name], datetime)]
    if texts or dates:
        return f"missing, or not of the right type: {', '.join([*texts, *dates])}"
    if row["action"] not in get_args(Action):
        return f"action is to be one of {', '.join(get_args(Action))}"
    if row["expires"] < row["dated"]:
        return "it expires before its date"
    if "entry" in row and (row["action"] != "keep_attribute" or not isinstance(row["entry"], str)):
        return "entry goes with keep_attribute only"
    return None


@dataclass(frozen=True)
class Policy:
    """All rows, and the day on which one asks."""

    rows: Sequence[PolicyRow]
    day: date

    @property
    def expired(self) -> list[PolicyRow]:
        """What acts no more."""
        return [row for row in self.rows if row.expires < self.day]

    def keeps(self, attribute: str, entry: str) -> PolicyRow | None:
        """The row that forbids to change this attribute of this entry."""
        return self._first(
            row
            for row in self.rows
            if row.action == "keep_attribute" and row.target == attribute and row.entry in (None, entry)
        )

    def pins(self, entry: str) -> PolicyRow | None:
        """The row that forbids to change this entry."""
        return self._first(row for row in self.rows if row.action == "pin_entry" and row.target == entry)

    def disables(self, site: str | None) -> PolicyRow | None:
        """The row that takes this site out of operation."""
        return self._first(row for row in self.rows if row.action == "disable_site" and row.target == site)

    def _first(self, rows: Iterable[PolicyRow]) -> PolicyRow | None:
        return next((row for row in rows if row.acts_on(self.day)), None)


def told(row: PolicyRow) -> str:
    """A row in words."""
    entry = f" of {row.entry}" if row.entry else ""
    return f"{row.action} {row.target}{entry}, by {row.author} on {row.dated}, until {row.expires}: {row.reason}"
