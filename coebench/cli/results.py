"""`coebench derive`, `verify`, `diff`, `history` and `export`: runs that lie on a disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..contract import Scenario

RunPath = Annotated[Path, typer.Argument(help="A run folder, or a .zip or .tar.gz of one.", show_default=False)]


def scenarios() -> Mapping[str, Scenario]:
    """All scenarios that are installed, by name; a broken one is said and left out."""
    from .. import plugins
    from ..contract import BadInput

    found = {}
    for name in plugins.names("scenarios"):
        try:
            found[name] = plugins.load("scenarios", name, "scenario")()
        except BadInput as e:
            print(f"coebench: {e}", file=sys.stderr)
    return found


def derive(
    run: RunPath,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the result there, the run is left as it is.")
    ] = None,
) -> None:
    """Make a run's result and its histograms anew, from what was observed and nothing else.

    Says what is different now. An archive is not written to: give --output.
    """
    from ..contract import BadInput
    from ..results import derive as deriving
    from ..results import folder, model, verify

    recorded = folder.read(run)
    if output is None and not run.is_dir():
        raise BadInput(f"{run} is an archive, which derive does not write to: give --output FILE")
    old = folder.read_result(run)
    new = deriving.derive_recorded(recorded, scenarios())
    target = output or run / folder.RESULT
    try:
        folder.write_atomic(target, model.encode(new))
        bad = folder.write_histograms(run, recorded.observations) if output is None else []
        if output is None and (run / folder.SUMS).exists():
            folder.seal(run, lambda name: name == folder.RESULT or name.startswith(f"{folder.HISTOGRAMS}/"))
    except OSError as e:
        raise BadInput(f"can't write {e.filename or target}: {e.strerror}") from None
    for text in (*new.warnings, *bad):
        typer.echo(f"warning: {_clean(text)}", err=True)
    differing = ["there was none"] if old is None else verify.differences(old, new)
    typer.echo(f"{_clean(str(target))}: {len(new.metrics)} rows of {len(new.trials)} trials")
    for text in differing:
        typer.echo(f"  {_clean(text)}")
    if not differing:
        typer.echo("  the same as before")


def verify(
    run: RunPath,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check that a run is whole: its schema, its checksums, that every request is accounted for, that the result follows.

    Exit code: 0 all in order, 1 something is not (each is named), 2 it is no run, or one of a newer coebench.
    """
    import msgspec

    from ..results import verify as verifying

    found = verifying.verify(run, scenarios())
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        for f in found.findings:
            typer.echo(f"{'WRONG' if f.wrong else 'ok   '} {f.check:<15} {_clean(f.text)}")
        if found.digest:
            typer.echo(f"SHA256SUMS itself: {found.digest}")
        bad = sum(f.wrong for f in found.findings)
        typer.echo(f"{_clean(str(run))}: " + ("in order" if found.ok else f"{bad} thing{'s' * (bad > 1)} wrong"))
    raise typer.Exit(0 if found.ok else 1)


