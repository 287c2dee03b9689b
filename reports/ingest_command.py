"""The command `site-db ingest`: reports from files, folders and standard input."""

import sys
from pathlib import Path

import click

from reports import answers
from reports.ingest import Ingest, Summary
from reports.intake import REPORT_LIMIT_BYTES
from reports.progress import working
from reports.reading import read_reports
from reports.session import Session, common_options

_session = click.make_pass_decorator(Session, ensure=True)


@click.command()
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
    with session.store() as store, working() as show:

        def progress(summary: Summary) -> None:
            show(0, answers.counts(summary))

        summary = Ingest(store.add, REPORT_LIMIT_BYTES, rejects, progress).run(items)
    session.show(answers.ingested(summary))
    context.exit(1 if summary.rejected else 0)
