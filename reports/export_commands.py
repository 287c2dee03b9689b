"""`site-db export`: what the centre knows, as files for others. History and ads have files of their own."""

from pathlib import Path

import click

from reports.intake import utc_now
from reports.lazy_commands import Lazy, LazyGroup
from reports.output import Answer, Table
from reports.pages import exporting
from reports.pages.centre import Centre
from reports.pages.kept import Kept
from reports.progress import working
from reports.session import Session, common_options

# Others of the group, which are imported when they are run.
_OTHERS = {
    "parquet": Lazy(
        "reports.export_history:parquet",
        "Write history to FOLDER as Parquet, one row a report, one folder a day: for DuckDB, Spark, any lakehouse.",
    ),
    "csv": Lazy("reports.export_history:as_csv", "Write history to FILE (-: standard output) as CSV, one row a report."),
    "ads": Lazy(
        "reports.site_ad_commands:export_ads",
        "Write an ad for each site and entry to FILE (-: standard output), for condor_advertise.",
    ),
    "json": Lazy(
        "reports.export_history:as_json",
        "Write history to FILE (-: standard output) as one JSON object a line and report.",
    ),
}
_session = click.make_pass_decorator(Session, ensure=True)


@click.group(cls=LazyGroup, lazy=_OTHERS)
@common_options
def export() -> None:
    """Write what the centre knows as files: pages for a web server, one page to mail, history, site ads.

    \b
    Examples:
      site-db export site public/
      site-db export page report.html --site Example-T2
      site-db export parquet /srv/history
      site-db export ads sites.ads
    """


@export.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@common_options
@_session
def site(session: Session, folder: Path) -> None:
    """Write all sites, entries and reasons as a folder of pages.

    The pages need no server: open index.html, or let any web server hand them out. An earlier export in FOLDER is
    replaced as a whole when the new one is ready; any other folder that is there and not empty is left alone.

    \b
    Example:
      site-db export site /srv/www/containers
    """
    with session.store() as store:
        centre = Centre(store, utc_now, Kept(store))
        targets = exporting.folder_targets(centre)
        with working(len(targets)) as progress:
            files = exporting.write_folder(centre, folder, targets, progress, session.url)
    table = Table(["folder", "pages", "files"], [[str(folder), len(targets), files]])
    session.show(Answer({"folder": str(folder), "pages": len(targets), "files": files}, [table]))


@export.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--site", "sites", multiple=True, metavar="NAME", help="Only this site; may be given several times.")
@common_options
@_session
def page(session: Session, file: Path, sites: tuple[str, ...]) -> None:
    """Write one HTML file that needs nothing else: to mail, or to put anywhere.

    \b
    Examples:
      site-db export page report.html
      site-db export page example.html --site Example-T2
    """
    with session.store() as store:
        centre = Centre(store, utc_now, Kept(store))
        targets = exporting.file_targets(centre, sites)
        with working(len(targets)) as progress:
            text = exporting.file_text(centre, targets, progress)
    exporting.write_file(file, text)
    data = {"file": str(file), "pages": len(targets), "bytes": len(text.encode())}
    session.show(Answer(data, [Table(list(data), [list(data.values())])]))
