"""`coebench explain`: what a figure means."""

from __future__ import annotations

import textwrap
from typing import Annotated

import typer

from .complete import metric_names

BETTER = {"lower": "lower is better", "higher": "higher is better", "neither": "neither is better"}


def explain(
    metric: Annotated[
        str,
        typer.Argument(
            help="A metric, a scenario, or SCENARIO.METRIC; all if none is named.",
            show_default=False,
            autocompletion=metric_names,
            metavar="[METRIC]",
        ),
    ] = "",
) -> None:
    """Say what a metric measures, in which unit, and which way is better."""
    from .. import api, plugins

    found = api.metrics(metric)
    last = ""
    for full, m in found.items():
        scenario = full.partition(".")[0]
        if scenario != last:
            question = plugins.load("scenarios", scenario, "scenario").question
            typer.echo(f"{scenario}: {question}\n" if last == "" else f"\n{scenario}: {question}\n")
            last = scenario
        typer.echo(f"  {full}  [{m.unit}, {BETTER[m.better.value]}]  {m.title}")
        if len(found) <= 5 or metric:
            typer.echo(textwrap.indent(textwrap.fill(m.definition, 100), "      "))
            if m.claim_of:
                typer.echo(f"      The engine's own account of {scenario}.{m.claim_of}, recorded beside it.")