def diff(
    a: Annotated[
        Path, typer.Argument(help="The run from before: a folder, an archive, or a file that --json wrote.", show_default=False)
    ],
    b: Annotated[Path, typer.Argument(help="The run to be judged.", show_default=False)],
    match: Annotated[
        list[str] | None,
        typer.Option(
            help="OLD=NEW: which subject of the second run is which of the first, where names differ.", show_default=False
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(callback=finite, help="In per cent: what differs by less for certain is the same.")
    ] = 10.0,
    anyway: Annotated[bool, typer.Option("--anyway", help="Compare runs although settings or machines differ.")] = False,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="End with 3 if this is so: worse, 'worse(swarm.*)', 'ratio(k8s.deploy.all_answer) > 1.1'.", show_default=False
        ),
    ] = None,
    format: Annotated[str, typer.Option("--format", help="terminal, markdown or json.")] = "terminal",
) -> None:
    """Compare two runs, figure by figure: better, worse, same, or not to be told.

    Runs that were asked different things, or on different machines, are refused: the line that differs is named.
    Exit code: 0, 2 the runs can't be compared, 3 what --fail-if names is so.
    """
    import msgspec

    from ..contract import BadInput
    from ..report import compared
    from ..results import comparable, gates
    from ..results import derive as deriving
    from ..results import diff as diffing
    from .compare import told

    if format not in ("terminal", "markdown", "json"):
        raise BadInput(f"unknown format '{format}'; known: terminal, markdown, json")
    if not 0 < margin < 1000:
        raise BadInput(f"--margin {margin:g}: per cent above 0")
    conditions = [gates.parse(text) for text in fail_if or ()]
    pairs = {}
    for text in match or ():
        one, equals, other = text.partition("=") if text.count("=") == 1 else _halves(text)
        if not (equals and one and other):
            raise BadInput(f"--match {text}: write OLD=NEW")
        pairs[one] = other
    known = scenarios()
    found = diffing.diff(
        deriving.load(a, known),
        deriving.load(b, known),
        comparable.manifest(a),
        comparable.manifest(b),
        match=pairs,
        margin=margin / 100,
        anyway=anyway,
    )
    found = msgspec.structs.replace(found, gates=diffing.judge(conditions, found, gates.shorts(known)))
    if format == "json":
        typer.echo(diffing.encode(found).decode(), nl=False)
    elif format == "markdown":
        typer.echo("\n".join(compared.markdown(found)))
    else:
        compared.terminal(found, sys.stdout)
    if code := told(found.gates):
        raise typer.Exit(code)


def _halves(text: str) -> tuple[str, str, str]:
    """A pair of names that hold '=' themselves (k8s:timeouts=stock=k8s:timeouts=harmonised): the middle one parts them."""
    words = text.split("=")
    middle = len(words) // 2
    return "=".join(words[:middle]), "=" if len(words) % 2 == 0 else "", "=".join(words[middle:])


def history(
    folder: Annotated[Path, typer.Argument(help="Where run folders, archives of them or files of --json lie.")] = Path("runs"),
    metric: Annotated[
        str | None,
        typer.Option(help="Which figure: swarm.deploy.all_answer[instances=10]; * stands for anything.", show_default=False),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All figures, not the first of each scenario alone.")] = False,
    margin: Annotated[
        float, typer.Option(callback=finite, help="In per cent: what differs by less for certain is the same.")
    ] = 10.0,
    format: Annotated[str, typer.Option("--format", help="terminal, markdown, csv or json.")] = "terminal",
) -> None:
    """Show how figures moved over many runs. Each run is compared with the one before it, where the two can be."""
    from ..contract import BadInput
    from ..report import past
    from ..results import history as histories

    if format not in ("terminal", "markdown", "csv", "json"):
        raise BadInput(f"unknown format '{format}'; known: terminal, markdown, csv, json")
    found = histories.history(folder, scenarios(), metric or "", margin / 100, every)
    if format == "json":
        typer.echo(histories.encode(found).decode(), nl=False)
    elif format == "markdown":
        typer.echo("\n".join(past.markdown(found)))
    elif format == "csv":
        past.table(found, sys.stdout)
    else:
        past.terminal(found, sys.stdout)


def export(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or .zip or .tar.gz of them.", show_default=False)],
    to: Annotated[Path, typer.Option(help="The folder to write into; it is made if it isn't there.")] = Path("export"),
    format: Annotated[str, typer.Option("--format", help="csv, parquet, openmetrics, hgrm; with commas between.")] = "csv",
) -> None:
    """Write figures as files for other programs: tables of metrics, samples and trials, and percentile distributions."""
    from ..report import export as exporting
    from ..results import derive as deriving

    formats = [f.strip() for f in format.split(",")]
    exporting.check(formats)
    known = scenarios()
    results = [deriving.load(run, known) for run in runs]
    for path in exporting.export(results, runs, formats, to):
        typer.echo(path)


def _clean(text: str) -> str:
    from ..report.words import clean

    return clean(text)
