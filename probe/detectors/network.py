"""The network, only where targets are named: no node is made to call out unasked."""

import os
import time
from typing import Any, Dict, Iterator, List

from probe.checks import check
from probe.engine import Findings
from probe.host import Host
from probe.settings import Settings
from probe.urls import without_password

LIMIT_S = 4.0
PROXY_VARIABLES = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy")


def connect(target: str) -> float:
    """Seconds that a TCP connection to HOST:PORT took; raises OSError. May hang."""
    import socket

    name, _, port = target.rpartition(":")
    started = time.monotonic()
    socket.create_connection((name.strip("[]"), int(port)), LIMIT_S).close()
    return time.monotonic() - started


def proxies(settings: Settings, environment: Dict[str, str]) -> List[Dict[str, str]]:
    """The proxies that the environment and the glidein name, credentials removed."""
    named = [(name, environment[name]) for name in PROXY_VARIABLES if environment.get(name)]
    if settings.configured("PROXY_URL"):
        named.append(("PROXY_URL", settings.glidein["PROXY_URL"]))
    return [{"source": name, "url": without_password(url)[:1024]} for name, url in named]


def detect(host: Host, settings: Settings, _earlier: Dict[str, Any]) -> Iterator[Findings]:
    """The report's ``network``."""
    targets = settings.network_targets
    results = host.attempt_all(LIMIT_S + 1, {"network." + target: [connect, target] for target in targets})
    rows, checks = [], []
    for target in targets:
        result = results["network." + target]
        status = {"done": "ok", "timeout": "timeout"}.get(result.state, "fail")
        reason = None if status == "ok" else "network_unreachable"
        message = (
            None
            if status == "ok"
            else os.strerror(result.errno)
            if result.errno and result.errno > 0
            else result.detail or "no answer"
        )
        latency_s = round(result.value, 5) if status == "ok" else None
        rows.append({"target": target, "status": status, "reason": reason, "latency_s": latency_s, "message": message})
        checks.append(check("network." + target, status, reason, message, result.duration_s))
    yield {
        "data": {"outbound": rows, "proxies": proxies(settings, host.environment), "condor_file_transfer": None},
        "checks": checks,
    }


def unknown(_status: str, _reason: str, _message: str) -> Dict[str, Any]:
    """The report's ``network`` where this detector never answered."""
    return {"outbound": [], "proxies": [], "condor_file_transfer": None}
