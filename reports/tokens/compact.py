"""A token taken apart before anything of it is believed: strict, bounded, without any key.

Stricter than the library that verifies afterwards: a member given twice is refused (two readers would disagree about
which one counts), and so are times that are no finite number, and header members that change how a token is read.
"""

import base64
import json
import math
import re
from typing import Any, NamedTuple

from reports.authorization import Refused

TOKEN_LIMIT = 8192
_NAME_LIMIT = 1024
_LIST_LIMIT = 32
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# RFC 7515 4.1.11 and RFC 7797: extensions that a reader has to understand. None is understood here.
_UNREADABLE = ("crit", "b64", "zip", "enc")


class Unverified(NamedTuple):
    """What a token claims about its own making. `key_id` is None where it names no key (GlideinWMS)."""

    algorithm: str
    key_id: str | None
    issuer: str


def malformed(detail: str) -> Refused:
    """The refusal of something that is no token."""
    return Refused(401, f"the token cannot be read: {detail}", "malformed_token")


def take_apart(token: str) -> Unverified:
    """The making of a token. Raises Refused 401 for whatever is no JWS in compact form with the required claims.

    `jku`, `x5u`, `jwk` and `x5c` in the header, by which a token would bring its own key, are never looked at.
    """
    if len(token) > TOKEN_LIMIT:
        raise Refused(401, f"the token is longer than {TOKEN_LIMIT} characters", "token_too_large")
    if not _FORM.fullmatch(token):
        raise malformed("it is not three parts of base64url with dots between them")
    head, body, _ = token.split(".")
    header, claims = _object(head, "header"), _object(body, "payload")
    for name in _UNREADABLE:
        if name in header:
            raise malformed(f"its header has the member {name}")
    _check_claims(claims)
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str):
        raise malformed("its header names no algorithm")
    if key_id is not None and not _is_name(key_id):
        raise malformed("its key id is not a text")
    return Unverified(algorithm, key_id, claims["iss"])


def _object(part: str, what: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_members, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise malformed(f"its {what} is not one plain JSON object") from error
    if not isinstance(found, dict):
        raise malformed(f"its {what} is not one plain JSON object")
    return found


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is given twice")
    return members


def _no_number(text: str) -> Any:  # noqa: ANN401 - json's signature; it never returns
    raise ValueError(f"{text} is no number")


def _check_claims(claims: dict[str, Any]) -> None:
    for name in ("iss", "sub", "aud", "exp"):
        if name not in claims:
            raise Refused(401, f"the token lacks the claim {name}", "missing_claim")
    for name in ("iss", "sub"):
        if not _is_name(claims[name]):
            raise malformed(f"its claim {name} is not a text of 1 to {_NAME_LIMIT} characters")
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if not 0 < len(audience) <= _LIST_LIMIT or not all(map(_is_name, audience)):
        raise malformed("its claim aud is neither a text nor a short list of texts")
    for name in ("exp", "nbf", "iat"):
        if name in claims and not _is_time(claims[name]):
            raise malformed(f"its claim {name} is no time")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _NAME_LIMIT


def _is_time(value: object) -> bool:
    """A NumericDate (RFC 7519) that the calendar has."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value < 2**38
    )
