"""From a recorded run to its result, and from nothing else: a run can be derived again years later.

Scenarios come in as a mapping, so this knows none of them; it knows the observations that the runner itself makes:
`bay.*`, `harness.cpu`, `load.saturated` and `warning`, and `watch.fallback`, which all that follow a watch make.
"""

from __future__ import annotations

import datetime
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ..contract import Better, Metric, Observation, Sample, Scenario
from . import folder, polled, stats
from .known import known
from .model import (
    BayResult,
    Harness,
    HostFacts,
    MetricResult,
    Noise,
    Ratio,
    Result,
    RunInfo,
    SampleValue,
    ScenarioInfo,
    TrialResult,
    Values,
)

Factors = tuple[tuple[str, str | int | float], ...]


def load(path: Path | str, scenarios: Mapping[str, Scenario]) -> Result:
    """The result of a run folder or of a file written by `--json`: the one it holds, else derived. Raises BadInput."""
    result = folder.read_result(path)
    return derive(path, scenarios) if result is None else result


def derive(run_folder: Path | str, scenarios: Mapping[str, Scenario]) -> Result:
    """The result of what `run_folder` recorded; deterministic. `scenarios`: name → scenario, for those that are known.

    A scenario that isn't known, that fails on its observations, or that breaks its contract costs its own figures and
    gives a warning; nothing else is lost. Raises BadInput if the folder is no run's, or of a newer coebench.
    """
    recorded = folder.read(run_folder)
    return derive_recorded(recorded, scenarios)


def derive_recorded(recorded: folder.Recorded, scenarios: Mapping[str, Scenario]) -> Result:
    """As `derive`, from what was read already."""
    manifest = recorded.manifest
    warnings = list(recorded.warnings)
    by_trial: dict[str, list[Observation]] = defaultdict(list)
    for o in recorded.observations:
        by_trial[o.trial].append(o)

    trials = _trials(recorded)
    bays = _bays(manifest, recorded.observations, warnings)
    for t in trials:
        bays.setdefault(t.subject, BayResult(coe=t.subject))
    seen, complete = {t.id for t in trials}, True
    stopped = next((o.data for o in recorded.observations if o.name == "run.stopped"), {})
    left_out = set(map(str, _list(stopped.get("left_out"))))
    order = tuple(i for i in map(str, _list(manifest.get("order"))) if i not in left_out)
    if missing := [i for i in order if i not in seen]:
        complete = False
        warnings.append(f"{len(missing)} of {len(order)} planned trials were never begun, from {missing[0]} on.")
    if broken := [t.id for t in trials if t.status == "interrupted"]:
        complete = False
        warnings.append(f"The run ended in the middle of {', '.join(broken)}.")

    metrics: list[MetricResult] = []
    infos: list[ScenarioInfo] = []
    for name in dict.fromkeys(t.scenario for t in trials):
        scenario = scenarios.get(name)
        mine = [t for t in trials if t.scenario == name]
        if scenario is None:
            infos.append(ScenarioInfo(name=name))
            warnings.append(f"Scenario {name} isn't known here: its {len(mine)} trials are in the folder, but not in the result.")
            continue
        infos.append(ScenarioInfo(name=name, question=scenario.question, published=tuple(getattr(scenario, "published", ()))))
        metrics += _metrics(scenario, mine, by_trial, bays, _int(manifest.get("seed")), warnings)

    warnings += _told(recorded.observations)
    times = [o.at for o in recorded.observations] + [t.at for t in recorded.trials]
    started = _time(manifest.get("started")) or (min(times) if times else 0.0)
    ended = max(times) if times else started
    return Result(
        run=RunInfo(
            id=str(manifest.get("run") or recorded.path.name),
            started=_iso(started),
            ended=_iso(ended),
            seconds=round(max(0.0, ended - started), 3),
            command=tuple(str(a) for a in _list(manifest.get("command"))),
            seed=_int(manifest.get("seed")),
            blocks=_int(stopped.get("block")) or _int(manifest.get("blocks")),
            profile=str(manifest.get("profile") or ""),
            order=order,
            complete=complete,
            folder=recorded.path.name,
            harness=_harness(recorded.observations),
            host=_dict(manifest.get("host")),
            version=str(manifest.get("version") or ""),
            noise=_noise(manifest, metrics),
            stopped=str(stopped.get("reason") or ""),
        ),
        bays=bays,
        scenarios=tuple(infos),
        metrics=tuple(metrics),
        trials=tuple(trials),
        warnings=tuple(dict.fromkeys(warnings)),
    )


# trials and bays


