"""The same figure over many runs: how it moved, where it jumped, and which runs can't be set beside the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..contract import BadInput, Better, Scenario
from . import comparable, derive, diff, files, gates, stats
from .model import MetricResult, Result, Values

SCHEMA = "coebench.history/1"
LEAST = 5  # values from which a trend may be called one: with four, even the clearest has p = 0.08


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One run's value. `verdict`: against the point before it that it can be compared with; empty where there is none.
    `reason`: why that verdict; `barred`: the line that keeps this run from being compared with the one before it."""

    run: str
    path: str
    started: str
    version: str  # of the engine
    value: Values
    ratio: float | None = None
    verdict: str = ""
    reason: str = ""
    barred: str = ""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One cell over the runs, oldest first. `tau`, `p`: Kendall's, of the medians of the last stretch of comparable runs;
    `trend`: "better", "worse", or empty where p is above 0.05 or there are less than five."""

    subject: str
    scenario: str
    name: str
    title: str
    unit: str
    better: Better
    factors: Mapping[str, str | int | float] = {}
    points: tuple[Point, ...] = ()
    tau: float | None = None
    p: float | None = None
    trend: str = ""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """`skipped`: what lay in the folder and could not be read, each a sentence."""

    schema: str = SCHEMA
    folder: str
    runs: int
    series: tuple[Series, ...] = ()
    skipped: tuple[str, ...] = ()


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the folder."""

    path: Path
    result: Result
    manifest: Mapping[str, Any]


def runs(where: Path, scenarios: Mapping[str, Scenario]) -> tuple[list[Loaded], list[str]]:
    """The runs that lie in a folder, the oldest first, and what can't be read, each a sentence. Raises BadInput if it is none.

    A run that is there as a folder and packed is taken once.
    """
    if not where.is_dir():
        raise BadInput(f"{where} is no folder")
    if (where / files.MANIFEST).exists():
        raise BadInput(f"{where} is one run: give the folder in which the runs lie")
    found: dict[tuple[str, str], Loaded] = {}
    skipped: list[str] = []
    for path in sorted(where.iterdir(), key=lambda p: (not p.is_dir(), p.name)):
        if not ((path / files.MANIFEST).is_file() or (path.is_file() and (files.is_archive(path) or path.suffix == ".json"))):
            continue
        try:
            result = derive.load(path, scenarios)
        except BadInput as e:
            skipped.append(f"{path.name}: {e}")
            continue
        if not any(v.n for m in result.metrics for v in m.values.values()) and result.warnings:
            skipped.append(f"{path.name}: {result.warnings[0]}")
        loaded = Loaded(path=path, result=result, manifest=comparable.manifest(path))
        found.setdefault((result.run.id, result.run.started), loaded)
    return sorted(found.values(), key=lambda r: (r.result.run.started, r.result.run.id)), skipped


def history(
    where: Path, scenarios: Mapping[str, Scenario], metric: str = "", margin: float = diff.MARGIN, every: bool = False
) -> History:
    """The figures of the runs in a folder. `metric`: which, as a gate names it (swarm.deploy.all_answer, with * and [setting]);
    without, the first metric of each scenario at its last setting, or with `every` all of them. Raises BadInput."""
    loaded, skipped = runs(where, scenarios)
    if not loaded:
        raise BadInput(f"no run lies in {where}" + (f"; {skipped[0]}" if skipped else ""))
    keep = _chosen(loaded, metric, every, gates.shorts(scenarios))
    cells: dict[tuple[Any, ...], list[tuple[Loaded, MetricResult]]] = {}
    for run in loaded:
        for m in run.result.metrics:
            for subject in m.values:
                if m.better is not Better.NEITHER and keep(subject, m):
                    cells.setdefault((subject, m.scenario, m.name, m.unit, tuple(m.factors.items())), []).append((run, m))
    series = tuple(_series(key[0], rows, margin) for key, rows in cells.items())
    return History(folder=str(where), runs=len(loaded), series=series, skipped=tuple(skipped))


