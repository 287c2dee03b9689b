"""Whether a registry has an image: HEAD on its manifest, with a token where the registry gives one to anybody.

Nothing is pulled and no credential is sent. Imported in a child, and only where an image is named by a URL.
"""

import json
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from probe.urls import without_password
from probe.workers import Result

LIMIT_S = 8.0
SOCKET_S = 4.0
TOKEN_BYTES = 64 * 1024

# What a docker reference without a host means; the host that serves it, as go-containerregistry has it.
DEFAULT_HOST = "index.docker.io"
MANIFESTS = ", ".join(
    "application/vnd." + name
    for name in (
        "oci.image.index.v1+json",
        "oci.image.manifest.v1+json",
        "docker.distribution.manifest.list.v2+json",
        "docker.distribution.manifest.v2+json",
    )
)
SCHEMES = ("docker", "oras", "library", "https", "http")
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}

_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]{1,5})?$|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?$")
_NAME = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*$")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$|[a-z0-9]+:[0-9a-f]{32,}$")


class Target(NamedTuple):
    """Where to ask: host and path of what has to be there."""

    host: str
    path: str


def target_of(url: str, arch: str = "x86_64") -> Optional[Target]:
    """What a URL asks of which host; None where it makes no sense or has a scheme that is not asked about."""
    scheme, _, rest = url.partition("://")
    if scheme in ("http", "https"):
        host, slash, path = rest.partition("/")
        return Target(host, slash + path) if _HOST.match(host) else None
    if scheme == "library":
        return _library_target(rest, arch)
    return _oci_target(rest) if scheme in ("docker", "oras") else None


def _oci_target(rest: str) -> Optional[Target]:
    first, slash, name = rest.partition("/")
    if not slash or not re.search(r"[.:]|^localhost$", first):
        first, name = DEFAULT_HOST, rest
    name, at, digest = name.partition("@")
    name, _, tag = name.partition(":")
    if first in (DEFAULT_HOST, "docker.io"):
        first, name = DEFAULT_HOST, name if "/" in name else "library/" + name
    wanted = digest if at else tag or "latest"
    if not (_HOST.match(first) and _NAME.match(name) and _TAG.match(wanted)):
        return None
    return Target(first, "/v2/{}/manifests/{}".format(name, wanted))


def _library_target(rest: str, arch: str) -> Optional[Target]:
    """Sylabs' library protocol: /v1/images/PATH?arch= (scs-library-client); without a host none is asked."""
    first, slash, path = rest.partition("/")
    if not slash or not re.search(r"[.:]", first) or not _HOST.match(first):
        return None
    return Target(first, "/v1/images/{}?arch={}".format(urllib.parse.quote(path, safe="/:"), ARCHES.get(arch, arch)))


def ask(url: str, arch: str, environment: Mapping[str, str], plain_hosts: List[str]) -> Dict[str, Any]:
    """Ask the registry. May take as long as its sockets' limits. Returns http_status or error (words), or
    unsupported: True; digest and bytes of the manifest where they are told."""
    target = target_of(url, arch)
    if target is None:
        return {"unsupported": True}
    scheme = "http" if target.host in plain_hosts else "https"
    opener = _opener(environment, plain_hosts)
    address = "{}://{}{}".format(scheme, target.host, target.path)
    try:
        answer = _head(opener, address, None)
        if answer["http_status"] == 401 and answer["challenge"]:
            token = _token(opener, answer["challenge"], plain_hosts)
            answer = _head(opener, address, token) if token else answer
    except (OSError, ValueError, urllib.error.URLError) as error:
        return {"error": _words(error)}
    del answer["challenge"]
    return answer


