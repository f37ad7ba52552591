"""`coebench derive`, `verify` and `export`: runs that lie on a disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
        typer.echo(f"warning: {text}", err=True)
    differing = ["there was none"] if old is None else verify.differences(old, new)
    typer.echo(f"{target}: {len(new.metrics)} rows of {len(new.trials)} trials")
    for text in differing:
        typer.echo(f"  {text}")
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
