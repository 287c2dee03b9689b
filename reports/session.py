"""What every command of `site-db` shares: the two options, the open database, the shape of errors."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from reports.lazy_commands import LazyGroup
from reports.output import FORMATS, Answer, show
from reports.safe_text import printable
from site_db.errors import DatabaseUnavailable, SiteDbError

if TYPE_CHECKING:
    from site_db.store import Store

DATABASE_VARIABLE = "SITE_DB_DATABASE"
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class Session:
    """The options that may stand before and after the command; the one after it counts."""

    database: str | None = None
    output_format: str | None = None

    @property
    def url(self) -> str:
        """The database's URL; without one, a SQLite file in the user's data folder, which is made."""
        return self.database or os.environ.get(DATABASE_VARIABLE) or _default_url()

    @contextmanager
    def store(self) -> Iterator["Store"]:
        """The open store, brought to this release's form."""
        from site_db.store import Store  # the database costs half a second at start; help and completion need none

        store = Store.open(self.url)
        try:
            yield store
        finally:
            store.close()

    def show(self, answer: Answer) -> None:
        """Write an answer in the chosen form, under the command's name."""
        context = click.get_current_context()
        command = context.command_path.partition(" ")[2]
        show(answer, self.output_format or "text", command, datetime.now(UTC))


def data_folder() -> Path:
    """The folder of the default database: XDG_DATA_HOME/site-db, or ~/.local/share/site-db."""
    home = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(home) if home.startswith("/") else Path("~/.local/share").expanduser()
    return base / "site-db"


def _default_url() -> str:
    try:
        folder = data_folder()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        message = f"The folder of the default database cannot be made: {error}."
        raise DatabaseUnavailable(message, f"Give --database URL or set {DATABASE_VARIABLE}.") from error
    return f"sqlite:///{folder / 'site.db'}"


def common_options(command: Command) -> Command:
    """Give a command --database and --format; they set the Session and are not handed to the command."""
    database = click.option(
        "--database",
        metavar="URL",
        expose_value=False,
        callback=_remember("database"),
        help="The database, sqlite:///PATH or postgresql+psycopg://...  "
        f"[default: {DATABASE_VARIABLE}, or a SQLite file in your data folder]",
    )
    output_format = click.option(
        "--format",
        "output_format",
        type=click.Choice(FORMATS),
        expose_value=False,
        callback=_remember("output_format"),
        help="How to answer.  [default: text]",
    )
    return database(output_format(command))


def _remember(field: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def callback(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
        session = context.ensure_object(Session)
        if value is not None:
            setattr(session, field, value)

    return callback


class Failure(click.ClickException):
    """A SiteDbError for people: what, where and what to do; exit code 1."""

    def __init__(self, error: SiteDbError) -> None:
        super().__init__(str(error))
        self._remedy = error.remedy

    def show(self, file: IO[Any] | None = None) -> None:
        """Write two lines to stderr."""
        click.echo(f"site-db: {printable(self.message)}", file=file, err=True)
        if self._remedy:
            click.echo(f"  hint: {printable(self._remedy)}", file=file, err=True)


class Program(LazyGroup):
    """The group of commands; an error of the centre ends it in words, never in a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SiteDbError as error:
            raise Failure(error) from error
