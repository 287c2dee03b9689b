"""Ways out for a report: POSTs to a collector, a spool folder for later. Nothing here ends a glidein or delays it for long.

What happens when: docs/delivery.md.
"""

import os
import select
import time
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional

from probe import posting, spool
from probe.engine import Interrupts
from probe.posting import Failed, Sending
from probe.report import Report, timestamp, to_json
from probe.settings import Settings
from probe.urls import without_password
from probe.workers import Pool, Result, call_all

# One try, and all tries of a run with their pauses. The engine leaves time for them; the least is for a late end of it.
TRY_LIMIT_S = 10.0
MOST_S, LEAST_S = 15.0, 0.5
PAUSES_S = (0.5, 1.0, 2.0)
SPOOL_LIMIT_S = 5.0
# What earlier runs left is sent after our own report, for so long.
REDELIVERY_LIMIT_S = 5.0

# What may be better in a moment; everything else would only be refused again.
PASSING = ("network_unreachable", "proxy_failed", "collector_unavailable", "token_expired")
REFUSALS = {401: "token_refused", 403: "token_refused", 408: "collector_unavailable", 429: "collector_unavailable"}


class Delivered(NamedTuple):
    """One attempt. The report's ``delivery`` says it without ``retry_after_s``, what the collector asked for, and
    ``proxy``, through which it went, which may hold a password."""

    way: str
    target: str
    status: str
    reason: Optional[str]
    message: Optional[str]
    retry_after_s: float = 0.0
    proxy: Optional[str] = None

    def row(self) -> Dict[str, Any]:
        """The attempt as a row of the report."""
        # A NUL in what some server answered would make every collector refuse the report.
        target, message = (text and "".join(letter if letter.isprintable() else "?" for letter in text)[:1024]
                           for text in (self.target, self.message))  # fmt: skip
        return {"way": self.way, "target": target, "status": self.status, "reason": self.reason, "message": message,
                "at": timestamp(time.time())}  # fmt: skip


def deliver(settings: Settings, report: Report, environment: Mapping[str, str]) -> List[str]:
    """Send the report, or keep it where sending fails; what was tried goes into its ``delivery``.

    Returns what to tell people, a line each.
    """
    folder = spool_folder(settings, environment)
    told: List[str] = []
    with Interrupts() as interrupts:
        if settings.collector:
            until = time.monotonic() + min(MOST_S, max(LEAST_S, settings.deadline_s - report["duration_s"]))
            sent = send(settings, report, environment, until, interrupts)
            told.append(_told(sent))
            if sent.status == "ok":
                until = min(until, time.monotonic() + REDELIVERY_LIMIT_S)
                sending = _sending(settings, environment, sent.proxy, until)
                earlier = redeliver(folder, sending, until, interrupts)
                return told + _noted(report, earlier)
        if settings.collector or settings.spool:
            told += _noted(report, keep(folder, report))
    return told


def _noted(report: Report, attempt: Optional[Delivered]) -> List[str]:
    if attempt is None:
        return []
    report["delivery"].append(attempt.row())
    return [_told(attempt)]


def _told(attempt: Delivered) -> str:
    from probe.reasons import remedy

    if attempt.status == "ok":
        return attempt.message or "" if attempt.way == "spool" else "{}: {}".format(attempt.target, attempt.message)
    failed = "could not be kept in" if attempt.way == "spool" else "not delivered to"
    advice = remedy(attempt.reason)
    return "{} {}: {}{}".format(failed, attempt.target, attempt.message, " ({})".format(advice) if advice else "")


def send(
    settings: Settings, report: Report, environment: Mapping[str, str], until: float, interrupts: Interrupts
) -> Delivered:
    """Try until it is delivered, refused, or the time is over; each try is a row of the report. Returns the last one."""
    url = settings.collector or ""
    target = without_password(url).partition("?")[0][:1024]
    try:
        proxies = posting.routes(url, environment, settings.configured("PROXY_URL"))
    except Failed as failed:
        attempt = Delivered("http", target, "fail", failed.reason, str(failed))
        report["delivery"].append(attempt.row())
        return attempt
    for turn in range(len(PAUSES_S) + len(proxies)):
        sending = _sending(settings, environment, proxies[turn % len(proxies)], until)
        attempt = _attempt(target, sending, interrupts, posting.post, sending, to_json(report), report["report_id"])
        report["delivery"].append(attempt.row())
        lasts = attempt.status == "ok" or attempt.reason not in PASSING
        if lasts or not _pause(_pause_s(turn, len(proxies), attempt), until, interrupts):
            break
    return attempt


def _sending(settings: Settings, environment: Mapping[str, str], proxy: Optional[str], until: float) -> Sending:
    limit_s = max(0.1, min(TRY_LIMIT_S, until - time.monotonic()))
    # Periodic scripts run in a folder of their own; what a glidein brings along lies in the glidein's.
    folder = settings.configured("GLIDEIN_WORK_DIR") or ""
    token_file, ca_file = (name and os.path.join(folder, name) for name in (settings.token_file, settings.ca_file))
    ca_folder = environment.get("X509_CERT_DIR") or settings.configured("X509_CERT_DIR")
    return Sending(settings.collector or "", proxy, token_file, ca_file, ca_folder, limit_s)


