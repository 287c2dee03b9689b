"""Site ads for HTCondor: `site-db publish` sends them to a pool's collector, `site-db export ads` writes them to a file."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from reports.harvest_ads import NoBindings
from reports.intake import utc_now
from reports.output import Answer, Table
from reports.pages.exporting import write_file
from reports.progress import working
from reports.session import Session, common_options
from site_db.errors import SiteDbError
from site_db.extras import how_to_install
from site_db.site_ads import ENTRY, SITE, Ad, as_text, list_ads

_session = click.make_pass_decorator(Session, ensure=True)
_KINDS = {"sites": (SITE,), "entries": (ENTRY,), "all": (SITE, ENTRY)}
_SENT_AT_ONCE = 200
_COLUMNS = ("type", "name", "nodes")

_of = click.option(
    "--of", "kinds", type=click.Choice(list(_KINDS)), default="all", show_default=True, help="Which ads."
)


class NotPublished(SiteDbError):
    """A pool's collector did not take the ads."""


@click.command()
@click.argument("pool")
@_of
@click.option("--dry-run", is_flag=True, help="Only list what would be sent.")
@common_options
@_session
def publish(session: Session, pool: str, kinds: str, dry_run: bool) -> None:
    """Send an ad for each site and entry to the collector of a pool: what jobs can match on, and condor_status shows.

    POOL is the host[:port] of the collector, or a sinful string. The collector forgets ads after 15 minutes (its
    CLASSAD_LIFETIME): run it from cron every 5. Needs PyPI's htcondor; without it use `site-db export ads`.

    \b
    Examples:
      site-db publish cm.example.org
      site-db publish cm.example.org:9618 --of sites --dry-run
      condor_status -pool cm.example.org -any -constraint 'MyType == "ProbeSite" && CAN_SINGULARITY' -af Name
    """
    with session.store() as store:
        ads = list_ads(store, utc_now(), _KINDS[kinds])
    if not dry_run:
        with working(len(ads)) as show:
            for start in range(0, len(ads), _SENT_AT_ONCE):
                show(start, pool)
                send(pool, ads[start : start + _SENT_AT_ONCE])
    rows = [(ad["MyType"], ad["Name"], ad["PROBE_NODES"]) for ad in ads]
    data = {"pool": pool, "sent": 0 if dry_run else len(ads), "ads": [dict(zip(_COLUMNS, row, strict=True)) for row in rows]}
    told = f"{len(ads)} ads would be sent to {pool}." if dry_run else f"{len(ads)} ads sent to {pool}."
    session.show(Answer(data, [told, *([Table(_COLUMNS, rows)] if dry_run and rows else [])], Table(_COLUMNS, rows)))


@click.command(name="ads")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@_of
@common_options
@_session
def export_ads(session: Session, file: Path, kinds: str) -> None:
    """Write an ad for each site and entry to FILE (-: standard output), for condor_advertise.

    \b
    Examples:
      site-db export ads sites.ads && condor_advertise -pool cm.example.org -multiple UPDATE_AD_GENERIC sites.ads
      site-db export ads - --of sites
    """
    with session.store() as store:
        ads = list_ads(store, utc_now(), _KINDS[kinds])
    if file == Path("-"):
        click.echo(as_text(ads), nl=False)
        return
    write_file(file, as_text(ads))
    data = {"file": str(file), "ads": len(ads)}
    session.show(Answer(data, [Table(list(data), [list(data.values())])]))


def send(pool: str, ads: Sequence[Ad]) -> None:
    """Hand ads to a pool's collector, and hear that it took them. Raises NoBindings, NotPublished."""
    htcondor = _bindings()
    classad = importlib.import_module("classad2")
    try:
        collector = htcondor.Collector(pool)
        collector.advertise([classad.ClassAd(dict(ad)) for ad in ads], "UPDATE_AD_GENERIC", True)
    except (htcondor.HTCondorException, OSError, ValueError) as error:
        message = f"The collector of pool {pool} did not take the ads: {error}."
        remedy = f"Look whether this works here: condor_ping -pool {pool} -type COLLECTOR ADVERTISE_MASTER"
        raise NotPublished(message, remedy) from error


def _bindings() -> Any:  # noqa: ANN401 - a module without types
    try:
        return importlib.import_module("htcondor2")
    except ImportError as error:
        message = "HTCondor's Python bindings are not installed, so no ads can be sent."
        remedy = f"{how_to_install('htcondor')}, or go without: site-db export ads FILE, then condor_advertise."
        raise NoBindings(message, remedy) from error
