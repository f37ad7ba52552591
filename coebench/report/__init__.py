"""Readers of a result, and nothing more: a report measures nothing, decides nothing and gives nothing back.

`table` turns a result into rows, sentences and footnotes in plain text; `terminal` and `markdown` set those, `json` prints
the model itself. `plots` makes figures of a result and of what was recorded; `html` and `pictures` show them. `progress` is the
display of a run under way, `live` has the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, TextIO, runtime_checkable

from ..contract import BadInput, Observation
from ..results.model import Result


def distinct(results: Sequence[Result]) -> None:
    """Raise BadInput if one run is there twice: its rows would count twice, and nothing would tell them apart."""
    seen: set[str] = set()
    for r in results:
        if r.run.id in seen:
            raise BadInput(f"run {r.run.id} is given twice, so its figures would count twice: give each run once")
        seen.add(r.run.id)


class Reporter(Protocol):
    """One output format; the entry points of the group `coebench.reporters` name classes that can be made without
    arguments. One that can set several runs has `render_all(results, out)` as well."""

    name: ClassVar[str]  # what `--format` takes

    def render(self, result: Result, out: TextIO) -> None:
        """Write the whole report. `out` is open for text; it is not closed."""


@runtime_checkable
class RunReporter(Reporter, Protocol):
    """A format that also shows what was recorded: it is given the observations where there is a run folder."""

    def render_run(self, result: Result, observations: Iterable[Observation], out: TextIO) -> None:
        """As `render`. The observations are read through once."""


@runtime_checkable
class RunsReporter(RunReporter, Protocol):
    """One that can do so for several runs."""

    def render_runs(self, runs: Iterable[tuple[Result, Iterable[Observation]]], out: TextIO) -> None:
        """As `render_run`, all in one."""
