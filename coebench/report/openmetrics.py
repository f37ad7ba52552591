"""The figures as OpenMetrics text, for a Prometheus that keeps them beside its own.

https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md. Each metric is a gauge family named
`coebench_SCENARIO_METRIC_UNIT`, in base units (seconds, ratios), with the labels run, subject, coe and the factors.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, TextIO

from ..results.model import MetricResult, Result
from . import distinct
from .words import clean

_BASE = {
    "s": (1.0, "seconds"),
    "ms": (1e-3, "seconds"),
    "us": (1e-6, "seconds"),
    "min": (60.0, "seconds"),
    "%": (0.01, "ratio"),
    "1/s": (1.0, "per_second"),
    "B": (1.0, "bytes"),
    "MiB": (2.0**20, "bytes"),
    "": (1.0, ""),
    "1": (1.0, ""),
}


class OpenMetricsReporter:
    """`coebench report RUN… --format openmetrics`. Several runs are one exposition, told apart by the label `run`."""

    name: ClassVar[str] = "openmetrics"

    def render(self, result: Result, out: TextIO) -> None:
        self.render_all([result], out)

    def render_all(self, results: Sequence[Result], out: TextIO) -> None:
        distinct(results)
        families: dict[str, tuple[MetricResult, list[str]]] = {}
        taken: dict[str, str] = {"coebench_trials": ""}  # family → the metric of that name
        for r in results:
            for m in r.metrics:
                of, n = f"{m.scenario}.{m.name}", 1
                while taken.setdefault(name := family(m, n), of) != of:  # two names that are one when made fit
                    n += 1
                families.setdefault(name, (m, []))[1].extend(_samples(r, m, name))
        for name, (m, lines) in families.items():
            _, unit = _base(m.unit)
            head = [f"# TYPE {name} gauge"]
            if unit:
                head.append(f"# UNIT {name} {unit}")
            head.append(f"# HELP {name} {escaped(clean(f'{m.title}. {m.definition}'))}")
            out.writelines(f"{line}\n" for line in [*head, *lines])
        out.writelines(f"{line}\n" for line in _trials(results))
        out.write("# EOF\n")


def family(m: MetricResult, n: int = 1) -> str:
    """The family's name; its unit is its suffix, as the specification asks for. `n`: which of those that would have this name."""
    _, unit = _base(m.unit)
    name = re.sub(r"_+", "_", re.sub(r"[^a-zA-Z0-9_]", "_", f"coebench_{m.scenario}_{m.name}")).strip("_")
    name = name if n == 1 else f"{name}_{n}"
    return name if not unit or name.endswith(f"_{unit}") else f"{name}_{unit}"


def _base(unit: str) -> tuple[float, str]:
    return _BASE.get(unit, (1.0, re.sub(r"[^a-zA-Z0-9]+", "_", unit).strip("_").lower()))


def _samples(r: Result, m: MetricResult, name: str) -> Iterator[str]:
    factor, _ = _base(m.unit)
    at = _epoch(r.run.ended)
    for subject, v in m.values.items():
        bay = r.bays.get(subject)
        common = {"run": r.run.id, "subject": subject, "coe": bay.coe if bay else ""}
        # A factor can't take the place of what says which run and column it is.
        common |= {k if k not in (*common, "bound") else f"factor_{k}": str(x) for k, x in m.factors.items()}
        for bound, value in (("median", v.median), ("low", v.low), ("high", v.high)):
            if value is not None:
                yield f"{name}{labels({**common, 'bound': bound})} {_number(value * factor)}{at}"


def _trials(results: Iterable[Result]) -> Iterator[str]:
    yield "# TYPE coebench_trials gauge"
    yield "# HELP coebench_trials Trials by how they ended."
    for r in results:
        counts: dict[tuple[str, str, str], int] = {}
        for t in r.trials:
            key = (t.scenario, t.subject, t.status)
            counts[key] = counts.get(key, 0) + 1
        for (scenario, subject, status), n in counts.items():
            told = labels({"run": r.run.id, "scenario": scenario, "subject": subject, "status": status})
            yield f"coebench_trials{told} {n}{_epoch(r.run.ended)}"


def labels(values: Mapping[str, str]) -> str:
    """`{name="value",…}` with names made fit and values escaped."""
    pairs: dict[str, str] = {}
    for k, v in values.items():
        name = re.sub(r"[^a-zA-Z0-9_]", "_", k)
        name = name if not name[:1].isdigit() else f"_{name}"
        while name in pairs:  # two names that are one when made fit
            name += "_"
        pairs[name] = escaped(v)
    return "{" + ",".join(f'{k}="{v}"' for k, v in pairs.items()) + "}"


def _number(value: float) -> str:
    """As the format writes it."""
    if math.isfinite(value):
        return f"{value:.9g}"
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


def escaped(text: str) -> str:
    """As the text format has it: backslash, quote, and line ends."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _epoch(iso: str) -> str:
    try:
        return f" {datetime.datetime.fromisoformat(iso).timestamp():.3f}"
    except ValueError:
        return ""
