"""A group whose first command needs no name: ``walstream gc STORE`` beside ``gc undo``."""

from __future__ import annotations

from collections.abc import Sequence

import click


class ImplicitGroup(click.Group):
    """Takes what is none of its commands for the arguments of the first that was added.

    A store of such a name is ``./undo``.
    """

    @property
    def first(self) -> str:
        """The name of the command that needs none."""
        return next(iter(self.commands))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.first, *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or self.commands[self.first]

    def list_commands(self, ctx: click.Context) -> Sequence[str]:  # type: ignore[override]
        return list(self.commands)
