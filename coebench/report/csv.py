"""The figures for a spreadsheet: one line a row of the table and a column of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, ClassVar, TextIO

from ..results import flat
from ..results.model import Result
from .words import clean

# What a spreadsheet would take for a formula, when a run's names begin with it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write(kind: str, results: Sequence[Result], out: TextIO) -> None:
    """A table of `flat` as CSV (RFC 4180, but lines end as on Unix): a header, then a line a row; what isn't known is empty."""
    types = flat.columns(kind, results)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_text(name) for name in types)
    for row in flat.rows(kind, results):
        writer.writerow(cell(v) for v in row.values())


def text(kind: str, results: Sequence[Result]) -> str:
    """As `write`, returned."""
    out = io.StringIO()
    write(kind, results, out)
    return out.getvalue()


def cell(value: Any) -> Any:
    """A value as a cell: nothing for None, and no formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    value = clean(value)  # a carriage return would be a new line to a spreadsheet
    return f"'{value}" if value.startswith(_FORMULA) else value


class CsvReporter:
    """`coebench report RUN… --format csv`: medians with their intervals, one line each. Several runs are one table."""

    name: ClassVar[str] = "csv"
    kind: ClassVar[str] = "metrics"

    def render(self, result: Result, out: TextIO) -> None:
        self.render_all([result], out)

    def render_all(self, results: Sequence[Result], out: TextIO) -> None:
        write(self.kind, results, out)


class SamplesReporter(CsvReporter):
    """`--format csv-samples`: one line a trial's value."""

    name: ClassVar[str] = "csv-samples"
    kind: ClassVar[str] = "samples"
