"""`--slo` as a gate: what it judges, what it says, and that nothing passes by not being known."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from coebench.cli.main import app
from coebench.contract import BadInput, Better
from coebench.results import objective
from coebench.results.model import MetricResult, Result, RunInfo, Values
from coebench.scenarios.serve import Serve
from coebench.scenarios.slo import Slo

METRICS = {m.name: m for m in Serve.metrics}
NONE = Values(failed=5)


def row(name: str, factors: dict | None = None, **values: float | Values) -> MetricResult:
    m = METRICS[name]
    cells = {s: v if isinstance(v, Values) else Values(median=v, low=v, high=v, n=5) for s, v in values.items()}
    return MetricResult(
        scenario="serve", name=name, unit=m.unit, better=m.better, title=m.title, factors=factors or {}, values=cells
    )


def fixed(p99: float | Values = 3.0, errors: float | Values = 0.0, achieved: float | Values = 1000.0, **factors):
    at = dict(factors)
    return (
        row("offered", at, k8s=1000.0),
        row("achieved", at, k8s=achieved),
        row("latency_p99", at, k8s=p99),
        row("errors", at, k8s=errors),
    )


def searched(rate: float | Values, text: str = "p99<20ms,errors<0.1%", **factors) -> MetricResult:
    return row("slo_rate", {**factors, "slo": text}, k8s=rate)


def judged(*rows: MetricResult, text: str = "p99<20ms", **more):
    return objective.judge(Slo.parse(text), Result(run=RunInfo(id="r"), metrics=rows), **more)


FIXED = "the fixed rate, 1,000/s"


@pytest.mark.parametrize(
    ("rows", "passes", "says"),
    [
        (fixed(), True, f"k8s met it at {FIXED}"),
        (fixed(p99=25.0), False, f"k8s missed it at {FIXED}: latency p99 is 25 ms"),
        (fixed(errors=0.2), False, f"k8s missed it at {FIXED}: errors is 0.2 %"),
        (fixed(achieved=900.0), False, f"k8s missed it at {FIXED}: 900/s were achieved, less than 95 %"),
        (fixed(p99=25.0, errors=1.0), False, f"k8s missed it at {FIXED}: latency p99 is 25 ms; errors is 1 %"),
        (fixed(p99=NONE), False, f"k8s missed it at {FIXED}: latency p99 is not known: 5 failed"),
        (
            fixed(p99=Values(median=3.0, n=5, limited="full")),
            False,
            f"k8s missed it at {FIXED}: latency p99 is not known: the generator was the limit (3 ms was measured)",
        ),
        # A search has the say where it came to an end, whatever the fixed rate was.
        ((*fixed(p99=25.0), searched(812.0)), True, "k8s met it up to 812/s"),
        ((*fixed(p99=25.0), searched(Values(median=812.0, n=5, lower_bound="full"))), True, "k8s met it up to 812/s or more"),
        (
            (*fixed(p99=25.0), searched(0.0)),
            False,
            f"k8s met it at no rate that was tried; at {FIXED}: latency p99 is 25 ms",
        ),
        ((*fixed(), searched(NONE)), True, f"k8s met it at {FIXED}"),
        ((*fixed(p99=25.0), searched(NONE)), False, f"k8s missed it at {FIXED}: latency p99 is 25 ms"),
        ((*fixed(p99=25.0), searched(0.0, "p99<9ms,errors<0.1%")), False, f"k8s missed it at {FIXED}: latency p99 is 25 ms"),
        ((row("offered", k8s=NONE),), False, "k8s missed it at the fixed rate: not known: no load at a fixed rate ended"),
    ],
)  # fmt: skip
def test_an_objective_is_judged_by_the_search_else_at_the_fixed_rate(rows, passes, says):
    gate = judged(*rows)
    assert (gate.passed, gate.reason, gate.text) == (passes, says, "--slo p99<20ms,errors<0.1%")


def test_each_point_of_the_grid_and_each_subject_counts():
    gate = judged(*fixed(instances=1), *fixed(p99=30.0, instances=3), searched(900.0, instances=1))
    assert gate.reason == f"k8s[instances=3] missed it at {FIXED}: latency p99 is 30 ms" and not gate.passed
    rows = (row("offered", k8s=1000.0, swarm=1000.0), searched(100.0), row("slo_rate", {"slo": "x"}, swarm=3.0))
    assert not judged(*rows).passed  # nothing is known of swarm


def test_a_routing_that_a_coe_refuses_is_not_held_against_it():
    refused = fixed(p99=Values(), errors=Values(), achieved=Values(), routing="native")
    refused = (row("offered", {"routing": "native"}, k8s=Values()), *refused[1:])
    gate = judged(*fixed(routing="endpoints"), *refused)
    assert gate.passed and gate.reason == f"k8s[routing=endpoints] met it at {FIXED}"
    assert not judged(*refused).passed  # nowhere was it asked


def test_a_run_without_serve_is_refused_and_after_a_run_has_failed():
    other = MetricResult(scenario="deploy", name="last", unit="s", better=Better.LOWER, title="x", values={"k8s": Values()})
    with pytest.raises(BadInput, match="about nothing in this run"):
        judged(other)
    gate = judged(other, strict=False)
    assert not gate.passed and "no load of serve" in gate.reason


def test_report_ends_with_3(tmp_path):
    words = ["report", "docs/example-run", "--format", "junit", "-o", str(tmp_path / "x.xml")]
    runner = CliRunner()
    assert runner.invoke(app, [*words, "--slo", "p99<1s"]).exit_code == 0
    done = runner.invoke(app, [*words, "--slo", "p99<1us"])
    assert done.exit_code == 3 and "FAILED  --slo p99<0.001ms,errors<0.1%: k8s missed it at the fixed rate" in done.stderr
    assert "p99&lt;0.001ms" in (tmp_path / "x.xml").read_text()
    refused = runner.invoke(app, [*words, "--slo", "p98<1s"])
    assert isinstance(refused.exception, BadInput) and "p98" in str(refused.exception)


@pytest.mark.parametrize(("rate", "code"), [(0.0, 3), (812.0, 0)])
def test_compare_ends_with_3_where_no_rate_met_it(rate, code, tmp_path, monkeypatch):
    def execute(run) -> Result:
        run.folder = tmp_path
        assert run.plan.settings["serve"]["slo"] == "p99<20ms"
        return Result(run=RunInfo(id="r"), metrics=(*fixed(p99=25.0), searched(rate)))

    monkeypatch.setattr("coebench.runner.run.Run.execute", execute)
    words = ["compare", "swarm", "--scenarios", "serve", "--slo", "p99<20ms", "--runs", str(tmp_path / "runs"), "--json"]
    done = CliRunner().invoke(app, words)
    assert ("k8s met it at no rate that was tried" in done.stderr) is bool(code), done.stderr
    assert done.exit_code == code
