"""The commands that tell what is stored, `site-db sites`, `site`, `entry`, `node`, `why`; and `migrate`, `doctor`.

What only some of them need is imported in them: each start counts for whoever types.
"""

from datetime import UTC, datetime

import click

from reports import answers
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
        session.show(answers.sites(views.list_sites(store, datetime.now(UTC))))


@click.command()
@click.argument("name")
@common_options
@_session
def site(session: Session, name: str) -> None:
    """Report on one site: its capabilities and its entries.

    As Markdown it is ready to paste into a ticket: what fails, by cause, since when, on which nodes, with the decisive
    lines of the reports and what can be done.

    \b
    Examples:
      site-db site Example-T2
      site-db site Example-T2 --format markdown
    """
    with session.store() as store:
        found = views.site_report(store, name, datetime.now(UTC))
        if session.output_format == "markdown":
            from reports import ticket
            from site_db.causes import site_causes

            session.show(ticket.site(found, site_causes(store, found)))
        else:
            session.show(answers.site(found))


@click.command()
@click.argument("name")
@common_options
@_session
def entry(session: Session, name: str) -> None:
    """Report on one factory entry.

    As Markdown it is ready to paste into a ticket, as that of a site.

    \b
    Examples:
      site-db entry Example_T2_CE1
      site-db entry Example_T2_CE1 --format markdown
    """
    with session.store() as store:
        found = views.entry_report(store, name, datetime.now(UTC))
        if session.output_format == "markdown":
            from reports import ticket
            from site_db.causes import entry_causes

            session.show(ticket.entry(found, entry_causes(store, found)))
        else:
            session.show(answers.entry(found))


@click.command()
@click.argument("node_id", metavar="ID")
@common_options
@_session
def node(session: Session, node_id: str) -> None:
    """Report on one worker node, by its machine id or host name.

    As Markdown it is ready to paste into a ticket, as that of a site.

    \b
    Examples:
      site-db node wn001.example.org
      site-db node wn001.example.org --format markdown
    """
    with session.store() as store:
        found = views.node_report(store, node_id, datetime.now(UTC))
        if session.output_format == "markdown":
            from reports import ticket
            from site_db.causes import node_causes

            session.show(ticket.node(found, node_causes(store, found)))
        else:
            session.show(answers.node(found))


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
        session.show(answers.why(views.why(store, entry_name, capability, datetime.now(UTC))))


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
    from reports import doctor

    looks = doctor.examine(session.url)
    session.show(answers.examined(looks))
    context.exit(1 if any(look.status == "fail" for look in looks) else 0)