def _trials(recorded: folder.Recorded) -> list[TrialResult]:
    """Every trial that began or ended, in the order in which they were first seen."""
    trials: dict[str, TrialResult] = {}
    began: dict[str, float] = {}
    last: dict[str, float] = {}
    for o in recorded.observations:
        last[o.trial] = o.at
    for line in recorded.trials:
        t = line.trial
        common: dict[str, Any] = {"id": t.id, "block": t.block, "subject": t.subject, "scenario": t.scenario}
        if line.outcome is None:
            began[t.id] = line.at
            trials[t.id] = TrialResult(**common, status="interrupted", reason="the run ended before the trial did")
        else:
            out = line.outcome
            trials[t.id] = TrialResult(
                **common,
                status=out.status,
                reason=out.reason,
                seconds=round(out.seconds, 3),
                evidence=out.evidence,
                flag=out.flag,
            )
    return [
        msgspec.structs.replace(t, seconds=round(last[t.id] - began[t.id], 3))
        if t.status == "interrupted" and not t.seconds and t.id in began and t.id in last
        else t
        for t in trials.values()
    ]


def _bays(manifest: Mapping[str, Any], observations: Iterable[Observation], warnings: list[str]) -> dict[str, BayResult]:
    bays: dict[str, BayResult] = {}
    for subject in _list(manifest.get("subjects")):
        s = _dict(subject)
        if name := str(s.get("name") or s.get("coe") or ""):
            bays[name] = BayResult(coe=str(s.get("coe") or name), options=_dict(s.get("options")))
    asked: dict[str, float] = {}
    ready: dict[str, list[float]] = defaultdict(list)
    versions: dict[str, set[str]] = defaultdict(set)
    for o in observations:
        if o.name == "bay.creating":
            asked[o.trial] = o.at
        elif o.name == "bay.ready" and "bay" in o.data:
            subject = str(o.data.get("subject") or o.trial)
            bays[subject] = _bay(bays.get(subject), _dict(o.data["bay"]), _dict(o.data.get("engine")))
            versions[subject].add(bays[subject].version)
            if (at := asked.pop(o.trial, None)) is not None:
                ready[subject].append(round(o.at - at, 3))
    for subject, found in versions.items():
        if len(found) > 1:
            warnings.append(f"{subject} was of several versions in one run: {', '.join(sorted(found))}.")
    return {s: msgspec.structs.replace(b, ready=tuple(ready[s])) if ready[s] else b for s, b in bays.items()}


def _bay(known: BayResult | None, bay: Mapping[str, Any], engine: Mapping[str, Any]) -> BayResult:
    spec = _dict(bay.get("spec"))
    hosts = [_dict(h) for h in _list(bay.get("hosts"))]
    return BayResult(
        coe=str(spec.get("coe") or (known.coe if known else "")),
        engine=str(engine.get("engine") or bay.get("engine") or ""),
        version=str(engine.get("version") or bay.get("version") or ""),
        components=_strings({**_dict(bay.get("components")), **_dict(engine.get("components"))}),
        nodes=sum(h.get("role") == "node" for h in hosts),
        controls=sum(h.get("role") == "control" for h in hosts),
        hosts=tuple(
            HostFacts(
                name=str(h.get("name", "")),
                role=str(h.get("role", "")),
                cpu=_float(spec.get("cpu")) or 0.0,
                memory=_int(spec.get("memory")),
            )
            for h in hosts
        ),
        provisioner=str(bay.get("provisioner") or ""),
        options=(known.options if known else {}) or _dict(spec.get("options")),
        network=str(engine.get("network") or ""),
        baseline=engine.get("baseline") is True,
        timeout_profile=str(spec.get("timeouts") or ""),
        timeouts=_strings(_dict(bay.get("timeouts"))),
        notes=tuple(dict.fromkeys(str(n) for n in _list(bay.get("notes")))),
    )


def _harness(observations: Iterable[Observation]) -> Harness:
    found = Harness()
    for o in observations:
        if o.name == "harness.cpu":
            cores, wall = _float(o.data.get("cores")), _float(o.data.get("wall"))
            found = Harness(
                cores=cores,
                share=None if cores is None else round(100 * cores, 3),
                wall=wall,
                by_scenario=_dict(o.data.get("by_scenario")),
            )
    return found


def _told(observations: Iterable[Observation]) -> list[str]:
    """What was observed as "warning": each text once, with how often it came and where first."""
    texts: dict[str, list[str]] = defaultdict(list)
    for o in observations:
        if o.name == "warning" and (text := str(o.data.get("text") or "").strip()):
            texts[text].append(o.trial)
    return [
        (f"{where[0]}: " if where[0] else "") + text + (f" ({len(where)} times)" if len(where) > 1 else "")
        for text, where in texts.items()
    ]


# metrics


