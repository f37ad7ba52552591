"""A result as a table in plain text: sections, rows, cells, and numbered footnotes. `terminal` and `markdown` set it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from ..contract import Better
from ..results.model import BayResult, MetricResult, Result, Values
from ..results.polled import too_coarse
from . import words
from .words import Scale, clean


@dataclass(frozen=True)
class Cell:
    """One figure. `trouble` says what trials are missing from it; `notes` are numbers of footnotes; `over`: how many times the
    baseline's figure it is, where a column is one."""

    figure: str
    interval: str = ""
    best: bool = False
    unstable: bool = False
    trouble: str = ""
    notes: tuple[int, ...] = ()
    over: str = ""


@dataclass(frozen=True)
class Row:
    """One metric at one setting, or (without cells) the heading above one metric's settings. `metric` and `factors` as in the
    result; empty in rows that are of none."""

    label: str
    unit: str = ""
    claim: bool = False
    indent: int = 0
    cells: Mapping[str, Cell] = field(default_factory=dict)
    metric: str = ""
    factors: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """One scenario. `setting`: the factors that are the same in all of its rows."""

    scenario: str
    question: str
    setting: str
    rows: tuple[Row, ...]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """One subject. `title` is what sentences call it, `about` its engine and version."""

    subject: str
    title: str
    about: str
    notes: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """All of a report's text, in the order in which it is printed."""

    title: str
    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    legend: tuple[str, ...]
    footnotes: tuple[tuple[int, str], ...]
    unstable: tuple[tuple[str, str], ...]  # (row and subject's title, what is wrong and what to do)
    timeouts: tuple[tuple[str, str], ...]  # (subject's title, its timeouts)
    failures: tuple[tuple[str, str], ...]  # (trial, what became of it)
    warnings: tuple[str, ...]
    run: tuple[str, ...]


ABOUT_TIMEOUTS = ("heal",)  # scenarios whose figures are mostly the engines' timeouts
LONGEST = 12  # lines of a list under the table
POLLED = "the engine did not tell of changes ({}): figures may be late by {}; shorter times and differences are not compared"
LIMIT = "the generator was the limit ({}): a rate is a lower bound (≥), a latency can't be compared"


