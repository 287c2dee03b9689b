"""`site-db token`: keys of factories, and tokens for entries and readers."""

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote

import click

from reports.intake import utc_now
from reports.output import Answer, Table, Verbatim
from reports.safe_text import printable
from reports.serve_configuration import default_keys
from reports.session import Session, common_options
from reports.tokens.issuing import DAYS, Wanted, issue
from reports.tokens.keys import (
    KEYS_PER_ISSUER,
    READERS,
    KeyFile,
    KeyProblem,
    add_key,
    list_key_files,
    read_key_file,
    retire_key,
    write_secret,
)

Command = TypeVar("Command", bound=Callable[..., Any])
_session = click.make_pass_decorator(Session, ensure=True)
_READERS_WORD = "(readers)"


def _keys_option(command: Command) -> Command:
    return click.option(
        "--keys",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="The folder of keys.  [default: keys, beside the default database]",
    )(command)


@click.group()
def token() -> None:
    """Make tokens, by which reports are signed for one entry, and the keys behind them.

    \b
    Examples:
      site-db token keys add Example-Factory
      site-db token issue Example_T2_CE1 --factory Example-Factory --site Example-T2 --audience https://sitedb.example.org
      site-db token issue alice --reader --audience https://sitedb.example.org
    """


@token.command("issue")
@click.argument("names", metavar="ENTRY...", nargs=-1, required=True)
@click.option("--factory", metavar="NAME", help="The factory that the entries belong to, as its glideins report it.")
@click.option("--reader", "is_reader", is_flag=True, help="Tokens for people and programs that read, not for entries.")
@click.option("--site", metavar="NAME", help="The site of these entries: their reports may name no other.")
@click.option("--audience", required=True, metavar="URL", help="The collector, as its configuration names it.")
@click.option(
    "--days", type=click.FloatRange(0, 3650, min_open=True), default=DAYS, show_default=True, help="Validity."
)
@click.option("--key", "key_id", metavar="KID", help="Sign with this key.  [default: the newest]")
@click.option(
    "--folder",
    "output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write each token to DIR/ENTRY.token (mode 0600) instead of stdout.",
)
@_keys_option
@common_options
@_session
def issue_command(
    session: Session,
    names: tuple[str, ...],
    factory: str | None,
    is_reader: bool,
    site: str | None,
    audience: str,
    days: float,
    key_id: str | None,
    output: Path | None,
    folder: Path | None,
) -> None:
    """Make a signed token for each ENTRY (with --reader: for each reader).

    A token is a secret: who has it can write reports of its entry until it expires.

    \b
    Examples:
      site-db token issue Example_T2_CE1 --factory Example-Factory --site Example-T2 --audience https://sitedb.example.org
      site-db token issue CE1 CE2 --factory Example-Factory --site T2 --audience https://sitedb.example.org --folder tokens
    """
    if bool(factory) == is_reader:
        raise click.UsageError("Say either --factory NAME or --reader.")
    if len(names) > 1 and not output:
        raise click.UsageError("Several tokens need --folder DIR to be written to.")
    issuer = factory or READERS
    made = []
    for name in names:
        wanted = Wanted(issuer, name, audience, days, site)
        signed = issue(folder or default_keys(), wanted, utc_now(), key_id)
        made.append((name, signed, _written(output, name, signed) if output else None))
    asides = []
    if factory and not site:
        asides = ["note: without --site a report with this token may name a site only where the collector allows it."]
    session.show(_issued(made, asides))


def _written(folder: Path, name: str, signed: str) -> Path:
    path = folder / f"{quote(name, safe='')}.token"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        write_secret(path, signed.encode() + b"\n")
    except OSError as error:
        raise KeyProblem(
            f"{printable(str(path))} cannot be written: {error.strerror}.", "Give another --folder."
        ) from error
    return path


def _issued(made: Sequence[tuple[str, str, Path | None]], asides: Sequence[str]) -> Answer:
    rows = [(name, str(path) if path else signed) for name, signed, path in made]
    member = "file" if made[0][2] else "token"
    table = Table(("name", member), rows)
    block = table if made[0][2] else Verbatim(made[0][1])
    return Answer([{"name": name, member: value} for name, value in rows], [block], table, asides)


