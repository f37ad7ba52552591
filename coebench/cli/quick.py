"""Commands that do not look at options where there are none.

typer loads pydantic to check the value of any option, those that are not given too: a tenth of a second for each start of
`coebench COMMAND`. With these classes the first word of a command line, if it is a command, and a command without options
are taken as they are.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class QuickGroup(TyperGroup):
    """A group whose own options stand before the command, if at all."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] in self.commands and hasattr(ctx, "_protected_args"):
            ctx._protected_args, ctx.args = args[:1], args[1:]
            return list(ctx.args)
        return list(super().parse_args(ctx, args))


class QuickCommand(TyperCommand):
    """A command that has no option but its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and all(p.name == "help" for p in self.get_params(ctx)):
            return []
        return list(super().parse_args(ctx, args))
