"""Readers of a result, and nothing more: a report measures nothing, decides nothing and gives nothing back.

`table` turns a result into rows, sentences and footnotes in plain text; `terminal` and `markdown` set those, `json` prints
the model itself. `progress` is the display of a run under way.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, TextIO

from ..results.model import Result


class Reporter(Protocol):
    """One output format; the entry points of the group `coebench.reporters` name classes that can be made without
    arguments. One that can set several runs has `render_all(results, out)` as well."""

    name: ClassVar[str]  # what `--format` takes

    def render(self, result: Result, out: TextIO) -> None:
        """Write the whole report. `out` is open for text; it is not closed."""
