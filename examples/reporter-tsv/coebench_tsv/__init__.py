"""One line a figure: scenario, metric, factors, column, median, low, high, unit, n."""

from __future__ import annotations

from typing import ClassVar, TextIO

from coebench.results.model import Result


class TsvReporter:
    """Reads a result and writes; it measures nothing and gives nothing back."""

    name: ClassVar[str] = "tsv"

    def render(self, result: Result, out: TextIO) -> None:
        out.write("\t".join(("scenario", "metric", "factors", "column", "median", "low", "high", "unit", "n")) + "\n")
        for m in result.metrics:
            factors = ",".join(f"{k}={v}" for k, v in m.factors.items())
            for column, v in m.values.items():
                figures = ("" if x is None else f"{x:.6g}" for x in (v.median, v.low, v.high))
                out.write("\t".join((m.scenario, m.name, factors, column, *figures, m.unit, str(v.n))) + "\n")