class _Footnotes:
    """Numbers texts in the order of their first use; the same text has one number."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers) + 1)


def table(result: Result, folder: str = "") -> Table:
    """Lay out a result; `folder` is where its run folder lies, if the reader has it.

    Every text of the run is cleaned of what could disturb a terminal or a page.
    """
    called = words.called_in(result)
    footnotes = _Footnotes()
    holders: dict[str, list[str]] = {}
    for subject, bay in result.bays.items():
        for note in bay.notes:
            holders.setdefault(clean(note), []).append(called[subject])
    columns = []
    for subject in called:
        bay = result.bays.get(subject) or BayResult(coe=subject)
        about = clean(bay.version if called[subject] == clean(bay.engine) else f"{bay.engine} {bay.version}")
        notes = tuple(
            footnotes(note if len(holders[note]) == len(called) > 1 else f"{', '.join(holders[note])}: {note}")
            for note in map(clean, bay.notes)
        )
        columns.append(Column(subject, called[subject], about, notes))
    headlines = words.headlines(result)
    questions = {s.name: s.question for s in result.scenarios}
    published = {s.name: tuple(map(clean, s.published)) for s in result.scenarios}
    sections = tuple(
        _section(
            result,
            scenario,
            questions.get(scenario, ""),
            called,
            tuple(headlines[scenario]) + published.get(scenario, ()),
            footnotes,
        )
        for scenario in dict.fromkeys(m.scenario for m in result.metrics)
    )
    return Table(
        title=f"coebench {clean(result.run.id)}",
        columns=tuple(columns),
        sections=sections,
        legend=_legend(result),
        footnotes=tuple((n, text) for text, n in footnotes.numbers.items()),
        unstable=_some(
            [
                (f"{_where(m)}, {called[s]}", clean(v.unstable))
                for m in result.metrics
                for s, v in m.values.items()
                if v.unstable and not m.claim_of
            ]
        ),
        timeouts=_timeouts(result, called),
        failures=_some(_failures(result)),
        warnings=tuple(clean(w) for w in result.warnings),
        run=_run(result, folder),
    )


def _section(
    result: Result,
    scenario: str,
    question: str,
    called: Mapping[str, str],
    sentences: tuple[str, ...],
    footnotes: _Footnotes,
) -> Section:
    metrics = [m for m in result.metrics if m.scenario == scenario]
    with_samples = [m for m in metrics if any(v.n for v in m.values.values())] or metrics
    same = {k: v for k, v in with_samples[0].factors.items() if all(m.factors.get(k) == v for m in with_samples)}
    rows: list[Row] = []
    # What failed as a whole is said once, above the figures, and not again in every one of them.
    lost = {s: trials for s in called if (trials := _lost(result, scenario, s))}
    if lost:
        every = {s: len([t for t in result.trials if (t.scenario, t.subject) == (scenario, s)]) for s in called}
        cells = {
            s: Cell(figure="", trouble=f"{lost[s]} of {every[s]}") if s in lost else Cell(figure=f"0 of {every[s]}")
            for s in called
            if every[s]
        }
        rows.append(Row(label="failed trials", cells=cells))
    baseline = next((s for s, b in result.bays.items() if b.baseline), "")
    for name in dict.fromkeys(m.name for m in metrics if not m.claim_of):
        settings = [m for m in metrics if m.name == name]
        heading = len(settings) > 1
        scale = words.scale(settings[0].unit, _shown(settings))
        if heading:
            rows.append(Row(label=clean(settings[0].title), unit=scale.unit))
        for m in settings:
            own = {k: v for k, v in m.factors.items() if k not in same}
            label = (words.setting(own) or clean(m.title)) if heading else clean(m.title)
            if own and not heading:
                label += f", {words.setting(own)}"
            rows.append(_row(m, label, "" if heading else scale.unit, scale, int(heading), lost, footnotes, baseline))
            for c in metrics:
                if c.claim_of == m.name and c.factors == m.factors:
                    own_scale = scale if c.unit == m.unit else words.scale(c.unit, _shown([c]))
                    unit = "" if c.unit == m.unit else own_scale.unit
                    rows.append(_row(c, clean(c.title), unit, own_scale, int(heading) + 1, lost, footnotes, baseline))
    # Claims on a metric that isn't there, or at a setting of their own, must not vanish.
    placed = {(m.name, tuple(m.factors.items())) for m in metrics if not m.claim_of}
    for c in metrics:
        if c.claim_of and (c.claim_of, tuple(c.factors.items())) not in placed:
            own = {k: v for k, v in c.factors.items() if k not in same}
            scale = words.scale(c.unit, _shown([c]))
            label = clean(c.title) + (f", {words.setting(own)}" if own else "")
            rows.append(_row(c, label, scale.unit, scale, 0, lost, footnotes, baseline))
    return Section(clean(scenario), clean(question), words.setting(same), tuple(rows), sentences)


def _lost(result: Result, scenario: str, subject: str) -> int:
    return sum(t.scenario == scenario and t.subject == subject and t.status == "failed" for t in result.trials)


def _shown(metrics: list[MetricResult]) -> Iterator[float]:
    for m in metrics:
        for v in m.values.values():
            if (x := v.median if v.median is not None else v.above) is not None:
                yield x


def _row(
    m: MetricResult,
    label: str,
    unit: str,
    scale: Scale,
    indent: int,
    lost: Mapping[str, int],
    footnotes: _Footnotes,
    baseline: str,
) -> Row:
    shown = [x * scale.factor for x in _shown([m])]
    counted = m.unit in ("", "1") and all(float(s.value).is_integer() for v in m.values.values() for s in v.samples)
    # The same places in all of a row: three digits of its largest figure, and no fewer than two of its smallest.
    least = min((abs(x) for x in shown if x), default=0.0)
    places = 0 if counted else max(words.decimals(max(shown, default=0.0)), words.decimals(least) - 1)
    cells = {s: _cell(m, s, v, scale.factor, places, lost.get(s, 0), footnotes) for s, v in m.values.items()}
    for subject, ratio in _over(m, baseline).items():
        cells[subject] = replace(cells[subject], over=f"{words.times(ratio) if ratio >= 0.1 else words.number(ratio)}×")
    return Row(label=label, unit=unit, claim=bool(m.claim_of), indent=indent, cells=cells, metric=m.name, factors=m.factors)


def _over(m: MetricResult, baseline: str) -> dict[str, float]:
    """How many times the baseline's figure each other one is, where both are known. The engine's own account has none: without
    an engine nobody gives one."""
    if not baseline or m.claim_of or m.better is Better.NEITHER:
        return {}
    pairs = [(r, (m.values[r.a], m.values[r.b])) for r in m.ratios if r.ratio]
    known = [  # 0 has no multiple
        r
        for r, both in pairs
        if all(v.median and not v.limited and not v.lower_bound for v in both) and not too_coarse(m.unit, *both)
    ]
    return {r.a: r.ratio for r in known if r.ratio and r.b == baseline} | {
        r.b: 1 / r.ratio for r in known if r.ratio and r.a == baseline
    }


def _cell(m: MetricResult, subject: str, v: Values, factor: float, places: int, lost: int, footnotes: _Footnotes) -> Cell:
    missing = words.trouble(msgspec.structs.replace(v, failed=0) if v.failed == lost else v)
    if not v.n:
        return Cell(figure="can't" if v.skipped and not (v.failed or v.timed_out) else "–", trouble=missing)
    limit = v.lower_bound or v.limited
    notes = (footnotes(LIMIT.format(clean(limit))),) if limit else ()
    if v.polled:
        late = f"up to {v.poll:g} s" if v.poll else "an unknown time"
        notes = (*notes, footnotes(POLLED.format(clean(v.polled), late)))
    if v.median is None:
        figure = f">{words.number((v.above or 0.0) * factor)}"
        return Cell(figure=figure, trouble=missing, notes=notes)
    interval = ""
    if v.n > 1 and v.low is not None and v.low != v.high:
        if v.high is not None:
            high = words.number(v.high * factor, places)
        else:
            high = ">" + words.number(max((s.value for s in v.samples if s.censored), default=v.low) * factor)
        interval = f"{words.number(v.low * factor, places)}–{high}"
    return Cell(
        figure=("≥" if v.lower_bound else "") + words.number(v.median * factor, places),
        interval=interval,
        best=m.best == subject,
        unstable=bool(v.unstable),
        trouble=missing,
        notes=notes,
    )


def _where(m: MetricResult) -> str:
    return f"{clean(m.scenario)}, {clean(m.title)}" + (f" ({words.setting(m.factors)})" if m.factors else "")


def _legend(result: Result) -> tuple[str, ...]:
    """What the signs of this table mean: only those that it uses."""
    lines = []
    if silence := words.silence(result):
        lines.append(f"No verdicts: {silence}.")
    values = [v for m in result.metrics for v in m.values.values()]
    levels = sorted({(v.n, v.level) for v in values if v.level is not None and v.low != v.high})
    if levels:
        said = ", ".join(f"{100 * level:.0f} % with {n} trials" for n, level in levels)
        lines.append(f"Median (its interval: {said}).")
    if any(m.best for m in result.metrics):
        lines.append("✓ better than every other measured column, distinguishably (95 % for the row as a whole).")
    if baselines := [clean(b.engine or s) for s, b in result.bays.items() if b.baseline]:
        lines.append(
            f"{', '.join(baselines)}: a baseline, never called best. 2× is twice its median: what orchestration costs, or saves."
        )
    if any(m.claim_of for m in result.metrics):
        lines.append("Indented beneath a figure: the engine's own account of it.")
    if any(v.censored for v in values):
        lines.append("> longer than that: waiting was given up. Such trials count as longer, never as that time.")
    if any(v.unstable for v in values):
        lines.append("~ unstable: not to be quoted, see below.")
    return tuple(lines)


def _timeouts(result: Result, called: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The timeouts in force, where the columns differ in any: the engines' own names, so hardly ever comparable by name. All
    of them, with one column too, where a scenario was asked that is mostly about them."""
    every = any(m.scenario in ABOUT_TIMEOUTS for m in result.metrics)
    if not every and len({tuple(sorted(b.timeouts.items())) for b in result.bays.values()}) < 2:
        return ()
    alike: dict[str, list[str]] = {}
    for subject, bay in result.bays.items():
        others = result.bays.values()
        differing = {k: v for k, v in bay.timeouts.items() if every or any(b.timeouts.get(k) != v for b in others)}
        if differing:
            kind = f" ({clean(bay.timeout_profile)})" if bay.timeout_profile else ""
            said = ", ".join(f"{clean(k)} {clean(v)}" for k, v in differing.items())
            alike.setdefault(f"{said}{kind}", []).append(called[subject])
    return tuple((", ".join(who), said) for said, who in alike.items())


