"""The Authorizer of a collector with tokens: bearer tokens for senders; tokens or a trusted proxy for readers.

A token that was verified is remembered by its hash until it expires or the keys of its origin change: a glidein entry's
token comes with every report of its nodes. The token itself is not kept.
"""

import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from starlette.datastructures import Headers

from reports.authorization import Caller, Refused
from reports.tokens.grants import Identity
from reports.tokens.rules import Rules
from reports.tokens.sources import KeySource
from reports.tokens.verifying import Verifier

REMEMBERED = 20_000
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Readers(NamedTuple):
    """Who may read without a token: everybody, or whom a proxy at one of these addresses names in `header`."""

    everybody: bool = False
    proxies: Sequence[Network] = ()
    header: str = "X-Remote-User"


class _Known(NamedTuple):
    source: KeySource
    version: int
    expires_at: float
    identity: Identity


class TokenAuthorizer:
    """See the module. `hits` and `misses` count what the memory of tokens was worth."""

    def __init__(
        self,
        verifier: Verifier,
        rules: Rules,
        readers: Readers,
        remembered: int = REMEMBERED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.verifier = verifier
        self.hits = self.misses = 0
        self._rules = rules
        self._readers = readers
        self._remembered = remembered
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def sender(self, caller: Caller) -> Identity:
        """Whom the token stands for. Raises Refused 401, 403 or 503."""
        identity = await self._identity(_token(caller.headers))
        if not identity.grants:
            raise Refused(403, "this token is not for writing reports", "not_a_writer")
        return identity

    async def reader(self, caller: Caller) -> None:
        """Return if the caller may read. Raises Refused 401, 403 or 503."""
        if self._readers.everybody or self._is_vouched_for(caller):
            return
        identity = await self._identity(_token(caller.headers))
        if not identity.reads:
            raise Refused(403, "this token is not for reading", "not_a_reader")

    def _is_vouched_for(self, caller: Caller) -> bool:
        if not self._readers.proxies or not caller.headers.get(self._readers.header, "").strip():
            return False
        try:
            address = ipaddress.ip_address(caller.address or "")
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._readers.proxies)

    async def _identity(self, token: str) -> Identity:
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._known.get(digest)
        if known:
            known.source.look()
            if known.version == known.source.version and self._clock() < known.expires_at:
                self._known.move_to_end(digest)
                self.hits += 1
                return known.identity
            del self._known[digest]
        self.misses += 1
        return await self._learnt(token, digest)

    async def _learnt(self, token: str, digest: bytes) -> Identity:
        claims = await self.verifier.verify(token)
        source = self.verifier.source_of(claims.issuer)
        identity = self._rules.identity(claims)
        expires_at = claims.expires_at + self.verifier.leeway_s
        self._known[digest] = _Known(source, source.version, expires_at, identity)
        while len(self._known) > self._remembered:
            self._known.popitem(last=False)
        return identity


def _token(headers: Headers) -> str:
    given = headers.getlist("authorization")
    if not given:
        raise Refused(401, "this needs a token: Authorization: Bearer TOKEN", "no_token")
    scheme, _, token = given[0].partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise Refused(401, "the Authorization header is not one bearer token", "malformed_token")
    return token.strip()
