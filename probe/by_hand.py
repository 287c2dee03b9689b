"""The commands that people type: ``singularity-probe run`` and ``explain``."""

import os
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from probe.look import deliver, report_of_node
from probe.messages import say
from probe.version import VERSION

EXIT_OK, EXIT_REQUIRED, EXIT_WRONG_USE, EXIT_NO_REPORT = 0, 1, 2, 3
FILE_LIMIT_S = 5.0

STARTD_CRON = """Looks at this node and prints what it found as ClassAd attributes, for a startd_cron job. It always ends with 0
and takes SIGTERM within a second; settings come from options, from the environment, and from --config FILE."""

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


class Option(NamedTuple):
    """One option of a command: its flag, the name of its value, what reads it, what it does.

    ``read`` takes the text; ``repeated`` options gather their values in a list.
    """

    flag: str
    metavar: str
    help: str
    read: Callable[[str], Any] = str
    repeated: bool = False
    choices: Tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The attribute that holds the value."""
        return self.flag[2:].replace("-", "_")

    def default(self) -> Any:
        """The value where the option is not given."""
        return [] if self.repeated or self.read is _comma_list else self.choices[0] if self.choices else None


def _comma_list(text: str) -> List[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


LOOK = (
    Option("--config", "FILE", "settings, one 'PROBE_NAME value' a line; a glidein_config is one"),
    Option("--deadline", "SECONDS", "the report is there within this time (default 60)", float),
    Option("--singularity", "PATH", "try this binary, not the glidein's search order"),
    Option("--image", "REF", "also try this image (a folder, a SIF, a URL); may be repeated", repeated=True),
    Option("--cvmfs-repo", "NAME", "look at this repository; may be repeated", repeated=True),
    Option("--cvmfs-mount-dir", "DIR", "where CVMFS is mounted, if not /cvmfs"),
    Option("--only", "NAME,..", "run just these detectors and those that they need", _comma_list),
    Option("--skip", "NAME,..", "leave these detectors out", _comma_list),
    Option("--network-target", "HOST:PORT", "try to connect there; may be repeated", repeated=True),
    Option("--collector", "URL", "send the report there"),
    Option("--token-file", "FILE", "the token for the collector"),
    Option("--spool", "DIR", "keep a report here that could not be delivered (or every one, without --collector)"),
    Option("--site", "NAME", "site that the report is for"),
    Option("--entry", "NAME", "factory entry that the report is for"),
)
RUN = (
    *LOOK,
    Option("--format", "", "default json", choices=("json", "text", "classad")),
    Option("--output", "FILE", "write the report to a file, whole or not at all, not to stdout"),
    Option("--require", "CAPABILITY,..", "exit code 1 unless all of these are ok", _comma_list),
)
COMMANDS = {"run": RUN, "startd-cron": LOOK}


class Given:
    """The command and the options of a command line, as argparse gives them."""

    def __init__(self, command: str) -> None:
        self.command = command
        for option in COMMANDS[command]:
            setattr(self, option.name, option.default())


def read_plain(arguments: List[str]) -> Optional[Given]:
    """A command line in the plain form that programs write: COMMAND --FLAG VALUE ...; None for any other.

    argparse, which reads the others and says what is wrong with them, takes 9 ms to import.
    """
    if not arguments or arguments[0] not in COMMANDS or len(arguments) % 2 == 0:
        return None
    given = Given(arguments[0])
    options = {option.flag: option for option in COMMANDS[arguments[0]]}
    for flag, text in zip(arguments[1::2], arguments[2::2]):
        option = options.get(flag)
        if option is None or text.startswith("-") or (option.choices and text not in option.choices):
            return None
        try:
            value = option.read(text)
        except ValueError:
            return None
        setattr(given, option.name, [*getattr(given, option.name), value] if option.repeated else value)
    return given


def _parser() -> Any:
    import argparse

    parser = argparse.ArgumentParser(
        prog="singularity-probe",
        description="Finds out, by trying, what containers can do on this node.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version="singularity-probe " + VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="look at this node and print a report",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cron = commands.add_parser(
        "startd-cron", help="look at this node and print ClassAd attributes", description=STARTD_CRON
    )
    for command, options in ((run, RUN), (cron, LOOK)):
        for option in options:
            _add(command, option)
    explain = commands.add_parser(
        "explain", help="tell a report to people: what works, what does not, why, and what to do"
    )
    meaning = "a JSON report; '-' or a pipe: standard input; without either the node is looked at now"
    explain.add_argument("report", nargs="?", default=None, metavar="REPORT", help=meaning)
    return parser


def _add(parser: Any, option: Option) -> None:
    shown = {"choices": option.choices} if option.choices else {"metavar": option.metavar, "type": option.read}
    action = "append" if option.repeated else "store"
    parser.add_argument(option.flag, action=action, default=option.default(), help=option.help, **shown)


def main(arguments: List[str]) -> int:
    """``singularity-probe run | explain``; returns the exit code."""
    from probe.settings import WrongUse

    options: Any = read_plain(arguments)
    if options is None:
        parser = _parser()
        try:
            options = parser.parse_args(arguments)
        except SystemExit as end:  # argparse's way to say usage, help and version
            return int(end.code or 0)
        if options.command is None:
            parser.print_usage(sys.stderr)
            say("give a command: run, explain or startd-cron (--help shows examples)")
            return EXIT_WRONG_USE
    try:
        return {"run": _run, "explain": _explain, "startd-cron": _startd_cron}[options.command](options)
    except WrongUse as error:
        say(str(error))
        return EXIT_WRONG_USE


def _startd_cron(options: Any) -> int:
    from probe import startd_cron

    return startd_cron.run(_settings(options, "startd_cron"))


def _settings(options: Any, trigger: str = "manual") -> Any:
    from probe import settings

    text = ""
    if options.config:
        text = _read_file(options.config, "give a readable file with --config")
    if options.deadline is not None and not 1 <= options.deadline <= 3600:
        raise settings.WrongUse("--deadline is {:g}; write a number of seconds from 1 to 3600".format(options.deadline))
    chosen = {
        "deadline": options.deadline, "singularity": options.singularity, "images": options.image,
        "cvmfs_repos": options.cvmfs_repo, "cvmfs_mount_dir": options.cvmfs_mount_dir, "only": options.only,
        "skip": options.skip, "require": getattr(options, "require", []), "network_targets": options.network_target,
        "collector": options.collector, "token_file": options.token_file, "spool": options.spool,
        "site": options.site, "entry": options.entry,
    }  # fmt: skip
    return settings.combine(trigger, chosen, os.environ, options.config, text, {})


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


def _run(options: Any) -> int:
    settings = _settings(options)
    for warning in settings.warnings:
        say("warning: " + warning)
    report = report_of_node(settings)
    from probe import report as reports

    for name in settings.require:
        if reports.capability(report, name) is None:
            say("--require {}: no such capability; known are {}".format(name, ", ".join(known_capabilities(report))))
            return EXIT_WRONG_USE
    deliver(settings, report)
    code = _write(_rendered(report, options.format), options.output)
    missing = [name for name in settings.require if reports.capability(report, name) != "ok"]
    if missing and code == EXIT_OK:
        say("required and not ok: " + ", ".join(missing))
        return EXIT_REQUIRED
    return code


def known_capabilities(report: Dict[str, Any]) -> List[str]:
    """The names that --require takes."""
    from probe.report import CAPABILITIES

    return sorted(CAPABILITIES) + sorted(report["singularity"]["features"]) + ["cvmfs:NAME"]


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
    say("{}: {}; the report could not be written".format(path, result.detail or "does not answer"))
    return EXIT_NO_REPORT


def _write_file(path: str, text: str) -> None:
    if os.path.exists(path) and not os.path.isfile(path):
        # A pipe or a device, such as /dev/null: root's rename would put a file in its place.
        with open(path, "wb") as stream:
            stream.write(text.encode("utf-8"))
        return
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
        say("standard output is closed; give a file with --output")
        return EXIT_NO_REPORT
    encoding = sys.stdout.encoding or "ascii"
    try:
        sys.stdout.buffer.write(text.encode(encoding, "backslashreplace"))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away: no fault of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        say("standard output: {}; the report could not be written".format(error.strerror))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter tries again at its end
        return EXIT_NO_REPORT
    return EXIT_OK


def _explain(options: Any) -> int:
    from probe.explain import render_explanation

    if options.report is None and (sys.stdin is None or sys.stdin.isatty()):
        report = report_of_node(_settings(Given("run")))
        source = "this node"
    else:
        report = _read_report(options.report or "-")
        source = options.report or "standard input"
    try:
        text = render_explanation(report)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        complaint = "{} is not a whole report of schema version 1.0 ({!r}); make one with: singularity-probe run"
        say(complaint.format(source, error))
        return EXIT_WRONG_USE
    return _print(text)


def _read_report(path: str) -> Dict[str, Any]:
    import json

    from probe.settings import WrongUse

    name = "standard input" if path == "-" else path
    text = (sys.stdin.read(1 << 24) if sys.stdin else "") if path == "-" else _read_file(path, "give a readable report")
    try:
        report = json.loads(text)
        missing = not isinstance(report, dict) or not {"host", "singularity", "checks"} <= set(report)
    except (ValueError, TypeError, RecursionError) as error:
        raise WrongUse("{} is not a JSON report: {}".format(name, error)) from None
    if missing or str(report.get("schema_version")) != "1.0":
        raise WrongUse("{} is not a report of schema version 1.0; make one with: singularity-probe run".format(name))
    return report  # type: ignore[no-any-return]  # checked above