def _opener(environment: Mapping[str, str], plain_hosts: List[str]) -> urllib.request.OpenerDirector:
    """HTTP and HTTPS by the node's proxies, nothing else: a redirection or a realm may say file:// or ftp://."""
    opener = urllib.request.OpenerDirector()
    proxies = {
        scheme: environment.get(scheme + "_proxy") or environment.get(scheme.upper() + "_PROXY") or ""
        for scheme in ("http", "https")
    }
    # An http proxy set in capitals may be a header of a CGI request; glideins are no CGI.
    for handler in (
        urllib.request.ProxyHandler({scheme: proxy for scheme, proxy in proxies.items() if proxy}),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        _Redirections(plain_hosts),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows within TLS; to a place without it only where the configuration says so. The token is not taken along."""

    def __init__(self, plain_hosts: List[str]) -> None:
        self._plain_hosts = plain_hosts

    def redirect_request(self, req: Any, *rest: Any) -> Any:
        """A request for where it leads; ``rest`` ends with that URL."""
        _require_allowed(rest[-1], self._plain_hosts)
        headers = {"Accept": MANIFESTS}
        return urllib.request.Request(rest[-1], method=req.get_method(), headers=headers)  # noqa: S310  looked at above


def _require_allowed(url: str, plain_hosts: List[str]) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.netloc in plain_hosts):
        raise ValueError("it leads to {}://, which is not followed".format(parts.scheme))


def _head(opener: Any, address: str, token: Optional[str]) -> Dict[str, Any]:
    headers = {"Accept": MANIFESTS, "User-Agent": "singularity-probe"}
    if token:
        headers["Authorization"] = "Bearer " + token
    request = urllib.request.Request(address, method="HEAD", headers=headers)  # noqa: S310  made of a host and a path
    try:
        with opener.open(request, timeout=SOCKET_S) as response:
            status, told = response.getcode(), response.headers
    except urllib.error.HTTPError as error:
        status, told = error.code, error.headers
        error.close()
    size = told.get("Content-Length") or ""
    return {
        "http_status": status,
        "challenge": told.get("WWW-Authenticate"),
        "digest": (told.get("Docker-Content-Digest") or "")[:128] or None,
        "bytes": int(size) if re.match("[0-9]{1,15}$", size) else None,
    }


def parse_challenge(text: str) -> Optional[Tuple[str, Dict[str, str]]]:
    """Realm and parameters of a Bearer challenge (RFC 6750); None for other kinds."""
    if not text.lower().startswith("bearer "):
        return None
    values = dict(re.findall(r'([a-z_]+)="([^"]*)"', text))
    realm = values.pop("realm", None)
    wanted = {name: value for name, value in values.items() if name in ("service", "scope")}
    return (realm, wanted) if realm else None


def _token(opener: Any, challenge: str, plain_hosts: List[str]) -> Optional[str]:
    """A token that is given to anybody; None where there is none."""
    parsed = parse_challenge(challenge)
    if parsed is None:
        return None
    realm, wanted = parsed
    _require_allowed(realm, plain_hosts)
    address = realm + ("&" if "?" in realm else "?") + urllib.parse.urlencode(wanted)
    request = urllib.request.Request(address)  # noqa: S310  its scheme was looked at
    try:
        with opener.open(request, timeout=SOCKET_S) as response:
            body = json.loads(response.read(TOKEN_BYTES).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        error.close()
        return None
    token = body.get("token") or body.get("access_token") if isinstance(body, dict) else None
    return token if isinstance(token, str) and re.match(r"[\x21-\x7e]+$", token) else None


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, socket.timeout):
        return "no answer within {:.0f} s".format(SOCKET_S)
    return without_password("{}: {}".format(type(reason).__name__, reason))[:512]


def judge(result: Result) -> Dict[str, Any]:
    """Status, reason, message and evidence of a row."""
    found = result.value or {}
    evidence = {name: found[name] for name in ("http_status", "digest", "bytes") if found.get(name) is not None}
    status, reason, message = _judge(result, found)
    return {"status": status, "reason": reason, "message": message, "evidence": evidence}


def _judge(result: Result, found: Dict[str, Any]) -> Tuple[str, Optional[str], str]:
    code = found.get("http_status")
    if result.state == "timeout":
        return "timeout", "registry_unreachable", "no answer within {:.0f} s".format(result.duration_s)
    if found.get("unsupported"):
        return "skipped", "not_applicable", "only docker, oras, library://HOST, https and http are asked about"
    if code is None:
        return "fail", "registry_unreachable", str(found.get("error") or result.detail)
    if 200 <= code < 300:
        return "ok", None, "the registry has it; it was not pulled"
    reason = {
        401: "registry_auth_needed",
        403: "registry_auth_needed",
        404: "image_missing",
        429: "registry_rate_limited",
    }
    return "fail", reason.get(code, "registry_unreachable"), "the registry answers {}".format(code)
