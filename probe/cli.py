"""The command line: ``singularity-probe run | explain``. The only module that prints."""

import argparse
import os
import sys
import time
from typing import Any, Dict, List, Optional

from probe.version import VERSION

EXIT_OK, EXIT_REQUIRED, EXIT_WRONG_USE, EXIT_NO_REPORT = 0, 1, 2, 3
CLEANUP_LIMIT_S = 1.0
FILE_LIMIT_S = 5.0

EPILOG = """\
examples:
  singularity-probe run                                     the JSON report of this node on stdout
  singularity-probe run --format text                       the same, a line a check
  singularity-probe run --image /cvmfs/REPO/IMAGE           does this image start here?
  singularity-probe run --require singularity,sif           exit code 1 unless both work
  singularity-probe run --collector URL --token-file FILE   send the report to a collector
  singularity-probe run | singularity-probe explain         what works, what does not, why, and what to do

exit codes of run: 0 a report was made, whatever it says; 1 a --require'd capability is not ok; 2 wrong use;
3 no report could be made.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="singularity-probe",
        description="Finds out, by trying, what containers can do on this node.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version="singularity-probe " + VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_run(commands.add_parser("run", help="look at this node and print a report", epilog=EPILOG,
                                 formatter_class=argparse.RawDescriptionHelpFormatter))  # fmt: skip
    explain = commands.add_parser(
        "explain", help="tell a report to people: what works, what does not, why, and what to do"
    )
    meaning = "a JSON report; '-' or a pipe: standard input; without either the node is looked at now"
    explain.add_argument("report", nargs="?", default=None, metavar="REPORT", help=meaning)
    return parser


def _comma_list(text: str) -> List[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _add_run(run: argparse.ArgumentParser) -> None:
    add = run.add_argument
    add("--config", metavar="FILE", help="settings, one 'PROBE_NAME value' a line; a glidein_config is one")
    add("--deadline", type=float, metavar="SECONDS", help="the report is there within this time (default 60)")
    add("--format", choices=("json", "text", "classad"), default="json", help="default json")
    add("--output", metavar="FILE", help="write the report to a file, whole or not at all, not to stdout")
    add("--singularity", metavar="PATH", help="try this binary, not the glidein's search order")
    add(
        "--image",
        action="append",
        default=[],
        metavar="REF",
        help="also try this image (a folder, a SIF, a URL); may be repeated",
    )
    add("--cvmfs-repo", action="append", default=[], metavar="NAME", help="look at this repository; may be repeated")
    add("--cvmfs-mount-dir", metavar="DIR", help="where CVMFS is mounted, if not /cvmfs")
    add(
        "--only",
        type=_comma_list,
        default=[],
        metavar="NAME,..",
        help="run just these detectors and those that they need",
    )
    add("--skip", type=_comma_list, default=[], metavar="NAME,..", help="leave these detectors out")
    add(
        "--require",
        type=_comma_list,
        default=[],
        metavar="CAPABILITY,..",
        help="exit code 1 unless all of these are ok",
    )
    add(
        "--network-target",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="try to connect there; may be repeated",
    )
    add("--collector", metavar="URL", help="send the report there")
    add("--token-file", metavar="FILE", help="the token for the collector")
    add(
        "--spool",
        metavar="DIR",
        help="keep a report here that could not be delivered (or every one, without --collector)",
    )
    add("--site", metavar="NAME", help="site that the report is for")
    add("--entry", metavar="NAME", help="factory entry that the report is for")


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the program; returns its exit code."""
    import gc

    _keep_standard_descriptors()
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) == 2 and os.path.basename(given[0]) == "glidein_config":
        # GlideinWMS starts custom scripts as SCRIPT GLIDEIN_CONFIG ID, and any other exit code ends the glidein.
        _say(
            "this version is no GlideinWMS custom script yet: nothing was done; call it as: singularity-probe run --config FILE"
        )
        return EXIT_OK
    gc.disable()  # a short life with little garbage; each child would copy what a collection touches
    parser = _parser()
    try:
        options = parser.parse_args(arguments)
        if options.command is None:
            parser.print_usage(sys.stderr)
            _say("give a command: run or explain (--help shows examples)")
            return EXIT_WRONG_USE
    except SystemExit as end:  # argparse's way to say usage, help and version
        return int(end.code or 0)
    from probe.settings import WrongUse

    try:
        return _run(options) if options.command == "run" else _explain(options)
    except WrongUse as error:
        _say(str(error))
        return EXIT_WRONG_USE


