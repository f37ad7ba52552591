"""A result as flat tables, for spreadsheets and data frames: one row a cell, one row a sample, one row a trial.

Columns have the same types in every row, so each table is CSV or Parquet as it stands; what is not known is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .model import MetricResult, Result

KINDS: Mapping[str, Mapping[str, type]] = {
    "metrics": {
        "run": str, "started": str, "scenario": str, "metric": str, "unit": str, "better": str, "claim_of": str,
        "setting": str, "subject": str, "coe": str, "engine": str, "version": str, "median": float, "low": float,
        "high": float, "level": float, "above": float, "mad": float, "n": int, "censored": int, "failed": int,
        "timed_out": int, "skipped": int, "best": bool, "lower_bound": str, "limited": str, "unstable": str,
    },
    "samples": {
        "run": str, "started": str, "scenario": str, "metric": str, "unit": str, "better": str, "claim_of": str,
        "setting": str, "subject": str, "coe": str, "engine": str, "version": str, "trial": str, "block": int,
        "value": float, "censored": bool, "limited": bool,
    },
    "trials": {
        "run": str, "started": str, "trial": str, "block": int, "scenario": str, "subject": str, "coe": str, "engine": str,
        "version": str, "status": str, "reason": str, "seconds": float,
    },
}  # fmt: skip


def columns(kind: str, results: Sequence[Result]) -> dict[str, type]:
    """The columns of a table and their types: those of its kind, then `factor.NAME` for each factor that any row has.

    A factor's column is of numbers where all its values are numbers, else of text.
    """
    out = dict(KINDS[kind])
    if kind != "trials":
        values: dict[str, list[Any]] = {}
        for r in results:
            for m in r.metrics:
                for k, v in m.factors.items():
                    values.setdefault(k, []).append(v)
        for k, found in values.items():
            numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in found)
            out[f"factor.{k}"] = (int if all(isinstance(v, int) for v in found) else float) if numbers else str
    return out


def rows(kind: str, results: Sequence[Result]) -> Iterator[dict[str, Any]]:
    """The rows of a table, with `columns` as keys, in the order of the runs, then of the result."""
    make: Callable[[Result], Iterator[dict[str, Any]]] = {"metrics": _metrics, "samples": _samples, "trials": _trials}[kind]
    types = columns(kind, results)
    for r in results:
        for row in make(r):
            yield {k: None if row.get(k) is None else t(row[k]) for k, t in types.items()}


def _about(r: Result, subject: str) -> dict[str, Any]:
    bay = r.bays.get(subject)
    own = {"coe": bay.coe, "engine": bay.engine, "version": bay.version} if bay else {"coe": "", "engine": "", "version": ""}
    return {"run": r.run.id, "started": r.run.started, "subject": subject, **own}


def _row(r: Result, m: MetricResult, subject: str) -> dict[str, Any]:
    return {
        **_about(r, subject),
        "scenario": m.scenario,
        "metric": m.name,
        "unit": m.unit,
        "better": m.better.value,
        "claim_of": m.claim_of,
        "setting": ",".join(f"{k}={v}" for k, v in m.factors.items()),
        **{f"factor.{k}": v for k, v in m.factors.items()},
    }


def _metrics(r: Result) -> Iterator[dict[str, Any]]:
    for m in r.metrics:
        for subject, v in m.values.items():
            figures = {
                k: getattr(v, k)
                for k in ("median", "low", "high", "level", "above", "mad", "n", "censored", "failed", "timed_out", "skipped")
            }
            yield {
                **_row(r, m, subject),
                **figures,
                "best": m.best == subject,
                "lower_bound": v.lower_bound or "",
                "limited": v.limited or "",
                "unstable": v.unstable or "",
            }


def _samples(r: Result) -> Iterator[dict[str, Any]]:
    for m in r.metrics:
        for subject, v in m.values.items():
            for s in v.samples:
                yield {
                    **_row(r, m, subject),
                    "trial": s.trial,
                    "block": s.block,
                    "value": s.value,
                    "censored": s.censored,
                    "limited": s.limited,
                }


def _trials(r: Result) -> Iterator[dict[str, Any]]:
    for t in r.trials:
        yield {
            **_about(r, t.subject),
            "trial": t.id,
            "block": t.block,
            "scenario": t.scenario,
            "status": t.status,
            "reason": t.reason,
            "seconds": t.seconds,
        }
