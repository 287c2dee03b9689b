"""The commands that tell what is stored, `site-db sites`, `site`, `entry`, `node`, `why`; and `migrate`, `doctor`."""

import click

from reports import answers, doctor
from reports.intake import utc_now
from reports.session import Session, common_options
from site_db import views

_session = click.make_pass_decorator(Session, ensure=True)


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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


@click.command()
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


@click.command("doctor")
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
