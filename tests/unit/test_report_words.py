"""Numbers and sentences."""

from __future__ import annotations

import pytest

from coebench.contract import Better
from coebench.report import words
from coebench.report.table import table
from coebench.results.model import BayResult, MetricResult, Ratio, Result, RunInfo, Values


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.001234, "0.00123"),
        (0.5, "0.500"),
        (1.0, "1.00"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (123.4, "123"),
        (1234.6, "1235"),
        (1e9, "1000000000"),
        (-1.5, "-1.50"),
    ],
)
def test_three_digits(value, text):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [
        ("s", [0.02, 0.9], "ms"),
        ("s", [0.02, 1.1], "s"),
        ("s", [1e-5], "µs"),
        ("ms", [0.4], "µs"),
        ("ms", [9000], "ms"),
        ("ms", [12000], "s"),
        ("1/s", [9999], "1/s"),
        ("1/s", [25000, 3], "1000/s"),
        ("B", [3 << 30], "GiB"),
        ("%", [1000], "%"),
        ("s", [], "s"),
        ("s", [0], "s"),
        ("s", [float("inf")], "s"),
    ],
)
def test_one_unit_for_a_row(unit, values, expected):
    assert words.scale(unit, values).unit == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (8.44, "8.4 s"), (75, "75 s"), (125, "2 min 5 s"), (600, "10 min"), (4320, "1 h 12 min")],
)
def test_durations(seconds, text):
    assert words.seconds(seconds) == text


def test_settings():
    assert words.setting({"instances": 10, "routing": "endpoints"}) == "10 instances, routing endpoints"
    assert words.setting({"instances": 1, "rate": 1000.0}) == "1 instance, rate 1000"


def test_names():
    bays = {
        "k8s": BayResult(coe="k8s", engine="Kubernetes"),
        "swarm-a": BayResult(coe="swarm", engine="Docker Swarm"),
        "x": BayResult(coe="x"),
    }
    assert words.names(bays) == {"k8s": "Kubernetes", "swarm-a": "swarm-a", "x": "x"}


def metric(ratios, medians, better=Better.LOWER, **values):
    cells = {s: Values(median=m, n=5) for s, m in medians.items()} | values
    return MetricResult(scenario="s", name="m", unit="s", better=better, title="heals", values=cells, ratios=tuple(ratios))


CALLED = {"a": "A", "b": "B", "c": "C"}


def test_faster_than_both():
    m = metric(
        [
            Ratio(a="a", b="b", ratio=2.0, low=1.8, high=2.5, distinguishable=True),
            Ratio(a="a", b="c", ratio=0.5, low=0.4, high=0.6, distinguishable=True),
            Ratio(a="b", b="c", ratio=0.25, low=0.2, high=0.3, distinguishable=True),
        ],
        {"a": 2.0, "b": 1.0, "c": 4.0},
    )
    assert words.sentence(m, CALLED) == "Heals: B 2.0× (1.8–2.5) faster than A and 4.0× (3.3–5.0) faster than C."


def test_higher_is_better():
    m = metric(
        [Ratio(a="a", b="b", ratio=2.0, low=1.8, high=2.5, distinguishable=True)],
        {"a": 2.0, "b": 1.0},
        better=Better.HIGHER,
    )
    assert words.sentence(m, CALLED) == "Heals: A 2.0× (1.8–2.5) higher than B."


def test_no_end_above():
    m = metric(
        [Ratio(a="a", b="b", low=5.2, distinguishable=True)],
        {"b": 1.0},
        a=Values(above=60.0, n=5, censored=5),
    )
    assert words.sentence(m, CALLED) == "Heals: B at least 5.2× faster than A (A: 5 of 5 timed out)."


def test_failures_are_said_with_it():
    m = metric(
        [Ratio(a="a", b="b", ratio=0.5, low=0.4, high=0.6, distinguishable=True)],
        {"b": 1.0},
        a=Values(median=0.5, n=4, failed=1),
    )
    assert words.sentence(m, CALLED) == "Heals: A 2.0× (1.7–2.5) faster than B (A: 1 of 5 failed)."


def test_against_nothing_at_all():
    ratio = Ratio(a="a", b="b", ratio=0.0, low=0.0, high=0.0, distinguishable=True)
    assert words.sentence(metric([ratio], {"a": 0.0, "b": 5.0}), CALLED) == "Heals: A faster than B."
    some = Ratio(a="a", b="b", ratio=0.0, low=0.0, high=0.25, distinguishable=True)
    assert words.sentence(metric([some], {"a": 0.0, "b": 5.0}), CALLED) == "Heals: A at least 4.0× faster than B."


def test_nothing_to_say():
    assert words.sentence(metric([], {"a": 1.0}), CALLED) == ""
    few = Ratio(a="a", b="b", ratio=2.0, reason="too few trials to tell (1; 4 are needed)")
    assert words.sentence(metric([few], {"a": 2.0, "b": 1.0}), CALLED) == ""
    assert words.sentence(metric([few], {"a": 2.0, "b": 1.0}, better=Better.NEITHER), CALLED) == ""


@pytest.mark.parametrize(("scenario", "printed"), [("deploy", 0), ("heal", 1)])
def test_heal_prints_every_timeout_even_of_one_column(scenario, printed):
    """A failure's figures are mostly these; elsewhere they are told where columns differ."""
    rows = (MetricResult(scenario=scenario, name="x", unit="s", better=Better.LOWER, title="x"),)
    bays = {"swarm": BayResult(coe="swarm", engine="Swarm", version="1", timeouts={"beat": "5s"}, timeout_profile="stock")}
    told = table(Result(run=RunInfo(id="r"), bays=bays, metrics=rows)).timeouts
    assert [said for _, said in told] == ["beat 5s (stock)"] * printed
