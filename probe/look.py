"""One look at the node: detectors run, traces removed, the report composed and sent on its way."""

import os
import sys
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

from probe.messages import say, to_stderr

CLEANUP_LIMIT_S = 1.0
NOT_ASKED = "left out by --only or --skip"


class Looked(NamedTuple):
    """What a look found: an engine.Run, when it began (seconds since the epoch), how long it took, on which Host; and
    the report of it, where that was asked for."""

    run: Any
    began: float
    duration_s: float
    host: Any
    report: Optional[Dict[str, Any]] = None


def look(settings: Any, names: Optional[List[str]] = None, later: Sequence[str] = (), composes: bool = True) -> Looked:
    """Run the detectors that the settings ask for, or those named; raises WrongUse for a name that no detector has.

    ``later`` are modules to import while the detectors are at work.
    """
    from probe import engine, kernel, reasons
    from probe.host import Host
    from probe.registry import DETECTORS
    from probe.settings import WrongUse

    left_out = {}
    if names is None:
        detectors, wrong = engine.selected(DETECTORS, settings.only, settings.skip)
        lacking = {name for detector in detectors for name in detector.needs} - {detector.name for detector in detectors}
        left_out = {
            detector.name: detector.unknown("skipped", "not_requested", NOT_ASKED)
            for detector in DETECTORS
            if detector.name in lacking
        }
    else:
        detectors, wrong = [detector for detector in DETECTORS if detector.name in names], None
    if wrong is not None:
        known = ", ".join(detector.name for detector in DETECTORS)
        raise WrongUse("there is no detector {!r}; known are {}".format(wrong, known))
    for number, module in enumerate(reversed(later), 1):
        if number <= len(detectors):
            detectors[-number] = _loading(detectors[-number], module)
    kernel.load()
    reasons.rows()
    host = Host()
    began, started = time.time(), time.monotonic()
    with engine.Interrupts() as interrupts:
        run = engine.run(host, settings, detectors, interrupts, _progress, left_out)
        run = run._replace(findings=_without_secrets(settings, run.findings))
        looked = Looked(run, began, time.monotonic() - started, host)
        with _CleaningUp(run, host, settings):
            # While a signal still leads to a report.
            return looked._replace(report=compose(settings, looked)) if composes else looked


def _without_secrets(settings: Any, findings: Any) -> Any:
    """Findings without what images' URLs have of user names, passwords and queries: no file and no report gets them."""
    from probe.registry import IMAGE_SETTINGS

    named = [*settings.images, *",".join(settings.configured(name) or "" for name in IMAGE_SETTINGS).split(",")]
    if not any("://" in text for text in named):
        return findings
    from probe import urls

    return urls.hidden(findings, urls.secrets(named))


def _loading(detector: Any, module: str) -> Any:
    """The detector with one more module to import while those before it run."""

    def load() -> None:
        detector.load()
        __import__(module)

    return detector._replace(load=load)


def compose(settings: Any, looked: Looked) -> Dict[str, Any]:
    """The report of a look."""
    from probe import report
    from probe.registry import DETECTORS

    return report.compose(settings, DETECTORS, looked.run, looked.began, looked.duration_s)


def report_of_node(settings: Any) -> Dict[str, Any]:
    """Look, and compose the report; raises WrongUse as ``look`` does."""
    return look(settings).report or {}


def _progress(name: str, done: int, total: int) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        to_stderr("\r\033[K" + ("" if done == total else "{} of {} done: {}".format(done, total, name)))


class _CleaningUp:
    """Removes a run's work folder beside what is done meanwhile, in a child: it may lie on what hangs."""

    def __init__(self, run: Any, host: Any, settings: Any) -> None:
        from probe.workers import Pool

        self._pool = Pool()
        if "scratch" in run.findings:
            scratch = run.findings["scratch"]["data"]
            paths = _work_folders(run, host, settings)
            self._pool.start("remove", CLEANUP_LIMIT_S, _remove, paths, scratch["traces"])

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        for _ended in self._pool.wait(time.monotonic() + CLEANUP_LIMIT_S):
            pass
        self._pool.abandon()


def _work_folders(run: Any, host: Any, settings: Any) -> List[str]:
    """This run's work folder, or where it may lie: a detector that was killed told no path of it."""
    made = [run.findings[name]["data"] for name in ("scratch", "work_folder") if name in run.findings]
    known = made[0]["work"] or (made[1] if len(made) > 1 else {})
    if known.get("work_folder"):
        return [known["work_folder"]]
    from probe.detectors import scratch, work_folder

    tried = scratch.local_ones(host, scratch.candidates(settings, host.environment, host.facts()["folder"]))
    folders = [*made[0]["good"], *tried, work_folder.LAST_RESORT]
    return [work_folder.place(folder, host.run_id) for folder in dict.fromkeys(folders)]


def _remove(paths: List[str], traces: List[str]) -> Iterator[None]:
    from probe.detectors import work_folder

    work_folder.remove(paths, traces)
    yield None


def deliver(settings: Any, report: Dict[str, Any]) -> None:
    """Send the report, or keep it where sending fails; what was tried goes into its ``delivery``."""
    if not (settings.collector or settings.spool):
        return
    from probe import delivery

    for line in delivery.deliver(settings, report, os.environ):
        say(line)
