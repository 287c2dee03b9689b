"""The commands that look after the database over time: what changed, a copy. What may go: retention_command.py."""

from datetime import datetime, timedelta
from pathlib import Path

import click

from reports import telling, upkeep_answers
from reports.intake import utc_now
from reports.session import Session, common_options
from site_db.backup import back_up
from site_db.changes_views import ChangeList, Wanted, list_changes
from site_db.restore import put_back

_session = click.make_pass_decorator(Session, ensure=True)


class Since(click.ParamType):  # type: ignore[type-arg]  # generic only in newer releases of click
    """A time: RFC 3339, a date, or so many days or hours ago (7d, 12h)."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The aware time."""
        units = {"d": timedelta(days=1), "h": timedelta(hours=1)}
        try:
            if value[-1:] in units and value[:-1].isdecimal():
                return utc_now() - int(value[:-1]) * units[value[-1]]
            found = datetime.fromisoformat(value)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: give 2026-11-20, 2026-11-20T12:00:00Z, 7d or 12h.", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=utc_now().tzinfo)


def _command(_context: click.Context, _parameter: click.Parameter, line: str | None) -> str | None:
    try:
        if line is not None:
            telling.words_of(line)
    except ValueError as error:
        raise click.BadParameter(f"{error}: give a command as for a shell, with its quotes closed") from error
    return line


@click.command()
@click.option("--since", type=Since(), help="Only what was seen since then: 2026-11-20, 7d, 12h.")
@click.option("--entry", metavar="NAME", help="Only this entry.")
@click.option("--site", metavar="NAME", help="Only this site.")
@click.option("--capability", metavar="NAME", help="Only this capability.")
@click.option(
    "--call", metavar="COMMAND", callback=_command, help="Give each confirmed change that was not told yet to a command."
)
@click.option("--webhook", metavar="URL", help="POST each confirmed change that was not told yet.")
@common_options
@_session
def changes(
    session: Session,
    since: datetime | None,
    entry: str | None,
    site: str | None,
    capability: str | None,
    call: str | None,
    webhook: str | None,
) -> None:
    """List what entries lost and gained, when, and from which node on.

    With --call or --webhook each confirmed change is told once: as JSON on the command's standard input, or in a POST.
    It counts as told when the command ends with 0 or the answer is 2xx; otherwise it is told again next time. Run it
    from cron every few minutes. The other options do not limit what is told.

    \b
    Examples:
      site-db changes --since 7d
      site-db changes --entry Example_T2_CE1 --capability singularity
      site-db changes --call "mail -s change operators@example.org"
    """
    now = utc_now()
    with session.store() as store:
        tells = [make(given) for make, given in ((telling.by_command, call), (telling.by_webhook, webhook)) if given]
        if tells:
            found = ChangeList(now, tuple(telling.tell_all(store, tells, now)))
        else:
            found = list_changes(store, now, Wanted(since, entry, site, capability))
        session.show(upkeep_answers.changes(found))


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@common_options
@_session
def backup(session: Session, path: Path) -> None:
    """Copy the database to FILE while collectors run (SQLite; for PostgreSQL use pg_dump).

    \b
    Example:
      site-db backup /backups/site-$(date +%F).db
    """
    with session.store() as store:
        session.show(upkeep_answers.backed_up(path, back_up(store, path)))


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@common_options
@_session
def restore(session: Session, path: Path) -> None:
    """Put a copy that backup wrote in the database's place, while nothing uses it (SQLite; for PostgreSQL use pg_restore).

    The database that was there stays beside it, with .replaced behind its name. Do not copy the file yourself: the log of
    the old database would be written into it.

    \b
    Example:
      site-db --database sqlite:////srv/site-db/site.db restore /backups/site-2026-11-20.db
    """
    session.show(upkeep_answers.restored(path, put_back(session.url, path)))


COMMANDS = (changes, backup, restore)