def _failures(result: Result) -> list[tuple[str, str]]:
    """What failed alike in several blocks is one line."""
    blocks: dict[tuple[str, str], list[int]] = {}
    for t in result.trials:
        if t.status != "ok":
            said = (f"{t.status}: {t.reason}" if t.reason else t.status) + (f"; {t.flag}" if t.flag else "")
        elif t.flag:
            said = f"ok, but {t.flag}"
        else:
            said = ""
        if said:
            blocks.setdefault((clean(f"{t.subject} {t.scenario}"), clean(said)), []).append(t.block)
    return [
        (f"{what}, block{'s' * (len(which) > 1)} {', '.join(map(str, which))}", said) for (what, said), which in blocks.items()
    ]


def _some(lines: list[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """A reader's fill of a list that may be as long as the run; the result has all of it."""
    if len(lines) <= LONGEST:
        return tuple(lines)
    return (*lines[: LONGEST - 1], ("…", f"and {len(lines) - LONGEST + 1} more"))


def _run(result: Result, folder: str) -> tuple[str, ...]:
    run = result.run
    many = f"{run.blocks} blocks, each in random order" if run.blocks > 1 else "1 block"
    first = [f"run {run.id}", f"seed {run.seed}", many, words.seconds(run.seconds)]
    if folder:
        first[0] += f" in {folder}"
    if run.profile:
        first.insert(1, f"profile {run.profile}")
    if not run.complete:
        first.append("incomplete")
    if run.stopped:
        first.append(f"ended early: {run.stopped}")
    lines = [" · ".join(first)]
    facts = []
    if host := _host(run.host):
        facts.append(host)
    if run.harness.share is not None:
        facts.append(f"the harness used {run.harness.share:.2g} % of one core")
    if run.version:
        facts.append(f"coebench {run.version}")
    if facts:
        lines.append(" · ".join(facts))
    bays = {
        f"{b.controls} control + {b.nodes} node hosts"
        + (f", {b.hosts[0].memory / 2**30:.3g} GiB each" if b.hosts and b.hosts[0].memory else "")
        + (f", {b.hosts[0].cpu:g} CPU each" if b.hosts and b.hosts[0].cpu else "")
        + (f", by {b.provisioner}" if b.provisioner else "")
        for b in result.bays.values()
        if b.nodes
    }
    if bays:
        lines.append("bay: " + " | ".join(sorted(bays)))
    if run.noise is not None:
        n = run.noise
        largest = f"; the largest ratio was {words.times(n.largest)}×" if n.largest else ""
        lines.append(
            f"noise floor: of {n.compared} comparisons of a thing with itself {n.different} showed a difference "
            f"(chance allows {n.expected:.2g}){largest}"
        )
    return tuple(clean(line) for line in lines)


def _host(host: Mapping[str, object]) -> str:
    """The facts that a reader compares machines by; the result has the others."""
    parts = []
    for key, form in (("cpu", "{}"), ("cpus", "{} CPUs"), ("memory", "{}"), ("system", "{}"), ("kernel", "kernel {}")):
        value = host.get(key)
        if key == "memory" and isinstance(value, (int, float)):
            value = f"{value / 2**30:.3g} GiB"
        if isinstance(value, (int, float, str)) and value:
            parts.append(form.format(value))
    return "host: " + ", ".join(parts) if parts else ""