def _keep_standard_descriptors() -> None:
    """Put /dev/null where a standard stream was closed: else the next file opened would take its place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _say(text: str) -> None:
    from probe.explain import printable

    if sys.stderr is not None:
        line = "singularity-probe: " + printable(text) + "\n"
        sys.stderr.write(line.encode("ascii", "backslashreplace").decode("ascii"))


def _settings(options: argparse.Namespace) -> Any:
    from probe import settings

    text = ""
    if options.config:
        text = _read_file(options.config, "give a readable file with --config")
    if options.deadline is not None and not 1 <= options.deadline <= 3600:
        raise settings.WrongUse("--deadline is {:g}; write a number of seconds from 1 to 3600".format(options.deadline))
    chosen = {
        "deadline": options.deadline, "singularity": options.singularity, "images": options.image,
        "cvmfs_repos": options.cvmfs_repo, "cvmfs_mount_dir": options.cvmfs_mount_dir, "only": options.only,
        "skip": options.skip, "require": options.require, "network_targets": options.network_target,
        "collector": options.collector, "token_file": options.token_file, "spool": options.spool,
        "site": options.site, "entry": options.entry,
    }  # fmt: skip
    return settings.combine("manual", chosen, os.environ, options.config, text, {})


def _read_file(path: str, advice: str) -> str:
    from probe.settings import WrongUse
    from probe.workers import call_all

    # The file may lie on what hangs.
    result = call_all(FILE_LIMIT_S, {"read": [_read_text, path]}, 1)["read"]
    if result.state != "done":
        raise WrongUse("{}: {}; {}".format(path, result.detail or "does not answer", advice))
    return str(result.value)


def _read_text(path: str) -> str:
    with open(path, "rb") as stream:
        return stream.read(1 << 24).decode("utf-8", "replace")


def _run(options: argparse.Namespace) -> int:
    settings = _settings(options)
    for warning in settings.warnings:
        _say("warning: " + warning)
    report = look(settings)
    from probe import report as reports

    for name in settings.require:
        if reports.capability(report, name) is None:
            _say("--require {}: no such capability; known are {}".format(name, ", ".join(known_capabilities(report))))
            return EXIT_WRONG_USE
    deliver(settings, report)
    code = _write(_rendered(report, options.format), options.output)
    missing = [name for name in settings.require if reports.capability(report, name) != "ok"]
    if missing and code == EXIT_OK:
        _say("required and not ok: " + ", ".join(missing))
        return EXIT_REQUIRED
    return code


def known_capabilities(report: Dict[str, Any]) -> List[str]:
    """The names that --require takes."""
    from probe.report import CAPABILITIES

    return sorted(CAPABILITIES) + sorted(report["singularity"]["features"]) + ["cvmfs:NAME"]


def look(settings: Any) -> Dict[str, Any]:
    """Run the detectors and compose the report; raises WrongUse for a detector's name that none has."""
    from probe import engine, kernel, reasons
    from probe.host import Host
    from probe.registry import DETECTORS
    from probe.settings import WrongUse

    detectors, wrong = engine.selected(DETECTORS, settings.only, settings.skip)
    if wrong is not None:
        names = ", ".join(detector.name for detector in DETECTORS)
        raise WrongUse("there is no detector {!r}; known are {}".format(wrong, names))
    kernel.load()
    reasons.rows()
    host = Host()
    began, started = time.time(), time.monotonic()
    with engine.Interrupts() as interrupts:
        run = engine.run(host, settings, detectors, interrupts, _progress)
        _clean_up(run, host.run_id)
        from probe import report as reports

        return reports.compose(settings, DETECTORS, run, began, time.monotonic() - started)


def _progress(name: str, done: int, total: int) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + ("" if done == total else "{} of {} done: {}".format(done, total, name)))
        sys.stderr.flush()


