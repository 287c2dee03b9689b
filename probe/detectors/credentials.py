"""Credentials, described and never copied: kind, issuer, expiry, audience."""

import json
import time
from typing import Any, Dict, Iterator, List, Optional

from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings

LIMIT_S = 2.0
TOKEN_VARIABLES = ("BEARER_TOKEN_FILE",)
PROXY_VARIABLES = ("X509_USER_PROXY",)


def describe_token(text: str) -> Optional[Dict[str, Any]]:
    """What a JWT says of itself, unverified; None when it is none. The token itself goes no further."""
    import base64

    parts = text.strip().split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)).decode("utf-8"))
    except ValueError:  # of base64, UTF-8 or JSON
        return None
    if not isinstance(claims, dict):
        return None
    audience = claims.get("aud")
    kind = (
        "scitoken"
        if str(claims.get("ver", "")).startswith("scitoken")
        else "wlcg"
        if "wlcg.ver" in claims
        else "idtoken"
    )
    return {
        "kind": kind,
        "issuer": str(claims["iss"])[:1024] if "iss" in claims else None,
        "expires_at": _time(claims.get("exp")),
        "audience": None
        if audience is None
        else [str(item)[:1024] for item in (audience if isinstance(audience, list) else [audience])][:16],
    }


def _time(seconds: Any) -> Optional[str]:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(seconds)))
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def read_token(path: str) -> Optional[Dict[str, Any]]:
    """Describe the token in a file; raises OSError. May hang."""
    with open(path, "rb") as stream:
        return describe_token(stream.read(16384).decode("ascii", "replace"))


def detect(host: Host, _settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``credentials``: files that the environment names."""
    files = [host.environment[name] for name in TOKEN_VARIABLES if host.environment.get(name)]
    results = host.attempt_all(LIMIT_S, {"credentials." + path: [read_token, path] for path in files})
    found = [results["credentials." + path].value for path in files]
    rows: List[Dict[str, Any]] = [row for row in found if row]
    if any(host.environment.get(name) for name in PROXY_VARIABLES):
        rows.append({"kind": "x509", "issuer": None, "expires_at": None, "audience": None})
    yield {"data": rows, "checks": []}


def unknown(_status: str, _reason: str, _message: str) -> List[Any]:
    """The report's ``credentials`` where this detector never answered."""
    return []
