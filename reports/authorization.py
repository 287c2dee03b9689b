"""Who may send which report. This version knows one answer, the open mode; tokens take the same place later."""

from collections.abc import Mapping
from typing import Any, Protocol


class Refused(Exception):
    """A request that may not go on: `status` is 401 (who are you?) or 403 (not you)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Sender(Protocol):
    """Someone known to the collector."""

    def check(self, report: Mapping[str, Any]) -> None:
        """Return if this sender may write this (valid) report; else raise Refused 403."""


class Authorizer(Protocol):
    """Decides once per request, before its body is read; the sender then decides once per report."""

    def sender(self, headers: Mapping[str, str]) -> Sender:
        """Who sends, by the request's headers (names in lower case or a case-blind mapping). Raises Refused 401."""

    def reader(self, headers: Mapping[str, str]) -> None:
        """Return if these headers may read what is stored; else raise Refused 401 or 403."""


class Anyone:
    """The open mode's sender: may write every report."""

    def check(self, report: Mapping[str, Any]) -> None:
        """Every report is permitted."""


class OpenAuthorizer:
    """The open mode: for loopback, or behind a proxy that authenticates. An Authorization header is not looked at."""

    def sender(self, headers: Mapping[str, str]) -> Sender:  # noqa: ARG002 - the protocol's shape
        """Anyone may send."""
        return Anyone()

    def reader(self, headers: Mapping[str, str]) -> None:
        """Anyone may read."""