def _pause_s(turn: int, ways: int, attempt: Delivered) -> float:
    """How long to wait: not at all where another way to the collector has not been tried, spread where it is in trouble."""
    if turn < ways - 1 and attempt.reason in ("proxy_failed", "network_unreachable"):
        return 0.0
    later = turn - ways + 1
    if not 0 <= later < len(PAUSES_S):
        return PAUSES_S[0] if later < 0 else float("inf")
    # Half the pause is drawn: the nodes of a site start together, and would come again together.
    return max(PAUSES_S[later] * (0.5 + ord(os.urandom(1)) / 512), attempt.retry_after_s)


def _pause(pause_s: float, until: float, interrupts: Interrupts) -> bool:
    """Wait; False where there is no time left for a further try, or a signal came."""
    if interrupts.arrived or time.monotonic() + pause_s >= until:
        return False
    poll = select.poll()
    poll.register(interrupts.descriptor, select.POLLIN)
    poll.poll(int(pause_s * 1000))
    return not interrupts.arrived


def _attempt(
    target: str, sending: Sending, interrupts: Interrupts, steps: Callable[..., Iterable[Any]], *arguments: Any
) -> Delivered:
    """One try in a child that is abandoned at its limit."""
    pool = Pool(wake=interrupts.descriptor)
    pool.start("delivery", sending.limit_s, steps, *arguments)
    results = dict(pool.wait(float("inf")))
    results.update(pool.abandon())
    result = results["delivery"]
    if interrupts.arrived and result.state != "done":
        return Delivered("http", target, "timeout", "probe_interrupted", "a signal ended the try")
    return _judged(target, sending, result)


def _judged(target: str, sending: Sending, result: Result) -> Delivered:
    last = result.value or {"doing": "starting", "reason": "network_unreachable"}
    if result.state != "done":
        what = result.detail or "no answer within {:.1f} s".format(sending.limit_s)
        message = "{} while {}".format(what, last.get("doing", "ending"))[:1024]
        return Delivered("http", target, _failed(result), last["reason"], message)
    if "code" not in last:
        return Delivered("http", target, "fail", last["reason"], last["message"][:1024])
    code = last["code"]
    if code in (200, 201) and last["is_ours"]:
        how = "stored" if code == 201 else "known already"
        through = " through proxy {}".format(without_password(sending.proxy)) if sending.proxy else ""
        return Delivered("http", target, "ok", None, how + through, proxy=sending.proxy)
    message = "HTTP {}: {}".format(code, " ".join(last["text"].split()))[:1024]
    return Delivered("http", target, "fail", refusal(code), message, last["retry_after_s"])


def refusal(code: int) -> str:
    """The reason code of an HTTP status that says that the report was not taken."""
    if code < 400 or code in (404, 405):  # a portal that wants a login, a redirect, some other web server
        return "not_a_collector"
    return REFUSALS.get(code, "report_refused" if code < 500 else "collector_unavailable")


def redeliver(folder: str, sending: Sending, until: float, interrupts: Interrupts) -> Optional[Delivered]:
    """Send what earlier runs kept, the oldest first, until something fails or the time is over; None where nothing waits.

    Two runs may send the same report: the collector knows it by its id.
    """
    found = call_all(SPOOL_LIMIT_S, {"spool": [spool.waiting, folder]}, 1)["spool"]
    paths: List[str] = found.value or []
    counts = {"delivered": 0, "refused": 0}
    for path in paths:
        if interrupts.arrived or time.monotonic() + 0.1 >= until:
            break
        bounded = sending._replace(limit_s=min(sending.limit_s, until - time.monotonic()))
        attempt = _attempt("", bounded, interrupts, spool.send, path, bounded)
        if attempt.status != "ok" and attempt.reason != "report_refused":
            break
        counts["delivered" if attempt.status == "ok" else "refused"] += 1
        call_all(SPOOL_LIMIT_S, {"spool": [spool.remove if attempt.status == "ok" else spool.refuse, path]}, 1)
    if not paths:
        return None
    left = len(paths) - sum(counts.values())
    message = "of earlier reports: {delivered} delivered, {refused} refused, {} still wait".format(left, **counts)
    return Delivered("spool", folder, "ok", None, message)


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
    result = call_all(SPOOL_LIMIT_S, {"spool": [spool.keep, folder, report["report_id"], to_json(report)]}, 1)["spool"]
    if result.state == "done":
        dropped = "; {} older ones had to go".format(result.value["dropped"]) if result.value["dropped"] else ""
        return Delivered("spool", folder, "ok", None, "kept as {}{}".format(result.value["path"], dropped))
    message = result.detail or "no answer within {:.0f} s".format(SPOOL_LIMIT_S)
    return Delivered("spool", folder, _failed(result), "scratch_unusable", message[:1024])


def _failed(result: Result) -> str:
    return "timeout" if result.state == "timeout" else "fail"
