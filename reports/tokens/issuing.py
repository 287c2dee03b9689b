"""Tokens of this centre's own making: for the entries of a factory, and for readers."""

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import jwt

from reports.tokens.keys import KeyFile, KeyProblem, list_key_files, read_key_file

# As GlideinWMS makes its logging tokens: clocks of nodes may be behind, a glidein lives for days.
NOT_BEFORE_S = 300
DAYS = 7


class Wanted(NamedTuple):
    """A token to make: who vouches (a factory, or keys.READERS), for whom, to show to which collector."""

    issuer: str
    subject: str
    audience: str
    days: float = DAYS
    site: str | None = None


def newest_key(folder: Path, issuer: str, key_id: str | None = None) -> KeyFile:
    """The key to sign with: the one asked for, or the newest of the issuer. Raises KeyProblem."""
    files = [file for file in list_key_files(folder) if file.factory == issuer and key_id in (None, file.key_id)]
    if files:
        return files[-1]
    which = f"key {key_id!r}" if key_id else "key"
    raise KeyProblem(f"There is no {which} of {issuer!r} in {folder}.", "`site-db token keys add` makes one.")


def issue(folder: Path, wanted: Wanted, now: datetime, key_id: str | None = None) -> str:
    """The token, signed with HS256. Raises KeyProblem."""
    key = read_key_file(newest_key(folder, wanted.issuer, key_id))
    issued_at = int(now.timestamp())
    claims = {
        "iss": wanted.issuer,
        "sub": wanted.subject,
        "aud": wanted.audience,
        "iat": issued_at,
        "nbf": issued_at - NOT_BEFORE_S,
        "exp": issued_at + round(wanted.days * 86400),
    }
    if wanted.site:
        claims["site"] = wanted.site
    return jwt.encode(claims, key.material.key, key.algorithm, headers={"kid": str(key.key_id)})
