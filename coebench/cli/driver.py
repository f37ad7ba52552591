"""`coebench driver`: for who writes one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .complete import driver_names, provisioner_names
from .options import finite

app = typer.Typer(help="Write a driver: new, check, behaviours.", no_args_is_help=True)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The COE's name on the command line: lower case letters, digits, '-'.")],
    folder: Annotated[Path | None, typer.Option(help="Where to write it; coebench-NAME if not given.")] = None,
) -> None:
    """Write a complete package: entry point, typed skeleton with the contract, conformance test, README."""
    from ..sdk import scaffold

    target = scaffold.write(name, folder)
    typer.echo(f"written: {target}")
    typer.echo(f"  pip install -e {target if target.is_absolute() else f'./{target}'}")
    typer.echo(f"  coebench driver check {name} --provisioner existing --option url=http://ADDRESS:PORT")


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="An installed driver (coebench drivers list).", autocompletion=driver_names)],
    provisioner: Annotated[
        str, typer.Option(help="Where the bay comes from: lab, existing, …", autocompletion=provisioner_names)
    ] = "lab",
    option: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE: what the provisioner is to know of the bay; may be given again.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="Nodes of the bay.")] = 2,
    only: Annotated[list[str] | None, typer.Option(help="A behaviour or a group; may be given again.")] = None,
    patience: Annotated[
        float, typer.Option(callback=finite, help="Seconds that a fact may take before its behaviour fails.")
    ] = 60.0,
    json: Annotated[bool, typer.Option("--json", help="Print the report, alone, as JSON on standard output.")] = False,
) -> None:
    """Put the conformance suite to a driver: what passes, what fails and why it is asked for, and a score.

    Exit code: 0 all that applies passed, 1 a behaviour failed, a claimed capability is not there or something was left
    behind, 2 bad input.
    """
    import msgspec

    from ..conformance import run_on
    from ..conformance.suite import Outcome
    from ..sdk import checking
    from .options import pairs

    names = checking.chosen(only or [])
    out = sys.stderr if json else sys.stdout

    def tell(outcome: Outcome) -> None:
        print(checking.told(outcome), file=out, flush=True)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with checking.bench(name, provisioner, nodes, pairs(option), patience, say) as bench:
        report = run_on(bench, names, tell)
    for line in checking.summary(report):
        print(line, file=out)
    if json:
        told = msgspec.to_builtins(report)
        print(msgspec.json.encode({**told, "score": report.score, "lies": report.lies, "ok": report.ok}).decode())
    raise typer.Exit(0 if report.ok else 1)


@app.command("behaviours")
def behaviours_() -> None:
    """List all behaviours of the conformance suite with the reason for each."""
    from ..conformance import behaviours

    for b in behaviours():
        needs = f" [{', '.join(c.value for c in b.needs)}]" if b.needs else ""
        typer.echo(f"{b.group}: {b.name}{needs}\n    {b.why}")
