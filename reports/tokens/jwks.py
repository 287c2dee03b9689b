"""Public keys of token issuers: found by their metadata, fetched within bounds, read without trust.

Only RSA keys for RS256 and P-256 keys for ES256 are taken, whatever else a key set may hold: a secret (`oct`) key in it
can never verify anything. Issuers: SciTokens and WLCG token profile, which publish OpenID or OAuth (RFC 8414) metadata.
"""

import ipaddress
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import jwt
import orjson
import requests
import urllib3

from reports.tokens.keys import Key, KeySet
from site_db.errors import SiteDbError

ALGORITHMS = ("RS256", "ES256")
_METADATA = (".well-known/openid-configuration", ".well-known/oauth-authorization-server")
_ANSWER_BYTES = 256 * 1024
_CONNECT_S = 5.0
_TOTAL_S = 10.0
_PIECE_BYTES = 16 * 1024
_KEYS = 64
_RSA_BITS = range(2048, 8193)
# By a key's `kty` and `crv`.
_KINDS = {"RSA ": "RS256", "EC P-256": "ES256"}


class NoKeys(SiteDbError):
    """An issuer's keys cannot be had now."""


class Source(NamedTuple):
    """Where an issuer's keys are: its URL, or directly the key set's; `ca_file` for an authority of its own."""

    issuer: str
    jwks_url: str | None = None
    ca_file: str | None = None
    algorithms: Sequence[str] = ALGORITHMS


def is_safe_url(url: str) -> bool:
    """Whether keys may be fetched from there: https, or http of this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return False
    if not host or parts.username is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def fetch_keys(source: Source) -> KeySet:
    """The keys of an issuer. Blocks, at most about 30 s. Raises NoKeys."""
    with requests.Session() as session:
        session.verify = source.ca_file or True
        session.auth = _no_password
        document = _json(session, source.jwks_url or _key_set_url(session, source))
    found = KeySet(_usable(document, source))
    if not found.keys:
        raise _no_keys(source, "its key set has no key that can verify RS256 or ES256")
    return found


def _key_set_url(session: requests.Session, source: Source) -> str:
    problems = []
    for path in _METADATA:
        url = f"{source.issuer.rstrip('/')}/{path}"
        try:
            metadata = _json(session, url)
        except NoKeys as error:
            problems.append(str(error))
            continue
        # RFC 8414 3.3: metadata of another issuer must not be used.
        if metadata.get("issuer") != source.issuer:
            raise _no_keys(source, f"the metadata at {url} is that of another issuer")
        found = metadata.get("jwks_uri")
        if not isinstance(found, str) or not is_safe_url(found):
            raise _no_keys(source, f"the metadata at {url} names no https address of a key set")
        return found
    raise _no_keys(source, "; ".join(problems))


def _json(session: requests.Session, url: str) -> dict[str, Any]:
    try:
        document = orjson.loads(_get(session, url))
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise NoKeys(f"{url}: {type(error).__name__}", "") from error
    except orjson.JSONDecodeError as error:
        raise NoKeys(f"{url}: the answer is not JSON", "") from error
    if not isinstance(document, dict):
        raise NoKeys(f"{url}: the answer is not a JSON object", "")
    return document


def _get(session: requests.Session, url: str) -> bytes:
    """The body of an answer 200: no redirect, bounded in size and in time, also where it comes byte by byte."""
    end = time.monotonic() + _TOTAL_S
    # `verify` once more: else REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE go before the session's.
    options: dict[str, Any] = {"verify": session.verify, "timeout": (_CONNECT_S, _CONNECT_S)}
    with session.get(url, stream=True, allow_redirects=False, **options) as answer:
        if answer.status_code != 200:
            raise NoKeys(f"{url}: HTTP {answer.status_code}", "")
        body = b""
        while piece := answer.raw.read1(_PIECE_BYTES, decode_content=True):
            body += piece
            if len(body) > _ANSWER_BYTES:
                raise NoKeys(f"{url}: the answer is longer than {_ANSWER_BYTES} bytes", "")
            if time.monotonic() > end:
                raise NoKeys(f"{url}: the answer takes longer than {_TOTAL_S:g} s", "")
        return body


def _no_password(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """In the place of a password out of ~/.netrc, which would be sent to whoever answers."""
    return request


def _usable(document: dict[str, Any], source: Source) -> Iterator[Key]:
    rows = document.get("keys")
    for row in rows[:_KEYS] if isinstance(rows, list) else []:
        algorithm = _algorithm(row) if isinstance(row, dict) else None
        if algorithm not in source.algorithms:
            continue
        key_id = row.get("kid")
        if key_id is not None and not isinstance(key_id, str):
            continue
        # Only public members, and none that would choose an algorithm.
        public = {name: row[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in row}
        try:
            material = jwt.PyJWK(public, algorithm=algorithm)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        if algorithm == "RS256" and material.key.key_size not in _RSA_BITS:
            continue
        digest = orjson.dumps(public, option=orjson.OPT_SORT_KEYS)
        yield Key(source.issuer, key_id, str(algorithm), material, digest)


def _algorithm(row: dict[str, Any]) -> str | None:
    """The one algorithm that this key serves; None if none of ours."""
    if row.get("use", "sig") != "sig":
        return None
    kind = _KINDS.get(f"{row.get('kty')} {row.get('crv', '')}")
    return kind if row.get("alg", kind) == kind else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _no_keys(source: Source, why: str) -> NoKeys:
    return NoKeys(f"No keys of the token issuer {source.issuer}: {why}.", "Look whether it can be reached from here.")
