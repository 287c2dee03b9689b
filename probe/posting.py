"""One try to POST a report, in a child of its own: everything here may hang. The probe's own client, because it has to say
what failed: the token, the proxy, TLS, the collector, or something on the way that is no collector.
"""

import time
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from probe.urls import without_password

PATH = "/api/v1/reports"
ANSWER_LIMIT_BYTES = 4096
TOKEN_LIMIT_BYTES = 65536
PROXIES_LIMIT = 3
PORTS = {"http": 80, "https": 443}
# Squid says by this header that an answer is its own and not the collector's.
SQUID_HEADER = "X-Squid-Error"


# Beyond the limit of whoever waits for this child: who notices it first would else decide how it is told.
LATER_S = 2.0


class Sending(NamedTuple):
    """Where a report goes and what it takes. ``proxy`` is HOST:PORT with scheme and password as configured, or None."""

    url: str
    proxy: Optional[str]
    token_file: Optional[str]
    ca_file: Optional[str]
    ca_folder: Optional[str]
    limit_s: float


class Failed(Exception):
    """The try ended; ``reason`` is a reason code, the text says what happened and holds no secret."""

    def __init__(self, reason: str, message: str) -> None:
        Exception.__init__(self, message)
        self.reason = reason


def post(sending: Sending, body: str, report_id: str) -> Iterator[Dict[str, Any]]:
    """Try once. Yields {"doing", "reason"} before each step, what to say if it hangs there, and at last {"code", "text",
    "is_ours", "retry_after_s"} of an answer or {"reason", "message"} of a failure."""
    token = None
    try:
        host, port, path = address(sending.url)
        is_secure = sending.url.startswith("https:")
        if sending.token_file:
            yield {"doing": "reading " + sending.token_file, "reason": "token_unusable"}
            token = usable_token(sending.token_file, sending.url, time.time())
        where = "proxy " + without_password(sending.proxy) if sending.proxy else host
        unreachable = "proxy_failed" if sending.proxy else "network_unreachable"
        yield {"doing": "connecting to " + where, "reason": unreachable}
        connection, headers = _connected(sending, host, port, is_secure)
        if is_secure:
            yield {"doing": "agreeing on TLS", "reason": "tls_failed"}
            _secure(connection, host, sending)
        elif sending.proxy:
            path = "http://{}:{}{}".format("[{}]".format(host) if ":" in host else host, port, path)
        yield {"doing": "waiting for its answer", "reason": "collector_unavailable"}
        yield _answer(connection, path, dict(headers, **_headers(token)), body, (token, report_id))
    except Failed as failed:
        yield {"reason": failed.reason, "message": str(failed)}


def address(url: str) -> Tuple[str, int, str]:
    """(host, port, path of the collector's reports) of a collector's URL; raises Failed."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORTS[parts.scheme]
    except (ValueError, KeyError):
        host, port = None, 0
    if not host:
        raise Failed("network_unreachable", "not an http or https URL")
    return host, port, parts.path.rstrip("/") + PATH


def routes(url: str, environment: Mapping[str, str], proxy_url: Optional[str]) -> List[Optional[str]]:
    """The proxies to go through, one after the other; None is the direct way. Raises Failed for a bad URL.

    A proxy of the environment is an order. PROXY_URL of the glidein is a cache for its downloads: it may refuse to go
    where we want to go, so the direct way is tried as well.
    """
    host, port, _ = address(url)
    if is_bypassed(host, port, environment.get("no_proxy") or environment.get("NO_PROXY") or ""):
        return [None]
    for name in (url.partition(":")[0] + "_proxy", "all_proxy"):
        ordered = environment.get(name) or environment.get(name.upper())
        if ordered:
            return [ordered]
    # Several in CVMFS's manner: "http://a:3128|http://b:3128;DIRECT"; "None" and "OSG" are words of GlideinWMS.
    named = (proxy_url or "").replace(";", "|").split("|")
    usable = [name.strip() for name in named if name.strip() and name.strip().upper() not in ("NONE", "OSG", "DIRECT")]
    return [*usable[:PROXIES_LIMIT], None]


def is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether no_proxy names the host: itself, a domain above it, with or without port, or everything by ``*``."""
    for word in no_proxy.lower().replace(",", " ").split():
        name, _, only = word.rpartition(":") if word.count(":") == 1 else (word, "", "")
        name = name.strip("[]").lstrip("*").lstrip(".")
        if (not name or host == name or host.endswith("." + name)) and only in ("", str(port)):
            return True
    return False


def usable_token(path: str, url: str, now: float) -> str:
    """The token for a URL in a file, read afresh: whoever renews it replaces the file. Raises Failed."""
    try:
        with open(path, "rb") as stream:
            text = stream.read(TOKEN_LIMIT_BYTES)
    except OSError as error:
        raise Failed("token_unusable", "{}: {}".format(path, error.strerror)) from None
    words = _listed(text, url) if text.startswith(b"(") else text.split()
    if len(words) != 1 or not all(33 <= byte <= 126 for byte in words[0]):
        what = "no token for this URL is in it" if text.startswith(b"(") else "does not hold one token"
        raise Failed("token_unusable", "{}: {}".format(path, what))
    token = words[0].decode("ascii")
    from probe.detectors.credentials import describe_token

    expires_at = (describe_token(token) or {}).get("expires_at")
    clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    if expires_at and expires_at <= clock:
        message = "{}: the token expired at {}, this node's clock says {}; not sent"
        raise Failed("token_expired", message.format(path, expires_at, clock))
    return token


