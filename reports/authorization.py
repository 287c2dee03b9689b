"""Who may send which report and who may read. The seam: `reports/tokens/` fills it, the open mode is here."""

from typing import NamedTuple, Protocol

from starlette.datastructures import Headers

from site_db.store import Submission


class Refused(Exception):
    """A request that may not go on: `status` is 401 (who are you?), 403 (not you) or 503 (ask again later).

    `reason` is one of a fixed set of words (docs/collector.md lists them), so that metrics can count by it.
    """

    def __init__(self, status: int, detail: str, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class Caller(NamedTuple):
    """What is known of a client before its body is read: its headers, and the address of its connection."""

    headers: Headers
    address: str | None


class Sender(Protocol):
    """Someone known to the collector."""

    @property
    def name(self) -> str:
        """Whose rate is counted; empty: nobody's."""

    def accept(self, submission: Submission) -> Submission:
        """The (valid) submission as this sender may store it; else raises Refused 403."""


class Authorizer(Protocol):
    """Decides once per request, before its body is read; the sender then decides once per report."""

    async def sender(self, caller: Caller) -> Sender:
        """Who sends. Raises Refused."""

    async def reader(self, caller: Caller) -> None:
        """Return if this caller may read what is stored. Raises Refused."""


class Anyone:
    """The open mode's sender: may write every report."""

    name = ""

    def accept(self, submission: Submission) -> Submission:
        """Every report is permitted, as it is."""
        return submission


_ANYONE = Anyone()


class OpenAuthorizer:
    """The open mode: for loopback, or behind a proxy that authenticates. An Authorization header is not looked at."""

    async def sender(self, caller: Caller) -> Sender:  # noqa: ARG002 - the protocol's shape
        """Anyone may send."""
        return _ANYONE

    async def reader(self, caller: Caller) -> None:
        """Anyone may read."""
