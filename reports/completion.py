"""The command `site-db completion`: click's script for a shell."""

import click
from click.shell_completion import get_completion_class

from reports.output import Answer, Table, Verbatim
from reports.session import Session, common_options

SHELLS = ("bash", "zsh", "fish")
_PROGRAM, _VARIABLE = "site-db", "_SITE_DB_COMPLETE"
_session = click.make_pass_decorator(Session, ensure=True)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@common_options
@_session
def completion(session: Session, shell: str) -> None:
    """Write the script by which a shell completes commands and options.

    \b
    Examples:
      eval "$(site-db completion bash)"                       now, or in ~/.bashrc
      site-db completion zsh > ~/.zfunc/_site-db              a folder of your fpath
      site-db completion fish > ~/.config/fish/completions/site-db.fish
    """
    script = _script(shell)
    data = {"shell": shell, "script": script}
    session.show(Answer(data, [Verbatim(script)], Table(list(data), [list(data.values())])))


def _script(shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows all of SHELLS
    program = click.get_current_context().find_root().command
    return kind(program, {}, _PROGRAM, _VARIABLE).source()
