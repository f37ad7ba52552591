"""`coebench compare`, `plan` and `report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import complete
from .asked import Asked, shared
from .bay import OsCloud, name_cloud

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..hooks import Outcome, TrialInfo
    from ..results.gates import Condition, Shorts
    from ..results.model import Gate, Result
    from ..runner.run import Run
    from ..scenarios.slo import Slo

FailIf = Annotated[
    list[str] | None,
    typer.Option(
        help="End with 3 if this is so: 'swarm.deploy.all_answer > 20s'. May be given more than once.", show_default=False
    ),
]


@shared
def compare(
    asked: Asked,
    os_cloud: OsCloud = None,
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    fail_if: FailIf = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result, alone, as JSON on standard output.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Show instances, requests and latency as they happen.")] = False,
    live_web: Annotated[
        int | None, typer.Option("--live-web", metavar="PORT", help="The same as a page on 127.0.0.1; 0: any free port.")
    ] = None,
    serve_metrics: Annotated[
        int | None, typer.Option("--serve-metrics", metavar="PORT", help="OpenMetrics on 127.0.0.1; 0: any free port.")
    ] = None,
) -> None:
    """Put the same workload on each COE, by turns, and print the table.

    Exit code: 0 all measured, 1 some trial failed (the table says which and why), 2 bad input, 3 what --fail-if names is so or
    the objective of --slo was met at no rate, 130 interrupted.
    """
    from ..results import gates
    from ..runner.run import Interrupted, Run
    from ..scenarios.slo import Slo
    from . import output as outputs
    from .live import following

    name_cloud(os_cloud)
    effective = asked.effective()
    conditions = [gates.parse(text) for text in fail_if or ()]
    slo = Slo.parse(asked.slo) if asked.slo is not None else None
    first = _FirstBlock()
    command = ["coebench", *sys.argv[1:]]
    with following(live, live_web, serve_metrics) as listeners:
        run = Run(effective, runs, command, [*listeners, first], lambda text: print(text, file=sys.stderr, flush=True))
        first.run = run
        metrics = {n: s.metrics for n, s in run.scenarios.items()}
        short = gates.shorts(run.scenarios)
        gates.check(conditions, [s.name for s in effective.subjects], metrics, effective.settings, short)
        try:
            result = run.execute()
        except Interrupted:
            interrupted = True
        else:
            interrupted = False
    if interrupted:
        folder = getattr(run, "folder", None)
        print(f"coebench: interrupted; what was seen is in {folder}, the bays are gone", file=sys.stderr)
        raise typer.Exit(130)
    result = gated(result, conditions, short, slo, strict=False)
    outputs.render([result], [run.folder], "json" if json else "terminal", sys.stdout)
    print(f"run folder: {run.folder}", file=sys.stderr)
    raise typer.Exit(told(result.gates) or (0 if result.measured else 1))


class _FirstBlock:
    """Shows the table of the first block while the others run: figures without verdicts, minutes before the end."""

    run: Run

    def __init__(self) -> None:
        from ..hooks import hookimpl  # here, not above: pluggy is nothing that `--help` should wait for

        hookimpl(type(self).trial_ended)

    def trial_ended(self, trial: TrialInfo, outcome: Outcome) -> None:
        plan = self.run.plan
        per_block = len(plan.subjects) * len(self.run.scenarios)
        if plan.blocks > 1 and trial.position == per_block:
            from ..report.terminal import TerminalReporter
            from ..results import derive

            print(f"\nafter block 1 of {plan.blocks}:", file=sys.stderr)
            TerminalReporter(brief=True).render(derive.derive(self.run.folder, self.run.scenarios), sys.stderr)


@shared
def plan(asked: Asked) -> None:
    """Print the effective plan as TOML, fit for --plan, and run nothing."""
    import msgspec

    effective = asked.effective()
    typer.echo(msgspec.toml.encode(_without_none(msgspec.to_builtins(effective))).decode(), nl=False)


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, .zip or .tar.gz of them, or files that --json wrote.")],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="terminal, markdown, html, github, json, csv, csv-samples, openmetrics, junit, svg or png.",
            autocompletion=complete.reporter_names,
        ),
    ] = "terminal",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write there: a file; with svg and png a folder, for a picture of each plot."),
    ] = None,
    theme: Annotated[str, typer.Option(help="Of pictures: light or dark.")] = "light",
    fail_if: FailIf = None,
    slo: Annotated[
        str | None,
        typer.Option("--slo", help="End with 3 if a subject did not meet it: 'p99<20ms,errors<0.1%'", show_default=False),
    ] = None,
) -> None:
    """Print the report of runs again, or write it: as a page, as pictures, or in another format.

    Exit code: 0, or 3 if what --fail-if names is so or the objective of --slo was not met.
    """
    from ..results import derive, gates
    from ..scenarios.slo import Slo
    from . import output as outputs
    from .results import scenarios

    outputs.check(len(runs), format, output, theme)

    conditions = [gates.parse(text) for text in fail_if or ()]
    known = scenarios()
    short = gates.shorts(known)
    objective = Slo.parse(slo) if slo is not None else None
    results = [gated(derive.load(run, known), conditions, short, objective) for run in runs]
    outputs.write(runs, results, format, output, theme)
    if code := told([g for r in results for g in r.gates]):
        raise typer.Exit(code)


def gated(result: Result, conditions: list[Condition], short: Shorts, slo: Slo | None = None, *, strict: bool = True) -> Result:
    """The result with what became of the conditions; `strict` raises BadInput for one that it has no row for."""
    import msgspec

    from ..results import gates, objective

    judged = gates.judge(conditions, result, strict=strict, short=short) if conditions else ()
    if slo is not None:
        judged = (*judged, objective.judge(slo, result, strict=strict))
    return msgspec.structs.replace(result, gates=judged) if judged else result


def told(gates: Sequence[Gate]) -> int:
    """Say on standard error what became of gates; returns 3 if one failed, else 0."""
    from ..report.words import clean

    for g in gates:
        print(f"{'passed' if g.passed else 'FAILED'}  {clean(g.text)}: {clean(g.reason)}", file=sys.stderr)
    return 0 if all(g.passed for g in gates) else 3


def _without_none(value: Any) -> Any:
    """TOML has no null: what is not set is left out."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value
