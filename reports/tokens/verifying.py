"""From the text of a token to claims that can be believed, or Refused with the reason."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, quote_plus

import jwt

from reports.authorization import Refused
from reports.tokens.compact import malformed, take_apart
from reports.tokens.keys import Key
from reports.tokens.rules import Claims
from reports.tokens.sources import KeySource

LEEWAY_S = 60
_REQUIRED = ["iss", "sub", "aud", "exp"]
_LISTED = 512
# From the most special kind of error to the least.
_REASONS: Sequence[tuple[type[jwt.PyJWTError], str, str]] = (
    (jwt.ExpiredSignatureError, "the token has expired", "expired"),
    (jwt.ImmatureSignatureError, "the token is not valid yet", "not_yet_valid"),
    (jwt.InvalidAudienceError, "the token is for another audience", "other_audience"),
    (jwt.InvalidSignatureError, "the token's signature is not by a key of its issuer", "bad_signature"),
)


def spellings(audience: str) -> set[str]:
    """The forms of an audience: as it is, and percent-encoded, as GlideinWMS's logging tokens have it."""
    return {audience, quote(audience, safe=""), quote_plus(audience)}


class Verifier:
    """Verifies tokens of configured issuers (public keys) and of factories (secret keys of a folder)."""

    def __init__(
        self,
        factories: KeySource,
        issuers: Mapping[str, KeySource],
        audiences: Sequence[str],
        issuer_audiences: Mapping[str, Sequence[str]],
        leeway_s: int = LEEWAY_S,
    ) -> None:
        self._factories = factories
        self._issuers = issuers
        self._audiences = _all_spellings(audiences)
        self._issuer_audiences = {name: _all_spellings(given) for name, given in issuer_audiences.items()}
        self.leeway_s = leeway_s

    @property
    def sources(self) -> list[KeySource]:
        """All origins of keys."""
        return [self._factories, *self._issuers.values()]

    def source_of(self, issuer: str) -> KeySource:
        """Whose keys verify tokens of this issuer. A configured issuer can never be stood in for by a secret key."""
        return self._issuers.get(issuer, self._factories)

    async def verify(self, token: str) -> Claims:
        """The claims of a valid token. Raises Refused: 401, or 503 while there are no keys of its issuer."""
        made = take_apart(token)
        source = self.source_of(made.issuer)
        if made.algorithm not in source.algorithms:
            raise Refused(401, "the token is signed in a way that is not taken from its issuer", "bad_algorithm")
        keys = await source.find(made.issuer, made.key_id, made.algorithm)
        if not keys and not source.is_known and source is not self._factories:
            raise Refused(503, "the keys of the token's issuer cannot be had now", "no_keys", retry_after_s=60)
        if not keys:
            raise Refused(401, "no key that is known here has signed the token", "unknown_key")
        audiences = self._issuer_audiences.get(made.issuer, self._audiences)
        return _claims(self._decoded(token, keys, audiences))

    def _decoded(self, token: str, keys: Sequence[Key], audiences: Sequence[str]) -> dict[str, Any]:
        for key in keys:
            try:
                return jwt.decode(
                    token,
                    key.material,
                    algorithms=[key.algorithm],
                    audience=audiences,
                    issuer=key.issuer,
                    leeway=self.leeway_s,
                    options={"require": _REQUIRED},
                )
            except jwt.InvalidSignatureError as error:
                if key is keys[-1]:
                    raise _refused(error) from error
            except jwt.PyJWTError as error:
                raise _refused(error) from error
        raise AssertionError("at least one key is given")


def _refused(error: jwt.PyJWTError) -> Refused:
    for kind, detail, reason in _REASONS:
        if isinstance(error, kind):
            return Refused(401, detail, reason)
    return malformed("its claims or its form are not those of a token")


def _claims(found: dict[str, Any]) -> Claims:
    site = found.get("site")
    if site is not None and (not isinstance(site, str) or not site):
        raise malformed("its claim site is not a text")
    return Claims(
        found["iss"],
        found["sub"],
        float(found["exp"]),
        _words(found.get("scope", "")),
        _words(found.get("wlcg.groups", [])),
        site,
    )


def _words(value: object) -> frozenset[str]:
    """A claim that is a list of texts, or one text with blanks between them (RFC 8693); nothing for anything else."""
    listed = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(item for item in listed[:_LISTED] if isinstance(item, str))


def _all_spellings(audiences: Sequence[str]) -> list[str]:
    return sorted(set().union(*map(spellings, audiences)))