class _Saturated(NamedTuple):
    reason: str
    factors: Mapping[str, Any]  # {}: all of the trial's samples
    metrics: frozenset[str]  # empty: all of the trial's metrics

    def covers(self, sample: Sample) -> bool:
        return (not self.metrics or sample.metric in self.metrics) and all(
            sample.factors.get(k) == v for k, v in self.factors.items()
        )


def _metrics(
    scenario: Scenario,
    trials: Sequence[TrialResult],
    by_trial: Mapping[str, Sequence[Observation]],
    bays: Mapping[str, BayResult],
    seed: int,
    warnings: list[str],
) -> list[MetricResult]:
    known = {m.name: m for m in scenario.metrics}
    cells: dict[tuple[str, Factors], dict[str, list[SampleValue]]] = defaultdict(lambda: defaultdict(list))
    reasons: dict[tuple[str, Factors], dict[str, str]] = defaultdict(dict)
    polls: dict[tuple[str, Factors], dict[str, polled.Poll]] = defaultdict(dict)
    for t in trials:
        observations = by_trial.get(t.id, ())
        saturated = [_saturated(o) for o in observations if o.name == "load.saturated"]
        poll = polled.coarsest(observations)
        if poll:
            warnings.append(f"{t.subject}, {scenario.name}: the engine did not tell of changes: {poll.how}.")
        taken = set()
        for sample in _samples(scenario, t, observations, warnings):
            key = (sample.metric, tuple(sample.factors.items()))
            if sample.metric not in known:
                warnings.append(f"Scenario {scenario.name} gives {sample.metric!r}, a metric that it doesn't define.")
            elif key in taken:
                # Several values of one trial are no independent repetitions: they may not count as such.
                warnings.append(f"Scenario {scenario.name} gives {sample.metric} twice in one trial: the first is used.")
            elif not math.isfinite(sample.value):
                warnings.append(f"Scenario {scenario.name} gives {sample.value} for {sample.metric} in {t.id}: left out.")
            else:
                taken.add(key)
                # A side quantity without a direction (a generator's own CPU) is what it is, saturated or not.
                hit = [s for s in saturated if s.covers(sample) and known[sample.metric].better is not Better.NEITHER]
                if hit:
                    reasons[key][t.subject] = hit[0].reason
                if poll and known[sample.metric].unit in polled.SECONDS:
                    polls[key][t.subject] = max(poll, polls[key].get(t.subject, poll), key=lambda p: p.seconds)
                cells[key][t.subject].append(
                    SampleValue(
                        trial=t.id,
                        block=t.block,
                        value=sample.value,
                        censored=sample.censored,
                        limited=bool(hit),
                    )
                )
    place = {name: i for i, name in enumerate(known)}
    for name in known:  # a metric that no trial came to is still asked for: its row shows who failed
        if all(metric != name for metric, _ in cells) and any(t.status in ("failed", "timeout") for t in trials):
            cells[name, ()] = {}
    present = [s for s in bays if any(t.subject == s for t in trials)]
    baselines = {s for s in present if bays[s].baseline}
    rows = sorted(cells, key=lambda key: place[key[0]])
    return [
        _row(scenario, known[k[0]], dict(k[1]), cells[k], reasons[k], polls[k], trials, present, baselines, seed) for k in rows
    ]


def _samples(scenario: Scenario, trial: TrialResult, observations: Sequence[Observation], warnings: list[str]) -> list[Sample]:
    if trial.status == "skipped":
        return []
    try:
        return list(scenario.derive(observations))
    except Exception as e:  # a third party's scenario must not cost the others' figures
        if trial.status == "ok":
            warnings.append(f"{trial.id}: scenario {scenario.name} can't derive its figures: {type(e).__name__}: {e}.")
        return []


def _saturated(o: Observation) -> _Saturated:
    return _Saturated(
        str(o.data.get("reason") or "the generator was at its limit"),
        _dict(o.data.get("factors")),
        frozenset(str(m) for m in _list(o.data.get("metrics"))),
    )