def _listed(text: bytes, url: str) -> List[bytes]:
    """The tokens for a URL in GlideinWMS's ``tokens_arr``: bash's ``([URL]="TOKEN" ...)``, written by its _glog_init_tokens."""
    import re

    found = re.findall(rb'\["?([^]"]+)"?\]="([^"]*)"', text)
    return [token for name, token in found if name.rstrip(b"/") == url.encode("utf-8").rstrip(b"/")]


def _headers(token: Optional[str]) -> Dict[str, str]:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", "Connection": "close"}
    return dict(headers, Authorization="Bearer " + token) if token else headers


def _connected(sending: Sending, host: str, port: int, is_secure: bool) -> Tuple[Any, Dict[str, str]]:
    """A connection to the collector or through the proxy's tunnel, and the headers that the proxy wants in the request."""
    import http.client

    at, headers = (host, port), {}  # type: Tuple[str, int], Dict[str, str]
    if sending.proxy:
        at, headers = proxy_address(sending.proxy)
    connection = http.client.HTTPConnection(at[0], at[1], timeout=sending.limit_s + LATER_S)
    if sending.proxy and is_secure:
        connection.set_tunnel(host, port, headers)
        headers = {}
    try:
        connection.connect()
    except (OSError, ValueError, http.client.HTTPException) as error:
        what = "proxy {}: ".format(without_password(sending.proxy)) if sending.proxy else ""
        reason = "proxy_failed" if sending.proxy else "network_unreachable"
        raise Failed(reason, what + (str(error) or type(error).__name__)) from None
    return connection, headers


def proxy_address(proxy: str) -> Tuple[Tuple[str, int], Dict[str, str]]:
    """((host, port), headers that say who we are) of a proxy's URL; raises Failed for one that is no http proxy."""
    from urllib.parse import unquote, urlsplit

    try:
        parts = urlsplit(proxy if "://" in proxy else "http://" + proxy)
        host, port = parts.hostname, parts.port or PORTS["http"]
    except ValueError:
        host = None
    if not host or parts.scheme != "http":
        raise Failed("proxy_failed", "proxy {}: not of the form http://HOST:PORT".format(without_password(proxy)))
    if parts.username is None:
        return (host, port), {}
    import binascii

    user = unquote(parts.username) + ":" + unquote(parts.password or "")
    encoded = binascii.b2a_base64(user.encode("utf-8")).decode("ascii").replace("\n", "")
    return (host, port), {"Proxy-Authorization": "Basic " + encoded}


def _secure(connection: Any, host: str, sending: Sending) -> None:
    try:
        import ssl
    except ImportError:
        raise Failed("tls_failed", "this Python has no ssl module") from None
    try:
        # Without a file of ours OpenSSL's own places count, and SSL_CERT_FILE and SSL_CERT_DIR.
        context = ssl.create_default_context(cafile=sending.ca_file)
        if sending.ca_folder and not sending.ca_file:
            context.load_verify_locations(capath=sending.ca_folder)
    except OSError as error:  # ssl.SSLError is one
        raise Failed("tls_failed", "{}: {}".format(sending.ca_file or sending.ca_folder, error)) from None
    try:
        connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
    except (ssl.SSLError, ssl.CertificateError) as error:  # 3.6 has a wrong name as CertificateError, no OSError
        raise Failed("tls_failed", str(error)) from None
    except (OSError, ValueError) as error:
        raise Failed("network_unreachable", "while agreeing on TLS: {}".format(error)) from None


def _answer(
    connection: Any, path: str, headers: Dict[str, str], body: str, ours: Tuple[Optional[str], str]
) -> Dict[str, Any]:
    """Send and read the beginning of the answer; ``ours``: the token, which no text may repeat, and the report's id."""
    import gzip
    import http.client
    from socket import timeout

    token, report_id = ours
    try:
        connection.request("POST", path, gzip.compress(body.encode("ascii"), 6), headers)
        answer = connection.getresponse()
        text = answer.read(ANSWER_LIMIT_BYTES).decode("utf-8", "replace")
    except timeout:
        raise Failed("collector_unavailable", "timed out while waiting for its answer") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Failed("network_unreachable", "while sending: {}".format(error or type(error).__name__)) from None
    if answer.status == 407 or answer.getheader(SQUID_HEADER):
        said = answer.getheader(SQUID_HEADER) or answer.reason
        raise Failed("proxy_failed", "the proxy answered HTTP {} {}".format(answer.status, said))
    wait = answer.getheader("Retry-After") or ""
    moved = answer.getheader("Location") if 300 <= answer.status < 400 else None
    if moved:
        text = "points to {}; not followed: the token goes nowhere else".format(without_password(moved))
    return {
        "code": answer.status,
        "text": text.replace(token, "[token]") if token else text,
        "is_ours": report_id in text,
        "retry_after_s": float(wait) if wait.isdigit() and len(wait) < 8 else 0.0,
    }
