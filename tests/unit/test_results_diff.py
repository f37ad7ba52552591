"""Two runs set side by side: verdicts that hold, and runs that must not be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.stats
from golden import FORMAT_1, FORMAT_2
from synthetic import SCENARIOS, Synthetic
from typer.testing import CliRunner

from coebench.cli.main import app
from coebench.contract import BadInput, Better
from coebench.results import comparable, diff, gates
from coebench.results.derive import derive
from coebench.results.diff import Change, Diff
from coebench.results.model import BayResult, MetricResult, Result, RunInfo, SampleValue, Values

LAB: Mapping[str, Any] = {"plan": {"provisioner": "lab", "settings": {"deploy": {"n": 3}, "serve": {"rate": 10}}}}


def values(*xs: float, censored: int = 0, failed: int = 0, timed_out: int = 0) -> Values:
    samples = tuple(SampleValue(trial=f"b{i}", block=i, value=x, censored=i > len(xs) - censored) for i, x in enumerate(xs, 1))
    return Values(
        median=float(np.median(xs)) if xs else None,
        n=len(xs),
        censored=censored,
        failed=failed,
        timed_out=timed_out,
        samples=samples,
    )


def run(
    better: Better = Better.LOWER, scenario: str = "deploy", host: Mapping[str, Any] | None = None, **cells: Values
) -> Result:
    m = MetricResult(scenario=scenario, name="last", unit="s", better=better, title="last", values=cells)
    return Result(
        run=RunInfo(id="r", host=host or {}), metrics=(m,), bays={s: BayResult(coe="swarm", provisioner="lab") for s in cells}
    )


def one(a: Values, b: Values, better: Better = Better.LOWER, margin: float = 0.1) -> Change:
    [change] = diff.diff(run(better, x=a), run(better, x=b), margin=margin).changes
    return change


NEAR = (1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 1.01, 0.99)


@pytest.mark.parametrize(
    ("a", "b", "better", "verdict"),
    [
        (NEAR, NEAR, Better.LOWER, "same"),
        (NEAR, [2 * x for x in NEAR], Better.LOWER, "worse"),
        (NEAR, [2 * x for x in NEAR], Better.HIGHER, "better"),
        (NEAR, [x / 2 for x in NEAR], Better.LOWER, "better"),
        (NEAR, [x / 2 for x in NEAR], Better.HIGHER, "worse"),
        (NEAR, (0.5, 2.0, 1.0, 1.5, 0.7), Better.LOWER, "can't tell"),
        (NEAR[:3], [9 * x for x in NEAR[:3]], Better.LOWER, "can't tell"),  # three trials never show anything
        (NEAR[:1], NEAR[:1], Better.LOWER, "can't tell"),
        ((0.0,) * 6, (0.0,) * 6, Better.LOWER, "same"),
        ((0.0,) * 6, (1.0,) * 6, Better.LOWER, "worse"),
        ((1.0,) * 6, (0.0,) * 6, Better.LOWER, "better"),
        ((-1.0,) * 6, (1.0,) * 6, Better.LOWER, "can't tell"),
        ((1.0,) * 6, (1.0,) * 6, Better.LOWER, "same"),
        ((1.0,) * 6, (1.05,) * 6, Better.LOWER, "same"),  # it is different, and by less than the margin
        ((1.0,) * 6, (1.2,) * 6, Better.LOWER, "worse"),
    ],
)
def test_verdicts(a, b, better, verdict):
    assert one(values(*a), values(*b), better).verdict == verdict


def test_the_margin_is_the_users():
    a, b = values(*NEAR), values(*[1.15 * x for x in NEAR])
    assert one(a, b).verdict == "worse"
    assert one(a, b, margin=0.3).verdict == "same"


def test_a_ratio_is_the_second_over_the_first():
    c = one(values(*NEAR), values(*[2 * x for x in NEAR]))
    assert c.ratio == pytest.approx(2) and c.low is not None and c.high is not None and c.low <= 2 <= c.high


def test_censored_values_are_bounds():
    c = one(values(*NEAR), values(*([60.0] * 8), censored=8))
    assert c.verdict == "worse" and c.ratio is None and c.high is None
    c = one(values(*([60.0] * 8), censored=8), values(*([60.0] * 8), censored=8))
    assert c.verdict == "can't tell"


def test_a_thing_compared_with_itself_is_seldom_different():
    rng = np.random.default_rng(3)
    verdicts = [
        one(values(*rng.lognormal(0, 0.2, 5)), values(*rng.lognormal(0, 0.2, 5))).verdict in ("worse", "better")
        for _ in range(300)
    ]
    assert sum(verdicts) <= 300 * 0.05


def test_all_subjects_of_a_row_hold_together():
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(200):
        a, b = (run(**{s: values(*rng.lognormal(0, 0.2, 6)) for s in "xyz"}) for _ in "ab")
        wrong += any(c.verdict in ("worse", "better") for c in diff.diff(a, b).changes)
    assert wrong <= 200 * 0.05


@pytest.mark.parametrize("table", [(5, 0, 0, 5), (3, 2, 1, 4), (0, 5, 0, 5), (1, 9, 8, 2), (10, 0, 3, 7), (2, 0, 0, 1)])
def test_fisher_is_scipys(table):
    bad_b, good_b, bad_a, good_a = table
    theirs = scipy.stats.fisher_exact([[bad_b, good_b], [bad_a, good_a]]).pvalue
    assert diff._fisher(*table) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("a", "b", "verdict", "says"),
    [
        (values(*NEAR), values(failed=8), "worse", "8 of 8 trials failed or timed out, before 0 of 8"),
        (values(failed=8), values(*NEAR), "better", "0 of 8 trials failed or timed out, before 8 of 8"),
        (values(*NEAR[:2]), values(failed=2), "can't tell", "the second run has none; 2 of 2"),
        (values(), values(), "can't tell", "neither run has"),
        (values(*NEAR), values(0.1, 0.1, failed=6), "worse", "6 of 8"),
        (values(*NEAR), values(*([0.5] * 7), failed=1), "can't tell", "those that came through are better, but 1 of 8"),
        (values(*NEAR), values(*NEAR[:7], timed_out=1), "same", "1 of 8"),
    ],
)
def test_failures_are_part_of_the_verdict(a, b, verdict, says):
    c = one(a, b)
    assert c.verdict == verdict and says in c.reason


def test_a_scenario_that_only_fails_now_is_worse_though_its_row_is_gone(tmp_path):
    a = derive(Synthetic(tmp_path, run="a", blocks=8, trouble=False).write(), SCENARIOS)
    lost = tuple(
        msgspec.structs.replace(t, status="failed") if t.scenario == "deploy" and t.subject == "k8s" else t for t in a.trials
    )
    gone = tuple(
        msgspec.structs.replace(m, values={s: (v if s != "k8s" else Values(failed=8)) for s, v in m.values.items()})
        for m in a.metrics
        if m.scenario == "serve"
    )
    found = diff.diff(a, msgspec.structs.replace(a, trials=lost, metrics=gone))
    assert {c.verdict for c in found.changes if c.scenario == "deploy" and c.subject == "k8s"} == {"worse"}
    assert {c.verdict for c in found.changes if c.scenario == "deploy" and c.subject == "swarm"} == {"can't tell"}


# what can't be compared


def changed(manifest: Mapping[str, Any], where: str, value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(manifest))
    *path, last = where.split(".")
    at = copy
    for key in path:
        at = at.setdefault(key, {})
    at[last] = value
    return copy


X = values(*NEAR)


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("plan.provisioner", "magnum", "plan.provisioner: lab → magnum"),
        ("plan.workload", "other", "plan.workload: (not said) → other"),
        ("plan.bay.nodes", 5, "plan.bay.nodes: (not said) → 5"),
        ("plan.settings.deploy.n", 4, "plan.settings.deploy.n: 3 → 4"),
        ("plan.later_addition", "x", "plan.later_addition: (not said) → x"),
    ],
)
def test_other_questions_are_refused_with_the_line(where, value, says):
    other = changed(LAB, where, value)
    with pytest.raises(BadInput) as e:
        diff.diff(run(x=X), run(x=X), LAB, other)
    assert says in str(e.value) and "--anyway" in str(e.value) and "\n" not in str(e.value)
    found = diff.diff(run(x=X), run(x=X), LAB, other, anyway=True)
    assert any(str(d) == says for d in found.differences) and found.changes


def test_another_machine_is_refused_where_bays_are_on_it():
    a, b = (run(host={"cpu": c, "cpus": 4, "memory": m}, x=X) for c, m in (("A", 8 << 30), ("B", (8 << 30) - 4096)))
    with pytest.raises(BadInput, match=r"host\.cpu: A → B"):
        diff.diff(a, b, LAB, LAB)
    magnum = changed(LAB, "plan.provisioner", "magnum")
    found = diff.diff(a, b, magnum, magnum)
    assert [(d.kind, d.where) for d in found.differences] == [("remark", "host.cpu")]


def test_a_scenario_with_other_settings_is_left_out_and_the_others_are_compared(tmp_path):
    a = derive(Synthetic(tmp_path, trouble=False).write(), SCENARIOS)
    found = diff.diff(a, a, LAB, changed(LAB, "plan.settings.serve.rate", 20))
    assert {c.scenario for c in found.changes} == {"deploy"}
    assert found.left_out[0].startswith("serve: plan.settings.serve.rate: 10 → 20")


def test_what_was_meant_to_differ_is_told_and_compared():
    a, b = (
        msgspec.structs.replace(run(x=X), bays={"x": BayResult(coe="swarm", version=v, options={})}) for v in ("20.10", "24.0")
    )
    ma = changed(LAB, "subjects", [{"name": "x", "coe": "swarm", "options": {"storage": "overlay2"}}])
    mb = changed(LAB, "subjects", [{"name": "x", "coe": "swarm", "options": {"storage": "vfs"}}])
    found = diff.diff(a, b, ma, mb)
    assert [str(d) for d in found.differences if d.kind == "subject"] == [
        "subjects.x.options.storage: overlay2 → vfs",
        "x.version: 20.10 → 24.0",
    ]


def test_subjects_of_other_names_are_matched_when_told_or_when_there_is_no_choice():
    a, b = run(old=X), run(new=X)
    assert [(c.subject, c.other) for c in diff.diff(a, b).changes] == [("old", "new")]
    b2 = run(new=X, third=X)
    with pytest.raises(BadInput, match=r"no subject in common .*--match OLD=NEW"):
        diff.diff(a, b2)
    assert [c.other for c in diff.diff(a, b2, match={"old": "third"}).changes] == ["third"]
    with pytest.raises(BadInput, match="the second run has no subject 'none'"):
        diff.diff(a, b2, match={"old": "none"})


def test_runs_of_different_scenarios_share_nothing():
    with pytest.raises(BadInput, match="no row in common: one measured deploy, the other serve"):
        diff.diff(run(x=X), run(x=X, scenario="serve"))


def test_a_file_of_json_has_no_manifest_and_that_is_said():
    found = diff.diff(run(x=X), run(x=X), LAB, {})
    assert any("settings are not compared" in d.b for d in found.differences)


# gates


def gated(text: str, d: Diff) -> bool:
    return diff.judge([gates.parse(text)], d)[0].passed


def test_gates_on_differences():
    d = diff.diff(run(x=X, y=X), run(x=values(*[2 * v for v in NEAR]), y=X))
    for text, passes in (
        ("worse", False),
        ("worse(x.*)", False),
        ("worse(y.*)", True),
        ("better", True),
        ("ratio(x.deploy.last) > 1.5", False),
        ("ratio(x.deploy.last) > 2.5", True),
        ("ratio_low(x.deploy.last) > 1.5", False),
        ("ratio_high(y.deploy.last) > 1.5", True),
        ("x.deploy.last > 1.5s", False),
        ("y.deploy.last > 1.5s", True),
        ("n(*.deploy.last) < 8", True),
    ):
        assert gated(text, d) is passes, text
    with pytest.raises(BadInput):
        gated("worse(z.*)", d)


def test_an_unknown_ratio_has_not_passed():
    assert not gated("ratio(x.deploy.last) > 9", diff.diff(run(x=X), run(x=values(failed=8))))


# the command


def invoke(*words: str):
    return CliRunner().invoke(app, ["diff", *words])


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("two")
    a = Synthetic(base, run="a", seed=1, blocks=8, trouble=False).write()
    b = Synthetic(base, run="b", seed=2, blocks=8, trouble=False, effect={"k8s": 3.8, "swarm": 1.0, "mesos": 1.05}).write()
    return a, b


@pytest.mark.parametrize("format", ["terminal", "markdown", "json"])
def test_diff_prints_and_gates(two, format):
    done = invoke(*map(str, two), "--format", format, "--fail-if", "worse(k8s.deploy.*)")
    assert done.exit_code == 3 and "FAILED  worse(k8s.deploy.*)" in done.stderr
    if format == "json":
        d = msgspec.json.decode(done.stdout, type=Diff)
        assert {c.verdict for c in d.changes if c.subject == "k8s" and c.scenario == "deploy"} == {"worse"}
        assert all(math.isfinite(c.ratio) for c in d.changes if c.ratio is not None)
    else:
        assert "worse" in done.stdout and "all instances answer" in done.stdout
    if format == "terminal":
        assert max(map(len, done.stdout.splitlines())) <= 80
    assert invoke(*map(str, two), "--format", format, "--fail-if", "worse(swarm.*)").exit_code == 0


def test_diff_refuses_with_one_line():
    done = invoke(str(FORMAT_1), str(FORMAT_2))
    assert isinstance(done.exception, BadInput) and "plan.settings." in str(done.exception)
    assert invoke(str(FORMAT_1), str(FORMAT_2), "--anyway").exit_code == 0
    for words, says in (
        (["--margin", "0"], "--margin 0"),
        (["--format", "xls"], "unknown format"),
        (["--match", "x"], "write OLD=NEW"),
        (["--fail-if", "worse >"], "--fail-if"),
    ):
        done = invoke(str(FORMAT_1), str(FORMAT_1), *words)
        assert isinstance(done.exception, BadInput) and says in str(done.exception)


def test_a_run_and_itself_differ_in_nothing():
    for path in (FORMAT_1, FORMAT_2):
        result = derive(path, {})
        manifest = comparable.manifest(path)
        assert comparable.differences(result, result, manifest, manifest, {s: s for s in result.bays}) == ()
