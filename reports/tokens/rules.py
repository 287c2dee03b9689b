"""From verified claims to what they permit: a factory's token is for one entry, an issuer's by the operator's rules."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reports.authorization import Refused
from reports.tokens.grants import ANY, NONE, Grant, Identity, Names
from reports.tokens.keys import READERS


class Claims(NamedTuple):
    """What a verified token says. `groups` are WLCG's, `site` is ours; `expires_at` in seconds since 1970."""

    issuer: str
    subject: str
    expires_at: float
    scopes: frozenset[str]
    groups: frozenset[str]
    site: str | None


class Rule(NamedTuple):
    """What some tokens of an issuer permit. Conditions that are None are not looked at; the others must all hold."""

    subject: str | None = None
    scope: str | None = None
    group: str | None = None
    grant: Grant | None = None
    reads: bool = False

    def holds(self, claims: Claims) -> bool:
        """Whether a token with these claims is meant."""
        return (
            self.subject in (None, claims.subject)
            and (self.scope is None or self.scope in claims.scopes)
            and (self.group is None or self.group in claims.groups)
        )


class Rules:
    """The operator's mapping.

    `of_issuer`: the rules of each configured issuer. `sites`: for each factory its entries and their sites, for tokens
    that name no site (GlideinWMS's). With `trust_reported_site` such a token may name any.
    """

    def __init__(
        self,
        of_issuer: Mapping[str, Sequence[Rule]],
        sites: Mapping[str, Mapping[str, str]],
        trust_reported_site: bool = False,
    ) -> None:
        self._of_issuer = of_issuer
        self._sites = sites
        self._unknown_site = ANY if trust_reported_site else NONE

    def identity(self, claims: Claims) -> Identity:
        """What these claims permit. Raises Refused 403 if nothing."""
        name = f"{claims.issuer}\n{claims.subject}"
        if claims.issuer == READERS:
            return Identity(name, reads=True)
        if claims.issuer not in self._of_issuer:
            entry_grant = Grant(Names.only(claims.issuer), Names.only(claims.subject), self._site(claims))
            return Identity(name, (entry_grant,))
        rules = [rule for rule in self._of_issuer[claims.issuer] if rule.holds(claims)]
        if not rules:
            raise Refused(403, "the token is valid, but no rule of this collector gives it a right", "no_rule")
        grants = tuple(rule.grant for rule in rules if rule.grant)
        return Identity(name, grants, any(rule.reads for rule in rules))

    def _site(self, claims: Claims) -> Names:
        site = claims.site or self._sites.get(claims.issuer, {}).get(claims.subject)
        return Names.only(site) if site else self._unknown_site
