"""What can go wrong at the centre. Every error carries a message (what and where) and a remedy (what to do)."""

import difflib
from collections.abc import Iterable


class SiteDbError(Exception):
    """Root of all errors of this package: `str(error)` says what and where, `.remedy` what to do about it."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class DatabaseTooNew(SiteDbError):
    """The database was written by a newer release. Nothing in it was touched."""


class DatabaseUnavailable(SiteDbError):
    """The database can't be opened, read or written, or belongs to another program."""


class Busy(SiteDbError):
    """More reports wait for the database than may. Nothing of the submission was kept."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message, f"Send it again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class UnknownName(SiteDbError):
    """No such site, entry, node or capability. `.near` holds names that look like it."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.near = difflib.get_close_matches(name, sorted(set(known)), n=3, cutoff=0.6)
        remedy = f"Did you mean: {', '.join(self.near)}?" if self.near else f"Ask for a {kind} that has sent reports."
        super().__init__(f"No {kind} {name!r} in the database.", remedy)


class AmbiguousName(SiteDbError):
    """Several rows have this name. `.choices` are the names that tell them apart."""

    def __init__(self, kind: str, name: str, choices: Iterable[str]) -> None:
        self.choices = sorted(choices)
        super().__init__(f"Several of kind {kind} are called {name!r}.", f"Say which: {', '.join(self.choices)}.")