def _clean_up(run: Any, run_id: str) -> None:
    """Remove this run's work folder, in a child: it may lie on what hangs. A killed detector told no path of it."""
    from probe.detectors import work_folder
    from probe.workers import call_all

    found = {name: run.findings[name]["data"] for name in ("scratch", "work_folder") if name in run.findings}
    if "scratch" in found:
        known = found.get("work_folder", {}).get("work_folder")
        folders = [*found["scratch"]["good"], work_folder.LAST_RESORT]
        paths = [known] if known else [work_folder.place(folder, run_id) for folder in folders]
        call_all(CLEANUP_LIMIT_S, {"remove": [work_folder.remove, paths, found["scratch"]["traces"]]}, 1)


def deliver(settings: Any, report: Dict[str, Any]) -> None:
    """Send the report, or keep it where sending fails; what was tried goes into its ``delivery``."""
    if not (settings.collector or settings.spool):
        return
    from probe import delivery

    sent = delivery.send(settings, report)
    if sent is not None:
        report["delivery"].append(sent.row())
        _say("{}{}: {}".format("" if sent.status == "ok" else "not delivered to ", sent.target, sent.message))
        if sent.status == "ok":
            return
    kept = delivery.keep(delivery.spool_folder(settings, os.environ), report)
    report["delivery"].append(kept.row())
    where = "kept as" if kept.status == "ok" else "could not be kept in {}:".format(kept.target)
    _say("{} {}".format(where, kept.message))


def _rendered(report: Dict[str, Any], form: str) -> str:
    if form == "classad":
        from probe import classad

        return classad.render(report)
    if form == "text":
        from probe.explain import render_text

        return render_text(report)
    from probe.report import to_json

    return to_json(report) + "\n"


def _write(text: str, path: Optional[str]) -> int:
    if path is None:
        return _print(text)
    from probe.workers import call_all

    # The file may lie on what hangs.
    result = call_all(FILE_LIMIT_S, {"write": [_write_file, path, text]}, 1)["write"]
    if result.state == "done":
        return EXIT_OK
    _say("{}: {}; the report could not be written".format(path, result.detail or "does not answer"))
    return EXIT_NO_REPORT


def _write_file(path: str, text: str) -> None:
    part = path + ".part"
    with open(part, "wb") as stream:
        stream.write(text.encode("utf-8"))
    try:
        os.rename(part, path)
    except OSError:
        os.unlink(part)
        raise


def _print(text: str) -> int:
    """Write to stdout whatever its encoding is; a closed or full one means that no report could be made."""
    if sys.stdout is None:
        _say("standard output is closed; give a file with --output")
        return EXIT_NO_REPORT
    encoding = sys.stdout.encoding or "ascii"
    try:
        sys.stdout.buffer.write(text.encode(encoding, "backslashreplace"))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away: no fault of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        _say("standard output: {}; the report could not be written".format(error.strerror))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries again at its end
        return EXIT_NO_REPORT
    return EXIT_OK


def _explain(options: argparse.Namespace) -> int:
    from probe.explain import render_explanation

    if options.report is None and sys.stdin.isatty():
        report = look(_settings(_parser().parse_args(["run"])))
        source = "this node"
    else:
        report = _read_report(options.report or "-")
        source = options.report or "standard input"
    try:
        text = render_explanation(report)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        complaint = "{} is not a whole report of schema version 1.0 ({!r}); make one with: singularity-probe run"
        _say(complaint.format(source, error))
        return EXIT_WRONG_USE
    return _print(text)


def _read_report(path: str) -> Dict[str, Any]:
    import json

    from probe.settings import WrongUse

    name = "standard input" if path == "-" else path
    text = sys.stdin.read(1 << 24) if path == "-" else _read_file(path, "give a readable report")
    try:
        report = json.loads(text)
        missing = not isinstance(report, dict) or not {"host", "singularity", "checks"} <= set(report)
    except (ValueError, TypeError, RecursionError) as error:
        raise WrongUse("{} is not a JSON report: {}".format(name, error)) from None
    if missing or str(report.get("schema_version")) != "1.0":
        raise WrongUse("{} is not a report of schema version 1.0; make one with: singularity-probe run".format(name))
    return report  # type: ignore[no-any-return]  # checked above
