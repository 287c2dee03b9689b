"""Ways out for a report: a POST to a collector, a spool folder for later. Nothing here ends or delays a glidein."""

import os
import time
from typing import Any, Dict, Mapping, NamedTuple, Optional

from probe.report import Report, timestamp, to_json
from probe.settings import Settings
from probe.workers import call_all

# What sending may take of the time that is left.
SEND_LIMIT_S = 10.0
SPOOL_LIMIT_S = 5.0
TOKEN_LIMIT_S = 3.0
REFUSALS = {401: "token_refused", 403: "token_refused"}
PATH = "/api/v1/reports"


class Delivered(NamedTuple):
    """One attempt, as the report's ``delivery`` says it."""

    way: str
    target: str
    status: str
    reason: Optional[str]
    message: Optional[str]

    def row(self) -> Dict[str, Any]:
        """The attempt as a row of the report."""
        return dict(self._asdict(), at=timestamp(time.time()))


def read_token(path: str) -> str:
    """The token in a file; raises OSError, and ValueError where there is not one word of printable ASCII. May hang."""
    with open(path, "rb") as stream:
        words = stream.read(65536).split()
    if len(words) != 1 or not all(33 <= byte <= 126 for byte in words[0]):
        raise ValueError
    return words[0].decode("ascii")


def post(url: str, token: Optional[str], body: str) -> Dict[str, Any]:
    """POST a report; returns {"code": HTTP status, "text": what the collector said}. May hang; raises OSError."""
    import gzip
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url.rstrip("/") + PATH, gzip.compress(body.encode(), 6), method="POST")  # noqa: S310  http(s) only, see send
    request.add_header("Content-Type", "application/json")
    request.add_header("Content-Encoding", "gzip")
    if token:
        request.add_header("Authorization", "Bearer " + token)
    try:
        with urllib.request.urlopen(request, timeout=SEND_LIMIT_S) as answer:  # noqa: S310  http(s) only, see send
            return {"code": answer.status, "text": answer.read(2048).decode("utf-8", "replace")}
    except urllib.error.HTTPError as error:
        return {"code": error.code, "text": error.read(2048).decode("utf-8", "replace")}
    except urllib.error.URLError as error:
        raise OSError(getattr(error.reason, "errno", None), str(error.reason)) from None


def spool(folder: str, report_id: str, body: str) -> str:
    """Keep a report in a folder, whole or not at all; returns its path. May hang; raises OSError."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, report_id + ".json")
    with open(path + ".part", "w") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(path + ".part", path)
    return path


def send(settings: Settings, report: Report) -> Optional[Delivered]:
    """Send to the collector, if one is configured."""
    url = settings.collector
    if not url:
        return None
    if not url.startswith(("http://", "https://")):
        return Delivered("http", url, "fail", "network_unreachable", "not an http or https URL")
    token = None
    if settings.token_file:
        reading = call_all(TOKEN_LIMIT_S, {"token": [read_token, settings.token_file]}, 1)["token"]
        if reading.state != "done":
            problem = os.strerror(reading.errno) if reading.errno else "does not hold one token"
            return Delivered(
                "http", url, "fail", "token_unusable", "{}: {}".format(settings.token_file, problem)[:1024]
            )
        token = reading.value
    result = call_all(SEND_LIMIT_S + 1, {"post": [post, url, token, to_json(report)]}, 1)["post"]
    if result.state != "done":
        message = result.detail or "no answer within {:.0f} s".format(SEND_LIMIT_S)
        return Delivered(
            "http", url, "timeout" if result.state == "timeout" else "fail", "network_unreachable", message[:1024]
        )
    code, text = result.value["code"], result.value["text"]
    if code in (200, 201):
        return Delivered("http", url, "ok", None, "stored" if code == 201 else "known already")
    reason = "collector_unavailable" if code == 429 or code >= 500 else REFUSALS.get(code, "report_refused")
    return Delivered("http", url, "fail", reason, "HTTP {}: {}".format(code, " ".join(text.split()))[:1024])


def spool_folder(settings: Settings, environment: Mapping[str, str]) -> str:
    """Where reports wait: as configured, or else beside the glidein, or else among the user's state (XDG)."""
    if settings.spool:
        return settings.spool
    glidein = settings.configured("GLIDEIN_WORK_DIR")
    if glidein:
        return os.path.join(glidein, "singularity-probe-spool")
    state = environment.get("XDG_STATE_HOME") or os.path.join(environment.get("HOME") or ".", ".local/state")
    return os.path.join(state, "singularity-probe/spool")


def keep(folder: str, report: Report) -> Delivered:
    """Put a report into a spool folder."""
    result = call_all(SPOOL_LIMIT_S, {"spool": [spool, folder, report["report_id"], to_json(report)]}, 1)["spool"]
    if result.state == "done":
        return Delivered("spool", folder, "ok", None, result.value)
    message = result.detail or "no answer within {:.0f} s".format(SPOOL_LIMIT_S)
    return Delivered(
        "spool", folder, "timeout" if result.state == "timeout" else "fail", "scratch_unusable", message[:1024]
    )
