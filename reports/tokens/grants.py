"""What a token permits: which factories, entries and sites a report may name."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import orjson

from reports.authorization import Refused
from reports.contract import value_text
from site_db.store import Submission

_MEMBERS = ("factory", "entry", "site")


@dataclass(frozen=True)
class Names:
    """Names that a report may give: exact ones, and patterns with `*` and `?` (an operator's rules, never a token's)."""

    exact: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()

    @classmethod
    def only(cls, name: str) -> "Names":
        """Just this name, letter by letter."""
        return cls(exact=frozenset((name,)))

    @classmethod
    def matching(cls, texts: Iterable[str]) -> "Names":
        """These names and patterns."""
        listed = tuple(texts)
        patterns = tuple(text for text in listed if set("*?[") & set(text))
        return cls(frozenset(listed) - frozenset(patterns), patterns)

    @property
    def single(self) -> str | None:
        """The name, where it can be only one."""
        return next(iter(self.exact)) if len(self.exact) == 1 and not self.patterns else None

    @property
    def is_any(self) -> bool:
        """Whether every name is permitted, and so is none."""
        return "*" in self.patterns

    def hold(self, name: str) -> bool:
        """Whether this name is among them."""
        return name in self.exact or any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def __str__(self) -> str:
        shown = [value_text(name) for name in (*sorted(self.exact), *self.patterns)[:3]]
        more = len(self.exact) + len(self.patterns) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "") if shown else "no name"


ANY = Names(patterns=("*",))
NONE = Names()


@dataclass(frozen=True)
class Grant:
    """One permission to write: a report is covered if all three of its names are."""

    factory: Names
    entry: Names
    site: Names

    def fill(self, glidein: dict[str, Any]) -> dict[str, str]:
        """The names that the report leaves null and the token knows. Raises Refused 403, which names what differs."""
        missing = {}
        for member in _MEMBERS:
            permitted: Names = getattr(self, member)
            given = glidein[member]
            if given is None and permitted.single is not None:
                missing[member] = permitted.single
            elif given is None and permitted != NONE and not permitted.is_any:
                raise _refused(member, f"the report names no {member}, the token is for {permitted}")
            elif given is not None and not permitted.hold(given):
                raise _refused(member, _difference(member, given, permitted))
        return missing


@dataclass(frozen=True)
class Identity:
    """Whom a token stands for: a Sender. `name` is issuer and subject; `reads` permits questions."""

    name: str
    grants: tuple[Grant, ...] = ()
    reads: bool = False

    def accept(self, submission: Submission) -> Submission:
        """The submission under the token's identity: names that the report leaves open are those of the token.

        Then the stored text is written anew with them: what is exported later says whose it is.
        """
        glidein = submission.report["glidein"]
        refusal = Refused(403, "this token is not for writing reports", "not_a_writer")
        for grant in self.grants:
            try:
                missing = grant.fill(glidein)
            except Refused as refused:
                refusal = refused
                continue
            return _filled(submission, missing) if missing else submission
        raise refusal


def _filled(submission: Submission, missing: dict[str, str]) -> Submission:
    report = {**submission.report, "glidein": {**submission.report["glidein"], **missing}}
    return submission._replace(report=report, raw=orjson.dumps(report))


def _difference(member: str, given: str, permitted: Names) -> str:
    if permitted == NONE:
        return (
            f"the report names the {member} {value_text(given)}, the token names none; issue tokens with a {member}, or "
            "tell the collector which entries are at which site"
        )
    return f"the report's {member} is {value_text(given)}, the token is for {permitted}"


def _refused(member: str, detail: str) -> Refused:
    return Refused(403, detail, f"other_{member}")
