"""Owns time and failure: runs detectors side by side inside one deadline and turns whatever happens into a result.

Each detector runs in a child of its own, so that a hung file system, a crash in a vendor's library or the kernel's
out-of-memory killer costs its answer and nothing else. The engine's own process only polls.
"""

import os
import signal
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from probe import kernel, process, workers
from probe.checks import check
from probe.host import Host
from probe.settings import Settings

Findings = Dict[str, Any]
"""What a detector yields: {"data": its part of the report, "checks": [check, ...]}; the last one yielded stands."""

# Kept back from the deadline for what follows the detectors: killing, cleaning up, composing, printing.
RESERVE_S = 0.5
# And for sending the report, where it is sent: a share of the deadline, no more than it usually takes.
SENDING_S, SENDING_SHARE = 4.0, 0.2


class Detector(NamedTuple):
    """One row of the registry.

    ``detect(host, settings, earlier)`` yields Findings; ``earlier`` holds the data of the detectors named in ``needs``,
    which have ended, well or badly. ``unknown(status, reason, message)`` is the data where it never answered. ``load``
    imports what the detector needs; it is called while those before it run. ``idle`` gives the findings at once where
    there is nothing to look at, which saves a process; it must touch nothing but the kernel's own /dev, /proc and /sys,
    and may be asked before all that the detector needs is known. ``aside``: it is not on the way to the verdict, and
    begins when those that are have been imported; they share the processors with it only when they are at work. ``vital``:
    who needs it, and does not stand aside, can say nothing without it.
    """

    name: str
    detect: Callable[[Host, Settings, Dict[str, Any]], Iterator[Findings]]
    unknown: Callable[[str, str, str], Any]
    needs: Tuple[str, ...] = ()
    load: Callable[[], object] = lambda: None
    idle: Callable[[Host, Settings, Dict[str, Any]], Optional[Findings]] = lambda *_: None
    aside: bool = False
    vital: bool = False


class Run(NamedTuple):
    """What came of a run: findings by detector, whether all had their time, and what could not be killed."""

    findings: Dict[str, Findings]
    complete: bool
    interrupted: bool
    stuck: List[int]


class Interrupts:
    """SIGTERM, SIGINT and SIGHUP as a descriptor to poll, so that waiting ends at once."""

    def __enter__(self) -> "Interrupts":
        self.descriptor, self._writing = os.pipe()
        for end in (self.descriptor, self._writing):
            os.set_blocking(end, False)
        self.arrived = False
        self._wakeup_before = signal.set_wakeup_fd(self._writing)
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        return self

    def _note(self, _number: int, _frame: Any) -> None:
        self.arrived = True

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self.descriptor)
        os.close(self._writing)


def run(
    host: Host,
    settings: Settings,
    detectors: List[Detector],
    interrupts: Interrupts,
    progress: Callable[[str, int, int], None],
    left_out: Optional[Dict[str, Any]] = None,
) -> Run:
    """Run detectors, each as soon as those that it needs have ended; never longer than the deadline. ``left_out`` is what they
    get for the data of those that do not run."""
    kernel.adopt_orphans()
    workers.remember_stuck()
    deadline = time.monotonic() + max(settings.deadline_s - reserve(settings), 0.5)
    host.ends_at = deadline
    by_name = {detector.name: detector for detector in detectors}
    pool = workers.Pool(wake=interrupts.descriptor)
    schedule = _Schedule(pool, detectors, deadline, host, settings, left_out or {})
    schedule.start_ready()
    chores = [detector.load for detector in schedule.waiting]
    for name, result in pool.wait(deadline, [*chores, schedule.start_all, _load_report]):
        schedule.findings[name] = _settle(by_name[name], result, interrupts.arrived)
        progress(name, len(schedule.findings), len(detectors))
        schedule.start_ready()
    cut_short = dict(pool.abandon())
    cut_short.update(schedule.never_started())
    findings = schedule.findings
    for name, result in cut_short.items():
        findings[name] = _settle(by_name[name], result, interrupts.arrived)
    timed_out = any(found["state"] == "timeout" for found in findings.values())
    return Run(findings, not timed_out, interrupts.arrived, process.kill_descendants())


