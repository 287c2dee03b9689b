"""The commands `site-db harvest logs` and `site-db harvest ads`: reports that came without a network of their own."""

import hashlib
import sys
from pathlib import Path

import click

from reports import answers, harvest_ads
from reports.harvest_answers import harvested, progress_text
from reports.harvest_identity import of_logs, pinned
from reports.harvest_logs import LogHarvest, size_of
from reports.harvest_state import HarvestState
from reports.ingest import Ingest, Summary
from reports.intake import REPORT_LIMIT_BYTES
from reports.progress import working
from reports.reading import STDIN
from reports.session import Session, common_options, data_folder
from site_db.store import Submission

_session = click.make_pass_decorator(Session, ensure=True)
_rejects = click.option(
    "--rejects", type=click.Path(path_type=Path), metavar="DIR", help="Keep what is refused here, with the reason."
)
_factory = click.option(
    "--factory", metavar="NAME", help="Take only reports of this factory; one that names none gets this."
)
_site = click.option("--site", metavar="NAME", help="Take only reports of this site; one that names none gets this.")


@click.group()
def harvest() -> None:
    """Get reports out of glidein logs and machine ads: for nodes that cannot send them.

    \b
    Examples:
      site-db harvest logs /var/log/gwms-factory/client
      site-db harvest ads cm.example.org
    """


@harvest.command("logs")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", "names", multiple=True, metavar="GLOB", help="Read only files of such a name; may be repeated.")
@click.option("--again", is_flag=True, help="Read everything, also what an earlier harvest has read.")
@click.option(
    "--state", "state_path", type=click.Path(path_type=Path), metavar="FILE",
    help="How far each log has been read.  [default: a file for this folder and database in your data folder]",
)  # fmt: skip
@_factory
@_site
@_rejects
@common_options
@_session
@click.pass_context
def logs(
    context: click.Context,
    session: Session,
    folder: Path,
    names: tuple[str, ...],
    again: bool,
    state_path: Path | None,
    factory: str | None,
    site: str | None,
    rejects: Path | None,
) -> None:
    """Find the probe's reports in the logs under DIR and store them.

    Reads plain and compressed logs, and the HTCondor logs that a glidein encodes into its stderr. The next harvest reads
    only what is new; one that was interrupted goes on. Links are not followed. A log under entry_NAME/ holds reports of this
    entry only; any other is refused. Exit code 1 if a file could not be read or a report was damaged or refused.

    \b
    Examples:
      site-db harvest logs /var/log/gwms-factory/client
      site-db harvest logs logs/ --name '*.out' --name '*.out.gz'
    """
    state = HarvestState(state_path or default_state(folder, session.url))
    if again:
        state.forget_all()
    found = LogHarvest(folder, state, names)
    try:
        with session.store() as store, working(size_of(folder) if sys.stderr.isatty() else None) as show:

            def add(batch: list[Submission]) -> list[str]:
                outcomes = store.add(batch)
                found.stored()
                return outcomes

            def progress(summary: Summary) -> None:
                show(found.counts.read_bytes, progress_text(found.counts, summary))

            items = of_logs(found.items(lambda: show(found.counts.read_bytes, "")), pinned(factory, site))
            summary = Ingest(add, REPORT_LIMIT_BYTES, rejects, progress).run(items)
            found.stored()
    finally:
        state.close()
    session.show(harvested(summary, found.counts))
    context.exit(1 if summary.rejected else 0)


@harvest.command("ads")
@click.argument("pool", metavar="POOL")
@click.option("--constraint", metavar="EXPR", help="Only machines for which this ClassAd expression is true.")
@click.option("--prefix", metavar="TEXT", help="What stands before PROBE_REPORT in your pool.  [known: GLIDEIN_PS_]")
@click.option("--all-slots", is_flag=True, help="Ask a pool for every slot, not only the first of each machine.")
@_factory
@_site
@_rejects
@common_options
@_session
@click.pass_context
def ads(
    context: click.Context,
    session: Session,
    pool: str,
    constraint: str | None,
    prefix: str | None,
    all_slots: bool,
    factory: str | None,
    site: str | None,
    rejects: Path | None,
) -> None:
    """Store the reports in a pool's machine ads.

    POOL is the host[:port] of a collector, or ads as text: a file, or - for standard input. A pool needs PyPI's htcondor; text
    does not. A report of another entry than the ad's GLIDEIN_Entry_Name is refused.

    \b
    Examples:
      site-db harvest ads cm.example.org --constraint 'GLIDEIN_Site == "Example-T2"'
      condor_status -long | site-db harvest ads -
    """
    is_text = pool == STDIN or Path(pool).is_file()
    if is_text and (constraint or prefix or all_slots):
        raise click.UsageError("--constraint, --prefix and --all-slots are for a pool; of ads as text everything is taken")
    pins = pinned(factory, site)
    with session.store() as store:
        if is_text:
            with click.open_file(pool, "rb") as source:
                found = harvest_ads.ads_in_text(pool, source)
                summary = Ingest(store.add, REPORT_LIMIT_BYTES, rejects).run(harvest_ads.reports_of(found, pins))
        else:
            found = harvest_ads.ads_of_pool(pool, constraint, prefix, all_slots=all_slots)
            summary = Ingest(store.add, REPORT_LIMIT_BYTES, rejects).run(harvest_ads.reports_of(found, pins))
    session.show(answers.ingested(summary))
    context.exit(1 if summary.rejected else 0)


def default_state(folder: Path, database_url: str) -> Path:
    """The state's file: one for each folder and database, so that a new database gets everything."""
    key = f"{folder.resolve()}\n{database_url}".encode("utf-8", "surrogateescape")
    return data_folder() / "harvest" / f"{hashlib.sha256(key).hexdigest()[:16]}.db"
