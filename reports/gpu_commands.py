"""The command `site-db gpus`: which GPUs jobs really get, site by site and entry by entry."""

import click

from reports import gpu_answers
from reports.intake import utc_now
from reports.session import Session, common_options
from site_db.gpus import gpus_of, list_gpus

_session = click.make_pass_decorator(Session, ensure=True)


@click.command()
@click.argument("name", metavar="[SITE|ENTRY]", required=False)
@common_options
@_session
def gpus(session: Session, name: str | None) -> None:
    """Tell which GPUs there are: models, memory, the newest CUDA, whether containers reach them, on how many nodes.

    Without a name all sites; with one a site and its entries, or one entry (NAME or NAME@FACTORY). CSV has a row for each
    site or entry and spells the versions out.

    \b
    Examples:
      site-db gpus
      site-db gpus Example-T2
      site-db --format csv gpus > gpus.csv
    """
    with session.store() as store:
        if name is None:
            session.show(gpu_answers.listed(list_gpus(store, utc_now())))
        else:
            session.show(gpu_answers.of_place(gpus_of(store, name, utc_now())))
