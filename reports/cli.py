"""The program `site-db`: the centre's command line. Every command gives an Answer to one place that renders it."""

import logging
import sys
from pathlib import Path

import click
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from reports import answers, doctor, upkeep_commands
from reports.entries_cli import entries
from reports.harvest_commands import harvest
from reports.images_commands import images
from reports.ingest import Ingest, Summary
from reports.intake import REPORT_LIMIT_BYTES, utc_now
from reports.output import console_for
from reports.reading import read_reports
from reports.serve_command import serve
from reports.session import Program, Session, common_options
from reports.token_commands import token
from reports.version import VERSION
from site_db import views

_session = click.make_pass_decorator(Session, ensure=True)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="site-db")
@common_options
def cli() -> None:
    """What containers can do at each site: collects the probe's reports, explains them, proposes entry configuration.

    \b
    Examples:
      site-db serve                             take reports on this machine
      singularity-probe run | site-db ingest -  store one report by hand
      site-db sites                             all sites at a glance
      site-db site Example-T2                   one site: what works, what does not, why
      site-db why Example_T2_CE1 singularity    one verdict, with evidence and remedy
      site-db entries propose Example_T2_CE1 --as xml
      site-db entries check                     configuration against measurement
      site-db --format json sites | jq '.data'
    """


@cli.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "--rejects", type=click.Path(path_type=Path), metavar="DIR", help="Keep what is refused here, with the reason."
)
@common_options
@_session
@click.pass_context
def ingest(context: click.Context, session: Session, paths: tuple[str, ...], rejects: Path | None) -> None:
    """Store reports from files, folders and standard input (-).

    Takes single reports and NDJSON (one report a line), plain or compressed by gzip or zstd. A folder is searched
    for *.json, *.ndjson and *.jsonl (.gz, .zst). Reports that are stored already are counted as known, so the same
    files may be given again. Exit code 1 if anything was refused.

    \b
    Examples:
      site-db ingest spool/
      site-db ingest report.json monday.ndjson.gz --rejects refused/
      singularity-probe run | site-db ingest -
    """
    items = read_reports(paths, REPORT_LIMIT_BYTES, sys.stdin.buffer)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bar = Progress(*columns, console=console_for(sys.stderr), transient=True, disable=not sys.stderr.isatty())
    with session.store() as store, bar:
        task = bar.add_task("reading")

        def progress(summary: Summary) -> None:
            bar.update(task, description=answers.counts(summary))

        summary = Ingest(store.add, REPORT_LIMIT_BYTES, rejects, progress).run(items)
    session.show(answers.ingested(summary))
    context.exit(1 if summary.rejected else 0)


@cli.command()
@common_options
@_session
def sites(session: Session) -> None:
    """List all sites with what works there.

    \b
    Example:
      site-db --format csv sites > sites.csv
    """
    with session.store() as store:
        session.show(answers.sites(views.list_sites(store, utc_now())))


@cli.command()
@click.argument("name")
@common_options
@_session
def site(session: Session, name: str) -> None:
    """Report on one site: its capabilities and its entries.

    \b
    Example:
      site-db site Example-T2
    """
    with session.store() as store:
        session.show(answers.site(views.site_report(store, name, utc_now())))


@cli.command()
@click.argument("name")
@common_options
@_session
def entry(session: Session, name: str) -> None:
    """Report on one factory entry.

    \b
    Example:
      site-db entry Example_T2_CE1
    """
    with session.store() as store:
        session.show(answers.entry(views.entry_report(store, name, utc_now())))


@cli.command()
@click.argument("node_id", metavar="ID")
@common_options
@_session
def node(session: Session, node_id: str) -> None:
    """Report on one worker node, by its machine id or host name.

    \b
    Example:
      site-db node wn001.example.org
    """
    with session.store() as store:
        session.show(answers.node(views.node_report(store, node_id, utc_now())))


@cli.command()
@click.argument("entry_name", metavar="ENTRY")
@click.argument("capability")
@common_options
@_session
def why(session: Session, entry_name: str, capability: str) -> None:
    """Explain one verdict: in sentences, with evidence, and what the site and the factory can do.

    \b
    Examples:
      site-db why Example_T2_CE1 singularity
      site-db why Example_T2_CE1 cvmfs:singularity.opensciencegrid.org
    """
    with session.store() as store:
        session.show(answers.why(views.why(store, entry_name, capability, utc_now())))


@cli.command()
@common_options
@_session
def migrate(session: Session) -> None:
    """Bring an older database to this release's form. Every other command does the same when it opens one.

    \b
    Example:
      site-db --database sqlite:////srv/site-db/site.db migrate
    """
    with session.store() as store:
        session.show(answers.migrated(store.place))


@cli.command("doctor")
@common_options
@_session
@click.pass_context
def doctor_command(context: click.Context, session: Session) -> None:
    """Look whether this centre can work: database, disk, memory, versions. Exit code 1 if something fails.

    \b
    Example:
      site-db doctor
    """
    looks = doctor.examine(session.url)
    session.show(answers.examined(looks))
    context.exit(1 if any(look.status == "fail" for look in looks) else 0)


cli.add_command(serve)
cli.add_command(entries)
cli.add_command(images)
cli.add_command(harvest)
cli.add_command(token)
for upkeep_command in upkeep_commands.COMMANDS:
    cli.add_command(upkeep_command)


def main() -> None:
    """Run the program."""
    logging.captureWarnings(True)
    for stream in (sys.stdout, sys.stderr):
        # A terminal in a poorer encoding shows escapes, where it would end in a traceback.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # they are text streams
    cli(prog_name="site-db")
