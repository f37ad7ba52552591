"""Readers of a result, and nothing more: a report measures nothing, decides nothing and gives nothing back.

`table` turns a result into rows, sentences and footnotes in plain text; `terminal` and `markdown` set those, `json` prints
the model itself. `plots` makes figures of a result and of what was recorded; `html` and `pictures` show them. `progress` is the
display of a run under way, `live` has the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Protocol, TextIO, runtime_checkable

from ..contract import Observation
from ..results.model import Result


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
