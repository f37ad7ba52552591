"""A run's figures as files for other programs: CSV, Parquet, OpenMetrics, percentile distributions."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract import BadInput
from ..results import files, flat, folder, histograms
from ..results.model import Result
from . import csv, distinct
from .openmetrics import OpenMetricsReporter

if TYPE_CHECKING:
    from hdrh.histogram import HdrHistogram

FORMATS = ("csv", "parquet", "openmetrics", "hgrm")


def check(formats: Sequence[str]) -> None:
    """Raise BadInput for an unknown format, or for one whose package isn't there."""
    for f in formats:
        if f not in FORMATS:
            raise BadInput(f"unknown format '{f}'; known: {', '.join(FORMATS)}")
    if "parquet" in formats:
        _arrow()


def export(results: Sequence[Result], runs: Sequence[Path], formats: Sequence[str], to: Path) -> list[Path]:
    """Write the files into the folder `to`, which is made if need be; returns them. `runs`: where each result is from.

    csv, parquet: metrics, samples and trials, each of all runs. openmetrics: metrics.om. hgrm: one percentile distribution
    for each run, subject and quantity, of the histograms of all its trials, merged. Raises BadInput as `check` does, and
    if `to` can't be written to.
    """
    check(formats)
    distinct(results)
    made: list[Path] = []
    try:
        to.mkdir(parents=True, exist_ok=True)
        for f in formats:
            for name, data in _FILES[f](results, runs):
                folder.write_atomic(to / name, data)
                made.append(to / name)
    except OSError as e:
        raise BadInput(f"can't write {e.filename or to}: {e.strerror}") from None
    return made


def _csv(results: Sequence[Result], runs: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for kind in flat.KINDS:
        yield f"{kind}.csv", csv.text(kind, results).encode()


def _parquet(results: Sequence[Result], runs: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    pa, pq = _arrow()
    types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    for kind in flat.KINDS:
        schema = pa.schema([(name, types[t]) for name, t in flat.columns(kind, results).items()])
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(flat.rows(kind, results)), schema=schema), out)
        yield f"{kind}.parquet", out.getvalue()


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BadInput("Parquet needs the package pyarrow (pip install 'coebench[parquet]')") from None
    return pyarrow, pyarrow.parquet


def _openmetrics(results: Sequence[Result], runs: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    out = io.StringIO()
    OpenMetricsReporter().render_all(results, out)
    yield "metrics.om", out.getvalue().encode()


def _hgrm(results: Sequence[Result], runs: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    for result, path in zip(results, runs, strict=True):
        if not (path.is_dir() or files.is_archive(path)):
            raise BadInput(f"{path} holds a result alone: histograms are in a run folder")
        subjects = {t.id: t.subject for t in result.trials}
        for name, merged in merged_histograms(folder.read(path), subjects).items():
            prefix = f"{result.run.id}." if len(results) > 1 else ""
            yield f"{prefix}{name}.hgrm", histograms.distribution(merged).encode()


def merged_histograms(recorded: folder.Recorded, subjects: Mapping[str, str]) -> dict[str, HdrHistogram]:
    """SUBJECT.SCENARIO.WHAT → the histograms of all trials of it, added. `subjects`: trial → subject.

    Seconds are left out: the load that they are of has a histogram of its own. So are loads that the scenario discarded.
    """
    scenarios = {line.trial.id: line.trial.scenario for line in recorded.trials}
    out: dict[str, HdrHistogram] = {}
    for o in recorded.observations:
        if o.trial not in subjects or o.name.endswith(".second") or o.data.get("discarded"):
            continue
        for found in histograms.find(o):
            try:
                h = histograms.decode(found.text)
            except ValueError:
                continue  # `verify` names it
            name = histograms.safe(f"{subjects[o.trial]}.{scenarios.get(o.trial, '')}.{found.what}")
            if name in out:
                out[name].add(h)
            else:
                out[name] = h
    return out


_FILES = {"csv": _csv, "parquet": _parquet, "openmetrics": _openmetrics, "hgrm": _hgrm}
