"""`coebench loadgen`: the load generator on its own."""

from __future__ import annotations

import os
from typing import Annotated

import typer

app = typer.Typer(help="The native load generator, of use on its own.", no_args_is_help=True)
PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": True, "help_option_names": []}
Words = Annotated[list[str] | None, typer.Argument(help="Passed on to the generator; --help tells them.", show_default=False)]


def _become(mode: str, words: list[str] | None) -> None:
    from ..load import native

    program = str(native.program())
    os.execv(program, ["coeload", mode, *(words or [])])


@app.command(context_settings=PASSED_ON)
def run(words: Words = None) -> None:
    """Send load: URL… (--rate R | --closed) --connections N --threads T --duration 10s [--json]."""
    _become("run", words)


@app.command(context_settings=PASSED_ON)
def agent(words: Words = None) -> None:
    """Serve the control protocol: what runs inside bays."""
    _become("agent", words)


@app.command(context_settings=PASSED_ON)
def null(words: Words = None) -> None:
    """Answer as fast as can be: a server to measure the generator itself against."""
    _become("null", words)
