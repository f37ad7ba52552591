"""`coebench doctor` and `clean`."""

from __future__ import annotations

from typing import Annotated

import typer

ProvisionerName = Annotated[str, typer.Option("--provisioner", help="Whose.")]


def doctor() -> None:
    """Say what this machine can and cannot do. Exit code 1 if the lab can't be here."""
    from ..lab import doctor as examine

    findings = examine.findings()
    width = max(len(f.what) for f in findings)
    for f in findings:
        typer.echo(f"{f.verdict:<5} {f.what:<{width}}  {f.told}")
    raise typer.Exit(1 if any(f.verdict == "no" for f in findings) else 0)


def clean(provisioner: ProvisionerName = "lab") -> None:
    """End and remove all that earlier runs left, whatever became of them."""
    from .. import plugins

    removed = plugins.load("provisioners", provisioner, "provisioner")().clean()
    for line in removed:
        typer.echo(f"removed {line}")
    if not removed:
        typer.echo("nothing was left")
