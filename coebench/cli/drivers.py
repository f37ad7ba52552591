"""`coebench drivers`."""

from __future__ import annotations

import typer

from .quick import QuickCommand, QuickGroup

app = typer.Typer(cls=QuickGroup, help="The COEs that can be compared.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """The COEs that can be compared."""


@app.command("list", cls=QuickCommand)
def list_() -> None:
    """List the drivers that are installed, the broken ones with the reason."""
    from .. import plugins

    for found in plugins.survey("drivers"):
        state = f"broken: {found.broken}" if found.broken else found.title
        typer.echo(f"{found.name:<12} {state:<24} {found.package}")
