"""Plots: what they are made of, where values lie, and that nothing of a run can break out of a picture."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram
from synthetic import SCENARIOS, Synthetic

from coebench.contract import Observation
from coebench.report import plots
from coebench.report.plots import buckets, figure, scale, source, svg
from coebench.results import derive, folder

HOSTILE = "</text></svg><script>alert(1)</script>\"'&amp;"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = Synthetic(tmp_path_factory.mktemp("runs")).write()
    return derive.derive(path, SCENARIOS), folder.read(path).observations


def encoded(values: list[float]) -> str:
    """An HdrHistogram of these milliseconds, as the generator writes it."""
    h = HdrHistogram(64, 60_000_000_000, 3)
    for v in values:
        h.record_value(int(v * 1e6))
    return h.encode().decode()


def test_percentiles_are_those_of_the_package() -> None:
    values = [0.05 * 1.07**i for i in range(150)]
    ours = buckets.decode(encoded(values))
    theirs = HdrHistogram.decode(encoded(values))
    assert ours is not None and ours.total == 150
    for p in (1, 50, 90, 99, 100):
        assert ours.at((p,))[0] == pytest.approx(theirs.get_value_at_percentile(p) / 1e6, rel=2e-3)


def test_merged_histograms_are_the_histogram_of_all() -> None:
    one, other = [1.0] * 99, [50.0]
    merged = buckets.total([buckets.decode(encoded(one)), None, buckets.decode(encoded(other))])
    assert merged is not None
    assert merged.total == 100
    assert merged.at((99,))[0] == pytest.approx(1.0, rel=2e-3)
    assert merged.at((100,))[0] == pytest.approx(50.0, rel=2e-3)


@pytest.mark.parametrize("text", ["", "HISTFAAA", "nonsense", "HISTF" + "A" * 40, "é"])
def test_what_is_no_histogram_is_none(text: str) -> None:
    assert buckets.decode(text) is None


@pytest.mark.parametrize("kind", ["linear", "log"])
@pytest.mark.parametrize("values", [[1.0], [0.001, 5000.0], [3.0, 3.0], [0.02, 0.05], []])
def test_every_value_lies_on_its_axis(kind: str, values: list[float]) -> None:
    s = scale.Scale(figure.Axis(scale=kind, unit="s"), values, 6)
    assert all(-1e-9 <= s.at(v) <= 1 + 1e-9 for v in values)
    assert all(-1e-9 <= s.at(v) <= 1 + 1e-9 for v, _ in s.ticks)
    assert [t for _, t in s.ticks] == list(dict.fromkeys(t for _, t in s.ticks)), "two ticks that read the same"
    assert len(s.ticks) <= 9


def test_percentiles_lie_by_their_nines() -> None:
    s = scale.Scale(figure.Axis(scale="nines"), [0.0, 99.9], 6)
    assert [round(s.at(p), 3) for p in (0, 90, 99, 99.9)] == [0.0, 0.333, 0.667, 1.0]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (0.00025, "s", "250 µs"),
        (1.5, "s", "1.5 s"),
        (12.0, "ms", "12 ms"),
        (2500.0, "ms", "2.5 s"),
        (34_700, "1/s", "34.7k/s"),
        (0.5, "%", "0.5 %"),
    ],
)
def test_a_value_is_said_in_the_unit_it_reads_best_in(value: float, unit: str, said: str) -> None:
    assert scale.quantity(value, unit) == said


def test_a_run_has_its_plots_and_each_has_a_table_and_a_name_of_its_own(run: Any) -> None:
    result, observations = run
    figures = plots.all_figures(plots.source(result, observations))
    assert {"deploy-last-trials", "deploy-first-trials", "serve-rate-trials", "bays-ready"} <= {f.slug for f in figures}
    assert len({f.slug for f in figures}) == len(figures)
    for f in figures:
        assert f.rows and all(len(row) == len(f.head) for row in f.rows), f.slug
        for width in (svg.NARROW, svg.WIDE):
            drawn = ET.fromstring(svg.draw(f, width))
            assert float(drawn.get("width", "0")) == width
        alone = svg.draw(f, svg.BLOG, theme="light", footer="a run")
        assert f.title in ET.fromstring(alone).itertext() and "var(" not in alone and "url(" not in alone


def test_dots_are_the_trials_and_a_censored_one_is_open(run: Any) -> None:
    result, _ = run
    figures = {f.slug: f for f in plots.all_figures(plots.source(result))}
    metric = next(m for m in result.metrics if m.name == "last" and m.factors == {"instances": 30})
    panel = next(p for p in figures["deploy-last-trials"].panels if p.title == "30 instances")
    dots = [i for i in panel.items if isinstance(i, figure.Dots)]
    exact = sorted(p.x for d in dots if not d.open for p in d.points)
    late = sorted(p.x for d in dots if d.open for p in d.points)
    samples = [s for v in metric.values.values() for s in v.samples]
    assert exact == sorted(s.value for s in samples if not s.censored)
    assert late == sorted(s.value for s in samples if s.censored) != []


def traced(observations: list[Observation], trials: list[tuple[str, str]]) -> source.Source:
    """A source of these observations alone, of trials (id, subject) of the scenario "update"."""
    from coebench.results.model import BayResult, Result, RunInfo, ScenarioInfo, TrialResult

    subjects = dict.fromkeys(s for _, s in trials)
    result = Result(
        run=RunInfo(id="r"),
        bays={s: BayResult(coe=s) for s in subjects},
        scenarios=(ScenarioInfo(name="update"),),
        trials=tuple(TrialResult(id=t, block=1, subject=s, scenario="update", status="ok") for t, s in trials),
    )
    return plots.source(result, observations)


def second(trial: str, at: float, values: list[float], **more: Any) -> Observation:
    data = {"seconds": 1.0, "phase": "measured", "planned": 10, "sent": 10, "ok": len(values), "latency": encoded(values)}
    return Observation(at=at, name="load.second", trial=trial, data={"loop": "open", "rate": 10.0, **data, **more})


def test_a_timeline_counts_from_the_update_and_merges_its_trials() -> None:
    seen = []
    for trial, begin, mark in (("a", 100.0, 103.0), ("b", 500.0, 504.0)):
        for i in range(8):
            seen.append(second(trial, begin + i + 1, [1.0 if trial == "a" else 9.0] * 5, errors={"reset": 1}))
        seen.append(Observation(at=mark, name="updating", trial=trial, data={"service": "web", "version": "v2"}))
        told = ((begin - 1, "i1", "up", "v1"), (mark + 1, "i2", "up", "v2"), (mark + 2, "i1", "down", ""))
        for at, instance, kind, version in told:
            data = {"service": "web", "instance": instance, "kind": kind, "version": version}
            seen.append(Observation(at=at, name="answer", trial=trial, data=data))
    (f,) = [f for f in plots.all_figures(traced(seen, [("a", "k8s"), ("b", "k8s")])) if "timeline" in f.slug]
    rate, _, stack = f.panels
    assert rate.marks == (figure.Mark(0.0, "update v2"),)
    assert stack.x.label == "seconds since the update was asked for"
    rows = {row[0]: row[1:] for row in f.rows}
    assert next(iter(rows)) == "-4 to -3", "b's first second is four before its update"
    assert rows["0 to 1"][:2] == ("5", "1"), "of both trials, by second"
    assert rows["0 to 1"][2:] == ("1 ms", "9 ms"), "half of the merged requests took 1 ms"
    assert rows["-4 to -3"][2:] == ("9 ms", "9 ms"), "b's alone"
    assert [a.shade for a in stack.items if isinstance(a, figure.Area)] == [0, 1]
    assert max(b.high for a in stack.items if isinstance(a, figure.Area) for b in a.bands) == 2


def test_a_sweep_is_a_serving_curve_of_merged_trials_and_no_row_of_timelines() -> None:
    seen = []
    for trial in ("a", "b"):
        for rate in (100.0, 200.0, 400.0, 800.0):
            data = {"loop": "open", "rate": rate, "planned": int(rate * 2), "seconds": 2.0, "achieved_rps": min(rate, 500.0)}
            late = [1.0] * 98 + [rate if trial == "a" else 1.0] * 2
            seen.append(Observation(at=1.0, name="load", trial=trial, data={**data, "histogram": encoded(late), "saturated": ""}))
            seen += [second(trial, 1.0 + i, [1.0], rate=rate) for i in range(5)]
    figures = plots.all_figures(traced(seen, [("a", "k8s"), ("b", "k8s")]))
    assert [f.slug for f in figures] == ["update-offered"]
    assert [row[1:5] for row in figures[0].rows] == [
        ("100/s", "100/s", "1 ms", "1 ms"),
        ("200/s", "200/s", "1 ms", "1 ms"),
        ("400/s", "400/s", "1 ms", "1 ms"),
        ("800/s", "500/s", "1 ms", "1 ms"),
    ], "two of two hundred are not yet the 99th percentile of both trials together"


def test_a_serving_curve_marks_where_the_generator_was_at_its_limit() -> None:
    def drawn(*limited: float) -> figure.Figure:
        seen = []
        for rate in (100.0, 200.0, 400.0):
            data = {"loop": "open", "rate": rate, "planned": int(rate), "seconds": 1.0, "achieved_rps": rate}
            why = "97 % of its cores" if rate in limited else ""
            seen.append(Observation(at=1.0, name="load", trial="a", data={**data, "histogram": encoded([2.0]), "saturated": why}))
        (f,) = [f for f in plots.all_figures(traced(seen, [("a", "k8s")])) if "offered" in f.slug]
        return f

    f = drawn(200.0, 400.0)
    for panel in f.panels:
        (dots,) = [i for i in panel.items if isinstance(i, figure.Dots)]
        assert dots.open and [p.x for p in dots.points] == [200.0, 400.0] and dots.colour == 0
    assert [k.text for k in f.legend if k.kind == "open"] == ["the generator was at its limit"]
    assert [row[-1] for row in f.rows] == ["", "1 of 1", "1 of 1"]
    f = drawn()
    assert not any(isinstance(i, figure.Dots) for p in f.panels for i in p.items) and all(k.kind != "open" for k in f.legend)


def test_placement_is_the_median_of_each_nth_instance() -> None:
    seen = []
    for trial, times in (("a", (1.0, 2.0, 3.0)), ("b", (2.0, 4.0, 9.0)), ("c", (3.0, 3.5))):
        seen.append(Observation(at=10.0, name="requested", trial=trial, data={"service": "web", "instances": 3}))
        for i, t in enumerate(times):
            data = {"service": "web", "instance": f"i{i}", "kind": "up", "version": "v1"}
            seen.append(Observation(at=10.0 + t, name="answer", trial=trial, data=data))
    (f,) = plots.all_figures(traced(seen, [(t, "swarm") for t in "abc"]))
    assert f.slug == "update-placement-3"
    assert f.rows == (("swarm", "3", "2 s", "3.5 s", "9 s", "9 s", "not reached"),)


def test_edited_observations_cost_themselves_and_nothing_else() -> None:
    good = [second("a", 1.0 + i, [1.0]) for i in range(4)]
    bad: list[dict[str, Any]] = [{"errors": 3}, {"ok": "many"}, {"seconds": "x"}, {"planned": []}, {"latency": 7}]
    seen = good + [Observation(at=9.0, name="load.second", trial="a", data={"loop": "open", "rate": 10.0, **b}) for b in bad]
    seen += [
        Observation(at=1.0, name=n, trial="a", data={"instances": "x", "service": [1]}) for n in ("requested", "load", "answer")
    ]
    figures = plots.all_figures(traced(seen, [("a", "k8s")]))
    assert any("timeline" in f.slug for f in figures)
    for f in figures:
        ET.fromstring(svg.draw(f))


def test_names_with_markup_stay_text() -> None:
    seen = [second("a", 1.0 + i, [1.0]) for i in range(4)]
    s = traced(seen, [("a", HOSTILE)])
    for f in plots.all_figures(s):
        for text in (svg.draw(f), svg.draw(f, theme="dark", footer=HOSTILE)):
            assert "<script" not in text
            ET.fromstring(text)


def test_a_line_has_a_gap_where_nothing_was_answered() -> None:
    f = figure.Figure(
        slug="x",
        scenario="x",
        title="x",
        panels=(
            figure.Panel(
                x=figure.Axis(),
                y=figure.Axis(),
                items=(figure.Line(points=(figure.Point(0, 1), figure.Point(1, math.nan), figure.Point(2, 1))),),
            ),
        ),
    )
    line = next(p for p in ET.fromstring(svg.draw(f)).iter("{http://www.w3.org/2000/svg}path") if p.get("class") == "l")
    assert (line.get("d") or "").count("M") == 2


def test_a_metric_by_a_number_is_a_line_with_its_intervals(run: Any) -> None:
    result, _ = run
    figures = {f.slug: f for f in plots.all_figures(plots.source(result))}
    f = figures["deploy-last-by-instances"]
    metric = {m.factors["instances"]: m for m in result.metrics if m.name == "last"}
    lines = [i for i in f.panels[0].items if isinstance(i, figure.Line) and not i.faint]
    swarm = next(line for line in lines if line.colour == list(result.bays).index("swarm"))
    assert [(p.x, p.y) for p in swarm.points] == [(n, metric[n].values["swarm"].median) for n in (1, 10, 30)]
    assert [row[0] for row in f.rows] == ["1 instance", "10 instances", "30 instances"]
    assert "serve-rate-by-instances" not in figures


def _life(at: float, name: str, label: str, **data: Any) -> Observation:
    return Observation(trial="t", at=at, name=name, data={"label": label, "step": "create", "nodes": 2, "bays": 2, **data})


def test_nodes_that_come_and_go_are_drawn_and_counted(run: Any) -> None:
    result, _ = run
    trial = next(t for t in result.trials if t.status == "ok")
    facts = [
        *(_life(100, "life.begin", label) for label in ("a", "b")),
        _life(104, "bay.nodes", "a", ready=1),
        _life(106, "bay.nodes", "a", ready=2),
        _life(106, "life.end", "a", have=2),
        _life(108, "bay.nodes", "b", ready=2),
        _life(109, "life.failed", "b", reason="quota"),
        _life(120, "bay.nodes", "a", ready=1),  # replaced: one fewer,
        _life(125, "bay.nodes", "a", ready=2),  # and one more
        _life(140, "life.end", "a", have=0),
    ]
    told = [Observation(trial=trial.id, at=o.at, name=o.name, data=o.data) for o in facts]
    [drawn] = [f for f in plots.all_figures(plots.source(result, told)) if f.slug.endswith("machines")]
    there, rates = drawn.panels
    [line] = there.items
    assert isinstance(line, figure.Line)
    assert [(p.x, p.y) for p in line.points] == [(0, 0), (4, 1), (6, 2), (8, 4), (20, 3), (25, 4), (40, 2), (40, 2)]
    made, gone = rates.items
    assert isinstance(made, figure.Line) and isinstance(gone, figure.Line) and gone.dashed
    assert sum(p.y for p in made.points[:-1]) == 5 * 3600 and sum(p.y for p in gone.points[:-1]) == 3 * 3600  # in bins of 1 s
    assert drawn.rows[0][1:5] == ("1", "4", "5", "3")
    ET.fromstring(svg.draw(drawn, theme="dark"))
    assert not [f for f in plots.all_figures(plots.source(result)) if f.slug.endswith("machines")]


def told(name: str, values: dict[str, list[float]], factors: dict[str, Any] | None = None, **more: Any) -> Any:
    """A metric of the scenario "x": each subject's trials."""
    from coebench.contract import Better
    from coebench.results.model import MetricResult, SampleValue, Values

    cells = {}
    for subject, xs in values.items():
        samples = tuple(SampleValue(trial=f"{i}", block=i, value=x, **more) for i, x in enumerate(xs))
        cells[subject] = Values(n=len(xs), median=sorted(xs)[len(xs) // 2], samples=samples)
    return MetricResult(scenario="x", name=name, unit="s", better=Better.LOWER, title=name, factors=factors or {}, values=cells)


def slugs(*metrics: Any) -> list[str]:
    from coebench.results.model import BayResult, Result, RunInfo, ScenarioInfo

    bays = {"k8s": BayResult(coe="k8s"), "swarm": BayResult(coe="swarm")}
    result = Result(run=RunInfo(id="r"), bays=bays, scenarios=(ScenarioInfo(name="x"),), metrics=metrics)
    return [f.slug for f in plots.all_figures(plots.source(result))]


def test_what_is_the_same_in_every_trial_has_no_picture() -> None:
    assert slugs(told("m", {"k8s": [0.0, 0.0], "swarm": [0.0, 0.0]})) == []
    assert slugs(told("m", {"k8s": [0.0, 0.0], "swarm": [0.0, 0.1]})) == ["x-m-trials"]
    assert slugs(told("m", {"k8s": [5.0, 5.0]}, censored=True)) == ["x-m-trials"], "above 5, and who knows how far"
    assert slugs(told("m", {"k8s": [5.0]})) == ["x-m-trials"]
    kinds = [told("m", {"k8s": [0.0], "swarm": [0.0]}, {"fault": f}) for f in ("kill", "cut")]
    assert slugs(*kinds) == []


def test_single_trials_of_several_kinds_are_a_matrix_alone() -> None:
    def of(trials: int) -> list[Any]:
        values = [[1.0 + i for i in range(trials)], [3.0] * trials]
        return [told("m", {"k8s": v, "swarm": [2.0]}, {"fault": f}) for f, v in zip(("kill", "cut"), values, strict=True)]

    assert slugs(*of(1)) == ["x-m-matrix"]
    assert slugs(*of(2)) == ["x-m-matrix", "x-m-trials"]


def test_names_of_columns_take_the_lines_they_need() -> None:
    from coebench.results.model import BayResult, Result, RunInfo, ScenarioInfo

    bays = {"k8s": BayResult(coe="k8s", engine="Kubernetes"), "swarm": BayResult(coe="swarm", engine="Docker Swarm with overlay")}
    kinds = [f"replace an image, {n} instances at once" for n in (1, 10)]  # leaves little room for columns
    rows = tuple(told("m", {"k8s": [1.0], "swarm": [2.0]}, {"operation": k}) for k in kinds)
    result = Result(run=RunInfo(id="r"), bays=bays, scenarios=(ScenarioInfo(name="x"),), metrics=rows)
    (f,) = plots.all_figures(plots.source(result))
    texts = [t for t in ET.fromstring(svg.draw(f, 300)).itertext() if t.strip()]
    assert {"Kubernetes", "Docker Swarm", "with overlay"} <= set(texts), texts


def test_a_matrix_is_darker_where_there_is_more_and_palest_where_there_is_nothing() -> None:
    from coebench.report.plots import matrix

    shade = matrix._shades([0.0, 1.0, 10.0, 100.0])
    assert shade(0.0) == 0.0 < shade(1.0) < shade(10.0) < shade(100.0) == 1.0
    assert matrix._shades([0.0, 8.0])(8.0) > matrix._shades([0.0, 8.0])(0.0)
    assert matrix._shades([2.0, 4.0])(2.0) == 0.0
    assert 0 < matrix._shades([3.0, 3.0])(3.0) < 1
