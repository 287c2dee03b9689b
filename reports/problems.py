"""Errors as RFC 9457 problem details: one shape for everything that goes wrong over HTTP."""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response

from reports.authorization import Refused
from reports.contract import Problem
from reports.intake import Rejected
from reports.safe_text import shorten

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:singularity-compatibility-probe:problem:"
# The status of each kind of refusal of a report (reports.intake.REMEDIES).
STATUS_OF_KIND = {"not_json": 400, "too_large": 413, "version": 422, "schema": 422, "date": 422}
_TITLES = {
    "not_json": "The body is not JSON",
    "too_large": "The report or body is too large",
    "version": "The report has a version that is not read here",
    "schema": "The report does not fit the schema",
    "date": "The report was made too long ago, or in the future",
    "damaged": "The body cannot be decompressed",
    "cut_short": "The body did not come whole",
    "slow": "The body took too long",
    "media_type": "This Content-Type or Content-Encoding is not taken",
    "bad_request": "This is not HTTP as it should be",
    "busy": "The collector is busy, try again",
    "rate": "Too many reports with this token, try again",
    "disk": "There is no room for reports, try again later",
    "connections": "Too many connections, try again",
    "unavailable": "The database cannot be reached, try again",
    "unknown_name": "There is nothing of this name",
    "ambiguous_name": "There are several of this name",
}


class HttpProblem(Exception):
    """An answer other than success. `kind`, one of a fixed set, names the problem's type; without it the status does."""

    def __init__(
        self,
        status: int,
        detail: str,
        kind: str = "",
        errors: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.errors = errors
        self.headers = dict(headers or {})

    @classmethod
    def of_rejected(cls, rejected: Rejected) -> "HttpProblem":
        """The answer to a report that was refused."""
        first = rejected.problems[0]
        detail = f"{first.pointer or 'the report'}: {first.detail}; {rejected.remedy}"
        return cls(STATUS_OF_KIND[rejected.kind], detail, rejected.kind, rejected.problems)

    @classmethod
    def of_refused(cls, refused: Refused) -> "HttpProblem":
        """The answer to someone who may not."""
        headers = {}
        if refused.status == 401:
            # RFC 6750 3: no error code for a request without any token.
            error = "" if refused.reason == "no_token" else ', error="invalid_token"'
            headers["WWW-Authenticate"] = f'Bearer realm="site-db"{error}'
        if refused.retry_after_s is not None:
            headers["Retry-After"] = str(refused.retry_after_s)
        return cls(refused.status, str(refused), refused.reason, headers=headers)

    @classmethod
    def try_again(cls, kind: str, detail: str, after_s: float, status: int = 503) -> "HttpProblem":
        """503 (or 429) with Retry-After in whole seconds, at least one."""
        return cls(status, detail, kind, headers={"Retry-After": str(max(1, math.ceil(after_s)))})

    def as_dict(self) -> dict[str, Any]:
        """The members of the problem details object."""
        members: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind if self.kind else "about:blank",
            "title": _TITLES.get(self.kind) or HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": shorten(self.detail, 1000),
        }
        if self.errors:
            members["errors"] = [problem._asdict() for problem in self.errors]
        return members

    def response(self) -> Response:
        """The HTTP response."""
        return Response(orjson.dumps(self.as_dict()), self.status, self.headers, MEDIA_TYPE)