@token.group("keys", invoke_without_command=True)
@_keys_option
@click.pass_context
def keys(context: click.Context, folder: Path | None) -> None:
    """List, add and retire the secret keys of factories. A running collector follows within five seconds.

    To change a key: add the new one, wait until the tokens of the old one have expired or were replaced, retire the old.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_command, folder=folder)


@keys.command("list")
@_keys_option
@common_options
@_session
def list_command(session: Session, folder: Path | None = None) -> None:
    """List the keys, never their contents. The newest of a factory signs.

    \b
    Example:
      site-db token keys list --keys /etc/site-db/keys
    """
    files = list_key_files(folder or default_keys())
    session.show(_listed(files))


def _listed(files: Sequence[KeyFile]) -> Answer:
    data, rows = [], []
    for file in files:
        made_at = datetime.fromtimestamp(file.made_at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        factory = _READERS_WORD if file.factory == READERS else file.factory
        problem = _problem(file)
        rows.append((factory, file.key_id, made_at, problem or "ok"))
        data.append({"factory": factory, "kid": file.key_id, "made_at": made_at, "problem": problem})
    return Answer(data, [Table(("factory", "kid", "made", "state"), rows)])


def _problem(file: KeyFile) -> str | None:
    try:
        read_key_file(file)
    except KeyProblem as problem:
        return str(problem)
    return None


@keys.command("add")
@click.argument("factory", required=False)
@click.option("--readers", "is_reader", is_flag=True, help="A key for reader tokens, instead of a factory's.")
@click.option("--kid", "key_id", metavar="KID", help="The key's id.  [default: the time]")
@click.option(
    "--from",
    "source",
    type=click.File("rb"),
    metavar="FILE",
    help="Take the secret file that the factory signs with already, byte by byte, instead of a new key.",
)
@_keys_option
@common_options
@_session
def add_command(
    session: Session,
    factory: str | None,
    is_reader: bool,
    key_id: str | None,
    source: IO[bytes] | None,
    folder: Path | None,
) -> None:
    """Make a key for FACTORY: DIR/FACTORY/KID.key, mode 0600.

    \b
    Examples:
      site-db token keys add Example-Factory
      site-db token keys add Example-Factory --from /var/lib/gwms-factory/server-credentials/jwt_secret.key
      site-db token keys add --readers
    """
    if bool(factory) == is_reader:
        raise click.UsageError("Give either a FACTORY or --readers.")
    folder, name = folder or default_keys(), factory or READERS
    if sum(file.factory == name for file in list_key_files(folder)) >= KEYS_PER_ISSUER:
        raise KeyProblem(f"{name!r} has {KEYS_PER_ISSUER} keys already.", "Retire one that is not used any more.")
    made = add_key(folder, name, key_id or utc_now().strftime("%Y%m%dT%H%M%SZ"), source.read(65536) if source else None)
    answer = {"factory": name, "kid": made.key_id, "path": str(made.path)}
    table = Table(("factory", "kid", "path"), [tuple(answer.values())])
    session.show(Answer(answer, [f"made {made.path}"], table))


@keys.command("retire")
@click.argument("factory", required=False)
@click.argument("key_id", metavar="KID")
@click.option("--readers", "is_reader", is_flag=True, help="A key for reader tokens, instead of a factory's.")
@_keys_option
@common_options
@_session
def retire_command(session: Session, factory: str | None, key_id: str, is_reader: bool, folder: Path | None) -> None:
    """Delete a key. Every token that it has signed is refused from then on.

    \b
    Example:
      site-db token keys retire Example-Factory 20261120T120000Z
    """
    if bool(factory) == is_reader:
        raise click.UsageError("Give either a FACTORY or --readers.")
    path = retire_key(folder or default_keys(), factory or READERS, key_id)
    table = Table(("kid", "path"), [(key_id, str(path))])
    session.show(Answer({"kid": key_id, "path": str(path)}, [f"deleted {path}"], table))
