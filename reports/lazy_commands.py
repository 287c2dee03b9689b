"""A group whose commands are imported when they are run: help and completion need their names and first sentences only.

Measured: importing all of them costs 1.5 s of processor time, the names 0.1 s.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click


class Lazy(NamedTuple):
    """A command that is not imported yet: `place` is MODULE:NAME; `short_help` the first sentence of its help."""

    place: str
    short_help: str


class LazyGroup(click.Group):
    """A group that knows commands by `lazy`, by their names."""

    def __init__(self, *arguments: Any, lazy: Mapping[str, Lazy], **options: Any) -> None:  # noqa: ANN401 - click's
        super().__init__(*arguments, **options)
        self._places = {name: row.place for name, row in lazy.items()}
        for name, row in lazy.items():
            self.add_command(click.Command(name, short_help=row.short_help))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is to be run, or whose options are to be completed: now it has to be there."""
        self.load(args[0])
        return super().resolve_command(ctx, args)

    def load(self, name: str) -> None:
        """Put the real command in its place; nothing where it is there already or there is none of this name."""
        if place := self._places.pop(name, None):
            module, _, attribute = place.partition(":")
            self.add_command(getattr(import_module(module), attribute), name)

    def load_all(self) -> None:
        """Import every command, also those of groups: for tests and for whoever walks all of them."""
        for name in list(self._places):
            self.load(name)
        for command in self.commands.values():
            if isinstance(command, LazyGroup):
                command.load_all()
