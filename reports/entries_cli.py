"""The commands `site-db entries ...`: what factories have configured, against what was measured."""

from dataclasses import replace
from pathlib import Path

import click

from reports import answers, entries_answers
from reports.intake import utc_now
from reports.progress import working
from reports.session import Session, common_options
from site_db import views
from site_db.configuration import applying, catalogue, drift, importing
from site_db.configuration.drift_rules import SEVERITIES
from site_db.configuration.editing import write_with_backup
from site_db.configuration.model import BrokenFile
from site_db.configuration.present import propose_against_configuration
from site_db.configuration.vanishing import forget_file
from site_db.proposals import CONFIDENCES

_session = click.make_pass_decorator(Session, ensure=True)
_FILE = click.Path(path_type=Path)
_NEVER = "never"


def _beside(defaults: Path | None, collected: Path | None) -> importing.Beside:
    return importing.Beside(defaults, collected)


_defaults_option = click.option(
    "--defaults", type=_FILE, metavar="FILE", help="Autoconf's default.yml.  [default: the one beside a whitelist]"
)
_collected_option = click.option(
    "--collected", type=_FILE, metavar="FILE", help="Autoconf's OSG.yml.  [default: the one beside a whitelist]"
)


@click.group()
def entries() -> None:
    """Factory entries: import and list them, check and propose their configuration, apply proposals."""


@entries.command("import")
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=_FILE)
@click.option("--factory", default="", metavar="NAME", help="Whose configuration this is, as GLIDEIN_Factory has it.")
@_defaults_option
@_collected_option
@common_options
@_session
def entries_import(
    session: Session, paths: tuple[Path, ...], factory: str, defaults: Path | None, collected: Path | None
) -> None:
    """Import configuration: factory XML, autoconf whitelists, Topology, CRIC, policy. All files or none.

    FILE is a factory's XML (*.xml), an autoconf whitelist (*.yml; default.yml and OSG.yml are taken from beside it), the
    root of OSG's Topology tree, CRIC's sites (*.json), a policy (*.toml), or a folder of such files. Importing again brings
    the database to what the files say now, and names the entries that vanished; of a folder also those of files that are not
    in it any more.

    \b
    Examples:
      site-db entries import /etc/gwms-factory/config.d --factory OSG-Production
      site-db entries import OSG_autoconf/10-hosted-ces.auto.yml topology/ policy.toml
    """
    with session.store() as store, working() as show:
        beside = _beside(defaults, collected)
        found = importing.import_files(store, paths, factory, utc_now(), beside, lambda path: show(0, path))
    session.show(entries_answers.imported(found))


@entries.command("forget")
@click.argument("path", metavar="FILE", type=_FILE)
@click.option("--factory", metavar="NAME", help="Only as it was imported for this factory.")
@common_options
@_session
def entries_forget(session: Session, path: Path, factory: str | None) -> None:
    """Let nothing count any more that an imported FILE said: it was removed, renamed, or is of no use.

    Importing a folder does so for files that are not in it any more.

    \b
    Examples:
      site-db entries forget /etc/gwms-factory/config.d/20-old.xml
    """
    with session.store() as store:
        found = forget_file(store, path, utc_now(), factory)
    session.show(entries_answers.imported(found))


@entries.command("list")
@click.option("--unjoined", is_flag=True, help="Names without a counterpart: configured, reported or registered only.")
@common_options
@_session
def entries_list(session: Session, unjoined: bool) -> None:
    """List all entries that have reported; with --unjoined what does not fit together.

    \b
    Examples:
      site-db entries list
      site-db --format csv entries list --unjoined
    """
    with session.store() as store:
        now = utc_now()
        if unjoined:
            with store.reading() as connection:
                session.show(entries_answers.unjoined(catalogue.unjoined(connection)))
        else:
            session.show(answers.entries(views.list_entries(store, now), now))


@entries.command("check")
@click.argument("entry_name", metavar="[ENTRY]", required=False)
@click.option(
    "--fail-on",
    type=click.Choice([*SEVERITIES, _NEVER]),
    default="error",
    show_default=True,
    help="Exit code 1 if there is a finding at least this grave.",
)
@common_options
@_session
@click.pass_context
def entries_check(context: click.Context, session: Session, entry_name: str | None, fail_on: str) -> None:
    """Check the imported configuration against what was measured, for all enabled entries or one.

    \b
    Examples:
      site-db entries check
      site-db entries check Example_T2_CE1 --fail-on warning
      site-db --format csv entries check > drift.csv
    """
    with session.store() as store:
        found = drift.check_drift(store, utc_now(), entry_name)
    session.show(entries_answers.drift(found))
    context.exit(1 if fail_on != _NEVER and found.at_least(fail_on) else 0)


@entries.command("propose")
@click.argument("entry_name", metavar="ENTRY")
@click.option(
    "--as",
    "shape",
    type=click.Choice(["text", "xml", "yaml"]),
    default="text",
    show_default=True,
    help="For reading, as the factory's XML, or as OSG autoconf YAML.",
)
@click.option(
    "--min-confidence",
    type=click.Choice(CONFIDENCES),
    default="low",
    show_default=True,
    help="Leave out what is less sure.",
)
@click.option("--no-notes", is_flag=True, help="Only the proposals: for a second form of what was read already.")
@common_options
@_session
def entries_propose(session: Session, entry_name: str, shape: str, min_confidence: str, no_notes: bool) -> None:
    """Propose changes to one entry's attributes from what was measured there. Nothing is changed anywhere.

    \b
    Examples:
      site-db entries propose Example_T2_CE1
      site-db entries propose Example_T2_CE1 --as xml
    """
    with session.store() as store:
        found = propose_against_configuration(store, entry_name, utc_now(), min_confidence=min_confidence)
    found = replace(found, notes=()) if no_notes else found
    session.show(answers.proposed(found, shape))


@entries.command("apply")
@click.argument("path", metavar="FILE", type=_FILE)
@click.option("--entry", "only", multiple=True, metavar="NAME", help="Only this entry (may be given several times).")
@click.option(
    "--min-confidence",
    type=click.Choice(CONFIDENCES),
    default="medium",
    show_default=True,
    help="Apply nothing that is less sure.",
)
@click.option("--factory", metavar="NAME", help="Whose file it is.  [default: as it was imported]")
@click.option("--write", is_flag=True, help="Write the file (its old self stays beside it, with .bak).")
@_defaults_option
@_collected_option
@common_options
@_session
def entries_apply(
    session: Session,
    path: Path,
    only: tuple[str, ...],
    min_confidence: str,
    factory: str | None,
    write: bool,
    defaults: Path | None,
    collected: Path | None,
) -> None:
    """Edit a factory's XML or autoconf YAML in place, as was measured. Without --write only show the diff.

    Only what changes changes: every other byte of the file stays as it is. Only reports of the file's own factory count; where
    it is not known, and several factories report an entry of this name, the entry is left alone.

    \b
    Examples:
      site-db entries apply config.d/10-osg.xml | less
      site-db entries apply config.d/10-osg.xml --entry Example_T2_CE1 --write
    """
    with session.store() as store:
        edited = applying.plan(
            store, path, utc_now(), only, min_confidence, _beside(defaults, collected), factory=factory
        )
    found = edited.applied
    if write and edited.after != edited.before:
        try:
            backup = write_with_backup(path, edited.before, edited.after)
        except OSError as error:
            raise BrokenFile(str(path), f"cannot be written: {error.strerror}", "Nothing was changed.") from error
        found = replace(found, written=True, backup=str(backup))
    session.show(entries_answers.applied(found))