def reserve(settings: Settings) -> float:
    """Seconds of the deadline that detectors don't get."""
    return RESERVE_S + (min(SENDING_S, settings.deadline_s * SENDING_SHARE) if settings.collector else 0.0)


def _load_report() -> None:
    """Import what composes the report while the last detectors run."""
    __import__("probe.report")


class _Schedule:
    """Which detectors wait still, and what was found."""

    def __init__(
        self,
        pool: workers.Pool,
        detectors: List[Detector],
        deadline: float,
        host: Host,
        settings: Settings,
        left_out: Dict[str, Any],
    ) -> None:
        self._pool, self._deadline, self._host, self._settings = pool, deadline, host, settings
        self._left_out = left_out
        self._names = {detector.name for detector in detectors}
        self._holds_back = True
        self.waiting = list(detectors)
        self.findings: Dict[str, Findings] = {}

    def start_all(self) -> None:
        """Hold nobody back any longer."""
        self._holds_back = False
        self.start_ready()

    def start_ready(self) -> None:
        """Start what has all that it needs; those aside too when nothing else is at work."""
        for detector in list(self.waiting):
            if not (detector.aside and self._holds_back):
                self._start(detector)
        if self._holds_back and not len(self._pool):
            self.start_all()

    def never_started(self) -> Dict[str, workers.Result]:
        """Results of those that still wait at the end."""
        results = {}
        for detector in self.waiting:
            if not self._is_idle(detector):
                results[detector.name] = workers.Result("timeout", None, "", None, 0.0)
        return results

    def _start(self, detector: Detector) -> None:
        left_s = self._deadline - time.monotonic()
        missing = [name for name in detector.needs if name in self._names and name not in self.findings]
        if left_s <= 0 or missing:  # after the deadline it would only tell what it makes of one that never answered
            return
        self.waiting.remove(detector)
        if not self._is_idle(detector):
            earlier = self._earlier(detector)
            self._pool.start(detector.name, left_s, detector.detect, self._host, self._settings, earlier)

    def _is_idle(self, detector: Detector) -> bool:
        """Note what a detector finds without looking, if it does."""
        idle = detector.idle(self._host, self._settings, self._earlier(detector))
        if idle is not None:
            self.findings[detector.name] = dict(idle, state="done")
        return idle is not None

    def _earlier(self, detector: Detector) -> Dict[str, Any]:
        known = dict(self._left_out, **{name: self.findings[name]["data"] for name in self.findings})
        return {name: known[name] for name in detector.needs if name in known}


def _settle(detector: Detector, result: workers.Result, interrupted: bool) -> Findings:
    """Findings from whatever became of a detector; a check of the engine's own says what went wrong."""
    if result.state == "done" and result.value:
        return dict(result.value, state="done")
    if result.state == "timeout":
        reason = "probe_interrupted" if interrupted else "deadline_reached"
        status, message = "timeout", "{} was cut short after {:.1f} s".format(detector.name, result.duration_s)
    else:
        reason = result.lost_reason
        status = "unknown" if reason == "probe_error" else "fail"
        message = "{} failed: {}".format(detector.name, result.detail)
    own = check("probe." + detector.name, status, reason, message, result.duration_s, left_running=result.left_running)
    findings = result.value or {"data": detector.unknown(status, reason, message), "checks": []}
    return {"data": findings["data"], "checks": findings["checks"] + [own], "state": result.state}


def selected(detectors: List[Detector], only: List[str], skip: List[str]) -> Tuple[List[Detector], Optional[str]]:
    """The detectors that a run is asked for, with those that they need, and the first name that none has.

    One that is vital takes those on the way to the verdict that need it with it when it is left out.
    """
    by_name = {detector.name: detector for detector in detectors}
    for name in list(only) + list(skip):
        if name not in by_name:
            return [], name
    wanted = set(only or by_name) - set(skip)
    for detector in reversed(detectors):  # the registry lists needs first
        if detector.name in wanted:
            wanted |= {name for name in detector.needs if name not in skip}
    lost = {name for name in skip if by_name[name].vital}
    for detector in detectors:
        if lost.intersection(detector.needs) and not detector.aside:
            wanted.discard(detector.name)
            lost |= {detector.name} if detector.vital else set()
    return [detector for detector in detectors if detector.name in wanted], None
