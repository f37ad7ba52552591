"""What a client saw second by second, around what was done meanwhile: rate and errors, latency, and which version answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import msgspec

from ..words import clean
from . import buckets
from .figure import Area, Axis, Band, Figure, Key, Line, Mark, Panel, Point, slug
from .scale import quantity
from .source import MARKS, Moment, Second, Source, Trace, where

About = tuple[tuple[str, object], ...]
NOT_MEANWHILE = ("requested", "burst", "removing")  # what goes before and after a load
FIRST = {  # what the seconds are counted from, where it is there, and how it is called
    "fault.made": "the fault",
    "update.asked": "the update was asked for",
    "updating": "the update was asked for",
    "draining": "the drain was asked for",
}
GAP = 2.5  # seconds without any load, after which it is another one
MOST = 12  # loads of one trial beyond which they are no stories of their own


class _Flow:
    """One load of one trial. `zero`: the moment that its seconds are counted from."""

    def __init__(self, trace: Trace, seconds: list[Second]) -> None:
        self.trace = trace
        self.seconds = sorted(seconds)
        self.begin = self.seconds[0].at - self.seconds[0].seconds
        self.end = self.seconds[-1].at
        self.service = str(dict(self.seconds[0].about).get("service") or "")
        meanwhile = [m for m in trace.moments if m.name not in NOT_MEANWHILE and self.begin <= m.at <= self.end]
        mine = [m for m in meanwhile if not (self.service and m.service and m.service != self.service)]
        self.moments: list[Moment] = sorted(mine, key=lambda m: m.at)
        first = next((m for m in self.moments if m.name in FIRST), next(iter(self.moments), None))
        self.zero = first.at if first else self.begin
        self.since = FIRST.get(first.name, MARKS.get(first.name, first.name)) if first else ""

    def bin(self, second: Second) -> int:
        """The whole second, from `zero` on, that it mostly lies in."""
        return round(second.at - second.seconds - self.zero)

    def middle(self, second: Second) -> float:
        return second.at - second.seconds / 2 - self.zero


def figures(source: Source) -> Iterator[Figure]:
    """One figure for each load that went on in the open loop while something else happened, or for some seconds."""
    found: dict[tuple[str, About], dict[str, list[_Flow]]] = defaultdict(lambda: defaultdict(list))
    for trace in source.traces:
        parts: dict[About, list[Second]] = defaultdict(list)
        for s in trace.seconds:
            swept = dict(s.about).get("step") in ("curve", "search")
            if dict(s.about).get("loop") != "closed" and not swept and s.phase != "drain":
                parts[s.about].append(s)
        loads = [(about, load) for about, seconds in parts.items() for load in _loads(about, seconds) if len(load[1]) >= 3]
        rates = {dict(about).get("rate") for about, _ in loads}
        if len(rates) <= 3 and len(loads) <= MOST:  # a sweep's steps are no story of their own
            for _, (about, seconds) in loads:
                found[trace.scenario, about][trace.subject].append(_Flow(trace, seconds))
    for (scenario, about), flows in found.items():
        yield _figure(source, scenario, about, {s: flows[s] for s in source.subjects if s in flows})


def _loads(about: About, seconds: list[Second]) -> Iterator[tuple[About, list[Second]]]:
    """Seconds that follow each other, as loads of their own: one that was sent again, or with other settings."""
    found: list[list[Second]] = []
    last: Second | None = None
    for s in sorted(seconds):
        again = last is not None and s.phase == "warmup" != last.phase
        if last is None or again or s.at - s.seconds - last.at > GAP:
            found.append([])
        found[-1].append(s)
        last = s
    for number, load in enumerate(found, 1):
        yield (about if number == 1 else (*about, ("load", number))), load


def _figure(source: Source, scenario: str, about: About, flows: Mapping[str, list[_Flow]]) -> Figure:
    every = [(f, s) for mine in flows.values() for f in mine for s in f.seconds]
    low, high = min(f.middle(s) for f, s in every), max(f.middle(s) for f, s in every)
    rate = max(max(s.ok, s.planned, s.bad) / s.seconds for _, s in every)
    latencies = {subject: _latencies(mine) for subject, mine in flows.items()}
    values = [v for lines in latencies.values() for line in lines for p in line.points if (v := p.y) == v and v > 0]
    since = next((f.since for mine in flows.values() for f in mine if f.since), "")
    x = Axis(label="seconds" + (f" since {since}" if since else ""), unit="s", low=low - 0.5, high=high + 0.5)
    panels: list[Panel] = []
    for subject, mine in flows.items():
        panels.append(
            Panel(
                title=source.called[subject],
                x=Axis(low=x.low, high=x.high, unit="s"),
                y=Axis(label="requests a second, good; dashed: bad", unit="1/s", zero=True, low=0.0, high=rate),
                items=tuple(_coloured(_rates(mine), source.colour(subject))),
                marks=_marks(mine),
                height=130,
            )
        )
    if values:
        for subject in flows:
            panels.append(
                Panel(
                    x=Axis(low=x.low, high=x.high, unit="s"),
                    y=Axis(label="latency p99, dashed p50, log", unit="ms", scale="log", low=min(values), high=max(values)),
                    items=tuple(_coloured(latencies[subject], source.colour(subject))),
                    height=130,
                )
            )
    stacks = {subject: _stack(mine[0], source.colour(subject)) for subject, mine in flows.items()}
    versions: tuple[str, ...] = ()
    if any(areas for areas, _ in stacks.values()):
        versions = tuple(dict.fromkeys(v for _, names in stacks.values() for v in names))
        most = max(b.high for areas, _ in stacks.values() for a in areas for b in a.bands)
        for areas, _ in stacks.values():
            panels.append(
                Panel(
                    x=x,
                    y=Axis(label="instances that answer, first trial", zero=True, low=0.0, high=most),
                    items=tuple(areas),
                    height=90,
                )
            )
    said = where(scenario, about)
    keys = [Key(source.called[s], source.colour(s)) for s in flows]
    if any(len(m) > 1 for m in flows.values()):
        keys += [Key("each trial", -1, "faint")]
    keys += [Key(f"version {v}", -1, "area", i) for i, v in enumerate(versions) if len(versions) > 1]
    return Figure(
        slug=slug(scenario, "timeline", *[f"{k}-{v}" for k, v in about if v]),
        scenario=scenario,
        title=clean(f"{scenario}: second by second" + (f", {said}" if said else "")),
        about="What a client saw in each second; latency from the planned send. Thick: all trials' requests together, their "
        "histograms merged.",
        panels=tuple(panels),
        legend=tuple(keys),
        head=("second", *(f"{source.called[s]}: {w}" for s in flows for w in ("good/s", "bad/s", "p50", "p99"))),
        rows=_rows(flows),
        columns=len(flows) if len(flows) <= 3 else 2,
    )


def _binned(flows: list[_Flow]) -> dict[int, list[Second]]:
    bins: dict[int, list[Second]] = defaultdict(list)
    for f in flows:
        for s in f.seconds:
            if s.seconds > 0.2:  # a sliver at the end says nothing about a second
                bins[f.bin(s)].append(s)
    return dict(sorted(bins.items()))


def _rates(flows: list[_Flow]) -> list[Line]:
    lines = []
    if len(flows) > 1:
        lines += [Line(points=tuple(Point(f.middle(s), s.ok / s.seconds) for s in f.seconds), faint=True) for f in flows]
    bins = _binned(flows)
    good = tuple(Point(b + 0.5, sum(s.ok for s in ss) / sum(s.seconds for s in ss)) for b, ss in bins.items())
    bad = tuple(Point(b + 0.5, sum(s.bad for s in ss) / sum(s.seconds for s in ss)) for b, ss in bins.items())
    lines.append(Line(points=good))
    if any(p.y for p in bad):
        lines.append(Line(points=bad, dashed=True))
    return lines


def _latencies(flows: list[_Flow]) -> list[Line]:
    lines = []
    if len(flows) > 1:
        for f in flows:
            lines.append(Line(points=tuple(Point(f.middle(s), s.p99) for s in f.seconds), faint=True))
    merged = {b: buckets.total(s.histogram for s in ss) for b, ss in _binned(flows).items()}
    both = [(b, m.at((50, 99)) if m else [float("nan")] * 2) for b, m in merged.items()]
    lines.append(Line(points=tuple(Point(b + 0.5, v[1]) for b, v in both)))
    lines.append(Line(points=tuple(Point(b + 0.5, v[0]) for b, v in both), dashed=True))
    return lines


def _coloured(lines: list[Line], colour: int) -> Iterator[Line]:
    for line in lines:
        yield msgspec.structs.replace(line, colour=colour)


def _marks(flows: list[_Flow]) -> tuple[Mark, ...]:
    """The first trial's moments: the others' lie elsewhere by what the engine took, but the first is where all are zero."""
    first = flows[0]
    return tuple(Mark(m.at - first.zero, _called(m)) for m in first.moments[:6])


def _called(moment: Moment) -> str:
    detail = next((str(moment.data[k]) for k in ("fault", "strategy", "version") if moment.data.get(k)), "")
    name = MARKS.get(moment.name, moment.name)
    return clean(f"{name} {detail}" if not name or name == "update" else name)


def _stack(flow: _Flow, colour: int) -> tuple[list[Area], list[str]]:
    """Instances that answer, by version, where that changes while the load goes on."""
    answering: dict[str, str] = {}
    service = flow.service or next((m.service for m in flow.moments if m.service), "")
    states: list[tuple[float, dict[str, int]]] = []
    for e in sorted(flow.trace.events):
        if e.name != "answer" or not e.id or (service and e.service != service):
            continue
        if e.kind in ("up", "changed"):
            answering[e.id] = e.version
        elif e.kind == "down":
            answering.pop(e.id, None)
        else:
            continue
        counts: dict[str, int] = defaultdict(int)
        for version in answering.values():
            counts[version] += 1
        states.append((e.at, dict(counts)))
    before = [c for at, c in states if at <= flow.begin]
    inside = [(at, c) for at, c in states if flow.begin < at <= flow.end]
    if not inside:
        return [], []
    inside = [(flow.begin, before[-1] if before else {}), *inside, (flow.end, inside[-1][1])]
    versions = sorted({v for _, c in inside for v in c})
    areas = []
    for i, version in enumerate(versions):
        under = [sum(c.get(v, 0) for v in versions[:i]) for _, c in inside]
        bands = (Band(at - flow.zero, u, u + c.get(version, 0)) for (at, c), u in zip(inside, under, strict=True))
        areas.append(Area(bands=tuple(bands), colour=colour, shade=i))
    return areas, versions


def _rows(flows: Mapping[str, list[_Flow]]) -> tuple[tuple[str, ...], ...]:
    bins = {s: _binned(mine) for s, mine in flows.items()}
    rows = []
    for b in sorted({b for mine in bins.values() for b in mine}):
        row = [f"{b} to {b + 1}"]
        for mine in bins.values():
            seconds = mine.get(b, [])
            length = sum(s.seconds for s in seconds)
            merged = buckets.total(s.histogram for s in seconds)
            row.append(f"{sum(s.ok for s in seconds) / length:.0f}" if length else "")
            row.append(f"{sum(s.bad for s in seconds) / length:.3g}" if length else "")
            row += [quantity(v, "ms") for v in merged.at((50, 99))] if merged else ["", ""]
        rows.append(tuple(row))
    return tuple(rows)