def _row(
    scenario: Scenario,
    metric: Metric,
    factors: Mapping[str, str | int | float],
    samples: Mapping[str, Sequence[SampleValue]],
    reasons: Mapping[str, str],
    polls: Mapping[str, polled.Poll],
    trials: Sequence[TrialResult],
    subjects: Sequence[str],
    baselines: set[str],
    seed: int,
) -> MetricResult:
    values, sampled = {}, {}
    for subject in subjects:
        mine = tuple(sorted(samples.get(subject, ()), key=lambda s: (s.block, s.trial)))
        have = {s.trial for s in mine}
        count = Counter(t.status for t in trials if t.subject == subject and t.id not in have)
        # A trial that is "ok" and yet has no value of this row was not asked for it.
        values[subject], sampled[subject] = _cell(metric, mine, reasons.get(subject), count)
        if poll := polls.get(subject):
            values[subject] = msgspec.structs.replace(
                values[subject], polled=poll.how, poll=_finite(poll.seconds) or msgspec.UNSET
            )
    compared = {
        (a, b): c._replace(distinguishable=False, reason=why)
        if (why := polled.too_coarse(metric.unit, values[a], values[b]))
        else c
        for (a, b), c in stats.compare_all(sampled, seed=seed).items()
    }
    # A baseline is no competitor: it is never best, and nobody need beat it to be.
    competing = {pair: c for pair, c in compared.items() if not baselines & set(pair)}
    winner = stats.best(competing, metric.better) if not metric.claim_of else None
    if winner is not None and (values[winner].failed or values[winner].censored or values[winner].timed_out):
        winner = None  # being fast in the trials that came through is not being best
    return MetricResult(
        scenario=scenario.name,
        name=metric.name,
        unit=metric.unit,
        better=metric.better,
        title=metric.title,
        definition=metric.definition,
        factors=factors,
        claim_of=metric.claim_of,
        values=values,
        best=winner,
        ratios=tuple(_ratio(a, b, c, limited=bool(values[a].limited or values[b].limited)) for (a, b), c in compared.items()),
    )


def _ratio(a: str, b: str, c: stats.Comparison, limited: bool) -> Ratio:
    if math.isinf(c.low):
        # All of b's values are 0. JSON has no infinity, and 0 times as much says the same of the pair turned round.
        a, b = b, a
        c = c._replace(ratio=0.0, low=0.0, high=0.0)
    return Ratio(
        a=a,
        b=b,
        ratio=_finite(c.ratio),
        low=_finite(c.low),
        high=_finite(c.high),
        distinguishable=c.distinguishable,
        paired=c.paired,
        reason="the generator was the limit" if limited else c.reason,
    )


def _cell(
    metric: Metric, samples: tuple[SampleValue, ...], reason: str | None, missing: Mapping[str, int]
) -> tuple[Values, stats.Sampled]:
    # The cell shows what was measured; the comparison is made of what can be known.
    shown = stats.Sampled.of(
        [s.value for s in samples], [math.inf if s.censored else s.value for s in samples], [s.block for s in samples]
    )
    ends = stats.median(shown)
    interval = stats.median_interval(shown)
    exact = [s.value for s in samples if not s.censored]
    value = Values(
        median=_finite(ends[1]) if ends[0] == ends[1] else None,
        above=_finite(ends[0]) if ends[0] != ends[1] else None,
        low=_finite(interval.low) if interval else None,
        high=_finite(interval.high) if interval else None,
        level=interval.level if interval else None,
        mad=_finite(stats.mad(exact)),
        n=len(samples),
        censored=sum(s.censored for s in samples),
        failed=missing.get("failed", 0),
        timed_out=missing.get("timeout", 0),
        skipped=missing.get("skipped", 0),
        samples=samples,
        lower_bound=reason if metric.better is Better.HIGHER else None,
        limited=reason if metric.better is Better.LOWER else None,
        unstable=None if metric.better is Better.NEITHER else stats.instability(shown),
    )
    return value, known(metric.better, samples)


def _noise(manifest: Mapping[str, Any], metrics: Sequence[MetricResult]) -> Noise | None:
    """What was found between subjects that differ in nothing but their name; None where no two are alike."""
    kinds: dict[str, bytes] = {}
    for subject in _list(manifest.get("subjects")):
        s = _dict(subject)
        alike = {k: v for k, v in s.items() if k not in ("name", "title", "label")}
        kinds[str(s.get("name"))] = msgspec.json.encode(alike, order="deterministic")
    compared, expected, found, largest = 0, 0.0, [], 0.0
    for m in metrics:
        for r in m.ratios:
            if r.a in kinds and kinds[r.a] == kinds.get(r.b):
                compared += 1
                expected += (1 - stats.LEVEL) / len(m.ratios)
                if r.ratio:
                    largest = max(largest, r.ratio, 1 / r.ratio)
                if r.distinguishable:
                    setting = "".join(f" {k}={v}" for k, v in m.factors.items())
                    found.append(f"{m.scenario}.{m.name}{setting}: {r.a} / {r.b}")
    if not compared:
        return None
    return Noise(
        compared=compared,
        different=len(found),
        expected=round(expected, 3),
        largest=largest or None,
        found=tuple(found),
    )


# values of a record that anybody may have edited


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _dict(value: Any) -> dict[str, Any]:
    return {str(k): v for k, v in value.items()} if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _strings(value: Mapping[str, Any]) -> dict[str, str]:
    return {k: str(v) for k, v in value.items()}


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else None


def _time(value: Any) -> float | None:
    """Seconds since the epoch, of those or of ISO 8601."""
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(value).timestamp()
        except ValueError:
            return None
    return _float(value)


def _iso(at: float) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