def _chosen(loaded: Sequence[Loaded], metric: str, every: bool, short: gates.Shorts) -> Callable[[str, MetricResult], bool]:
    if every and not metric:
        return lambda subject, m: not m.claim_of
    if metric:
        condition = gates.parse(f"{metric} > 0")
        if condition.function != "median":
            raise BadInput(f"'{metric}': name a metric, such as swarm.deploy.all_answer")
        hits: set[tuple[Any, ...]] = set()
        error: BadInput | None = None
        for run in loaded:  # a metric that some of the runs have is good enough
            try:
                hits |= {_cell(s, m) for s, m in gates.matching(condition, run.result.metrics, short)}
            except BadInput as e:
                error = e
        if not hits:
            raise BadInput(str(error).replace(f"--fail-if '{condition.text}", f"'{metric}"))
        return lambda subject, m: _cell(subject, m) in hits
    # Of each scenario its first metric, at the setting that most runs have; of those the last, which asks most.
    first: dict[str, str] = {}
    settings: dict[str, dict[Any, int]] = {}
    for run in reversed(loaded):
        for m in run.result.metrics:
            if not m.claim_of and m.better is not Better.NEITHER and first.setdefault(m.scenario, m.name) == m.name:
                counts = settings.setdefault(m.scenario, {})
                key = tuple(m.factors.items())
                counts[key] = counts.get(key, 0) + 1
    heads = {s: max(enumerate(counts.items()), key=lambda x: (x[1][1], x[0]))[1][0] for s, counts in settings.items()}
    return lambda subject, m: first.get(m.scenario) == m.name and heads[m.scenario] == tuple(m.factors.items())


def _cell(subject: str, m: MetricResult) -> tuple[Any, ...]:
    return subject, m.scenario, m.name, tuple(m.factors.items())


def _series(subject: str, rows: Sequence[tuple[Loaded, MetricResult]], margin: float) -> Series:
    points: list[Point] = []
    stretch: list[float] = []  # medians since the last run that could not be compared with the one before it
    before: tuple[Loaded, MetricResult] | None = None
    last = rows[-1][1]
    for run, m in rows:
        bay = run.result.bays.get(subject)
        point = Point(
            run=run.result.run.id,
            path=run.path.name,
            started=run.result.run.started,
            version=bay.version if bay else "",
            value=msgspec.structs.replace(m.values[subject], samples=()),
        )
        if before is not None:
            point = _against(point, before, (run, m), subject, margin)
        if point.barred:
            stretch = []
        if (median := m.values[subject].median) is not None:
            stretch.append(median)
        points.append(point)
        before = (run, m)
    found = stats.trend(stretch)
    sure = len(stretch) >= LEAST and found.p <= 1 - stats.LEVEL
    good = (found.tau < 0) == (last.better is Better.LOWER)
    return Series(
        subject=subject,
        scenario=last.scenario,
        name=last.name,
        title=last.title,
        unit=last.unit,
        better=last.better,
        factors=last.factors,
        points=tuple(points),
        tau=found.tau if math.isfinite(found.tau) else None,
        p=found.p if math.isfinite(found.tau) else None,
        trend="" if not sure else diff.BETTER if good else diff.WORSE,
    )


def _against(
    point: Point, before: tuple[Loaded, MetricResult], now: tuple[Loaded, MetricResult], subject: str, margin: float
) -> Point:
    (a, ma), (b, mb) = before, now
    found = comparable.differences(a.result, b.result, a.manifest, b.manifest, {subject: subject})
    barred = [d for d in found if d.bars and d.scenario in ("", mb.scenario)]
    if barred:
        return msgspec.structs.replace(point, barred=str(barred[0]))
    [change] = diff.row(ma, mb, {subject: subject}, margin)
    return msgspec.structs.replace(point, ratio=change.ratio, verdict=change.verdict, reason=change.reason)


def encode(h: History) -> bytes:
    """As JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(h), indent=2) + b"\n"
