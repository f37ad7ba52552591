"""`coebench loadgen`: the load generator on its own."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from .coordinator import coordinator
from .options import finite

app = typer.Typer(help="The native load generator, of use on its own.", no_args_is_help=True)
OTHER_WORK = "the machine had other work (load average {:.1f}); repeat it when it is at rest"
PASSED_ON = {"ignore_unknown_options": True, "allow_interspersed_args": True, "help_option_names": []}
Words = Annotated[list[str] | None, typer.Argument(help="Passed on to the generator; --help tells them.", show_default=False)]


def _become(mode: str, words: list[str] | None) -> NoReturn:
    from ..load import native

    program = str(native.program())
    os.execv(program, ["coeload", mode, *(words or [])])


@app.command(context_settings=PASSED_ON)
def run(words: Words = None) -> None:
    """Send load: URL… (--rate R | --closed) --connections N --threads T --duration 10s [--json].

    --cross-check wrk,h2load,hey sends the same by those too, each between two loads of our own, and prints the difference.
    """
    tools, others = _taken_out(words or [], "--cross-check")
    if {"--help", "-h"} & set(others):
        typer.echo("coebench loadgen run takes --cross-check wrk,h2load,hey as well: the same by those, between two of our own\n")
        sys.stdout.flush()
    from ..load import alone, crosscheck, native

    if {"--help", "-h"} & set(others):
        _become("run", others)
    if tools is None:
        raise typer.Exit(alone.run(native.program(), others, typer.echo))
    lines = crosscheck.run(native.program(), others, [t.strip() for t in (tools or "").split(",")], _tell)
    typer.echo(crosscheck.encoded(lines) if "--json" in others else crosscheck.text(lines))


@app.command()
def calibrate(
    seconds: Annotated[float, typer.Option(callback=finite, help="Of each of its some 25 loads.", min=0.2, max=60)] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON, and the file it is kept in.")] = False,
) -> None:
    """Measure what this machine's generator can do, against a server that does nothing; later runs compare with it."""
    import msgspec

    from ..load import calibrate, native

    program = native.program()
    limits = calibrate.measure(program, seconds, _tell)
    restless = limits.load > calibrate.RESTLESS
    kept = None if restless else calibrate.remember(limits, program)
    if json:
        told = {**msgspec.to_builtins(limits), "kept": str(kept) if kept else None}
        if restless:
            told["why"] = OTHER_WORK.format(limits.load)
        typer.echo(msgspec.json.encode(told).decode())
        return
    high = f", missed from {limits.open_high:.0f}/s on" if limits.open_high else ""
    typer.echo(
        f"{limits.machine}: one thread, {calibrate.CONNECTIONS} connections, the server on a core of its own: {limits.cores == 2}"
    )
    typer.echo(f"  closed loop, at most        {limits.closed_rps:10.0f}/s")
    typer.echo(f"  open loop, held to 0.1 %    {limits.open_rps:10.0f}/s (always up to {limits.open_low:.0f}/s{high})")
    typer.echo(f"  send lag at 1000/s     {1e3 * limits.lag_p50_ms:15.1f} µs p50, {1e3 * limits.lag_p99_ms:.1f} µs p99")
    typer.echo(f"  floor of latency       {1e3 * limits.floor_ms:15.1f} µs p50, from the send, at 1000/s")
    if restless:
        typer.echo(f"not kept: {OTHER_WORK.format(limits.load)}")
    else:
        typer.echo(f"kept in {kept}; figures of loads within {1 - calibrate.CLOSE:.0%} of it are called lower bounds")


def _taken_out(words: list[str], name: str) -> tuple[str | None, list[str]]:
    """The value of an option that is ours, and the words without it."""
    from ..contract import BadInput

    rest: list[str] = []
    found = None
    left = list(words)
    while left:
        word = left.pop(0)
        if word == name:
            if not left:
                raise BadInput(f"{name} wants names, such as wrk,h2load")
            found = left.pop(0)
        elif word.startswith(f"{name}="):
            found = word.partition("=")[2]
        else:
            rest.append(word)
    return found, rest


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@app.command(context_settings=PASSED_ON)
def agent(words: Words = None) -> None:
    """Serve the control protocol: what runs inside bays."""
    _become("agent", words)


@app.command(context_settings=PASSED_ON)
def relay(words: Words = None) -> None:
    """One port for many agents that register there (agent --join HOST:PORT)."""
    _become("relay", words)


app.command()(coordinator)


@app.command(context_settings=PASSED_ON)
def null(words: Words = None) -> None:
    """Answer as fast as can be: a server to measure the generator itself against."""
    _become("null", words)
