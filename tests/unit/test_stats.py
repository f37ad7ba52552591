"""The statistics against scipy, which shares no code with them, and against simulation."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from coebench.contract import Better
from coebench.results import stats
from coebench.results.stats import Sampled, best, compare, compare_all, instability, mad, median, median_interval

INF = math.inf


def lognormal(rng, n, sigma=0.1, times=1.0):
    return times * np.exp(sigma * rng.standard_normal(n))


# the interval of the median


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 50])
def test_median_interval_cuts_as_the_binomial_says(n):
    values = np.arange(1.0, n + 1)
    interval = median_interval(Sampled.of(values))
    k = int(interval.low) - 1
    assert interval.high == n - k
    assert interval.level == pytest.approx(1 - 2 * scipy.stats.binom.cdf(k, n, 0.5))
    assert interval.level >= 0.95 or k == 0
    assert 1 - 2 * scipy.stats.binom.cdf(k + 1, n, 0.5) < 0.95  # no tighter one would do


@pytest.mark.parametrize("n", [3, 5, 6, 10, 20])
def test_median_interval_covers_as_often_as_it_says(n):
    rng = np.random.default_rng(n)
    trials = 4000
    # Skewed, with a true median of 1.
    hits = 0
    for row in rng.exponential(size=(trials, n)) / math.log(2):
        interval = median_interval(Sampled.of(row))
        hits += interval.low <= 1 <= interval.high
    error = math.sqrt(interval.level * (1 - interval.level) / trials)
    assert hits / trials == pytest.approx(interval.level, abs=3.5 * error)


def test_five_trials_do_not_reach_95_percent_and_say_so():
    interval = median_interval(Sampled.of([5.0, 1.0, 3.0, 2.0, 4.0]))
    assert interval == (1.0, 5.0, 0.9375)


def test_the_bootstrap_claims_more_than_it_has_at_five():
    """Why the interval of the median isn't a bootstrap: it would be the same range, and called 95 %."""
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    ci = scipy.stats.bootstrap((values,), np.median, method="percentile", rng=np.random.default_rng(1))
    assert tuple(ci.confidence_interval) == (1.0, 5.0)


def test_mad_is_scipys():
    values = np.random.default_rng(3).lognormal(size=11)
    assert mad(values) == pytest.approx(scipy.stats.median_abs_deviation(values))
    assert math.isnan(mad([]))


# the interval of the ratio


def ratio_of_medians(x, y, axis=-1):
    return np.median(x, axis=axis) / np.median(y, axis=axis)


@pytest.mark.parametrize(("n", "m", "paired"), [(15, 15, True), (31, 31, True), (15, 15, False), (20, 12, False)])
def test_bootstrap_is_scipys(n, m, paired):
    rng = np.random.default_rng(n)
    blocks = lognormal(rng, max(n, m), 0.3) if paired else np.ones(max(n, m))
    x, y = lognormal(rng, n, 0.2, 1.5) * blocks[:n], lognormal(rng, m, 0.2) * blocks[:m]
    ours = stats._bootstrap(
        a=Sampled.of(x),
        b=Sampled.of(y),
        alpha=0.05,
        resamples=20_000,
        seed=1,
        streams=(0, 0) if paired else (0, 1),
    )
    theirs = scipy.stats.bootstrap(
        (x, y), ratio_of_medians, paired=paired, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2)
    ).confidence_interval
    assert ours == pytest.approx(tuple(theirs), rel=0.02)


@pytest.mark.parametrize("n", [4, 5, 6, 7, 8, 12])
def test_resampled_medians_are_numpys(n):
    rng = np.random.default_rng(n)
    values = rng.choice([1.0, 2.0, 2.0, 3.5, 9.0, INF], n)
    drawn = np.random.default_rng((4, n, 0)).integers(0, n, (500, n))
    assert np.array_equal(stats._medians(values, stats._resamples(n, 500, 4, 0)), np.median(values[drawn], axis=1))


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 5), (5, 4), (7, 5), (10, 10)])
def test_unpaired_rank_interval_inverts_scipys_mann_whitney(n, m):
    rng = np.random.default_rng(n * m)
    x, y = lognormal(rng, n, 0.3, 1.4), lognormal(rng, m, 0.3)
    low, high = stats._mann_whitney(Sampled.of(x), Sampled.of(y), 0.05)

    def p(ratio):
        return scipy.stats.mannwhitneyu(x / ratio, y, method="exact").pvalue

    for edge, inside in ((low, 1 + 1e-9), (high, 1 - 1e-9)):
        assert p(edge * inside) > 0.05
        assert p(edge / inside) <= 0.05


@pytest.mark.parametrize("n", [6, 7, 10, 20])
def test_paired_rank_interval_inverts_scipys_wilcoxon(n):
    rng = np.random.default_rng(n)
    x, y = lognormal(rng, n, 0.3, 1.4), lognormal(rng, n, 0.3)
    low, high = stats._signed_rank(Sampled.of(x), Sampled.of(y), 0.05)

    def p(ratio):
        return scipy.stats.wilcoxon(np.log(x / y / ratio), method="exact").pvalue

    for edge, inside in ((low, 1 + 1e-9), (high, 1 - 1e-9)):
        assert p(edge * inside) > 0.05
        assert p(edge / inside) <= 0.05


def test_the_normal_approximation_takes_over_without_a_step():
    exact = stats._u_cut(40, 40, 0.05)
    z = scipy.stats.norm.isf(0.025)
    assert exact == pytest.approx(800 - z * math.sqrt(1600 * 81 / 12), abs=2)
    assert stats._u_cut(41, 41, 0.05) == pytest.approx(exact * 41**2 / 40**2, rel=0.03)


@pytest.mark.parametrize(("n", "block"), [(5, 0.0), (5, 0.3), (7, 0.0), (7, 0.3), (12, 0.2)])
def test_a_thing_compared_with_itself_is_seldom_different(n, block):
    """Three columns of the same: a row may show any difference in 5 % of the cases."""
    rng = np.random.default_rng(n)
    rows, different, best_found = 500, 0, 0
    for _ in range(rows):
        blocks = np.exp(block * rng.standard_normal(n))
        found = compare_all({s: Sampled.of(lognormal(rng, n) * blocks) for s in "abc"}, resamples=2000)
        different += any(c.distinguishable for c in found.values())
        best_found += best(found, Better.LOWER) is not None
    assert different / rows < 0.05 + 2 * math.sqrt(0.05 * 0.95 / rows)
    assert best_found <= different


@pytest.mark.parametrize("n", [5, 10, 20])
def test_the_ratios_interval_covers_the_truth(n):
    rng = np.random.default_rng(n)
    hits, rows = 0, 400
    for _ in range(rows):
        # Different shapes with medians of 1.3 and 1: what neither of the two intervals is made for alone.
        x = 1.3 * (1 + rng.exponential(0.5, n)) / (1 + 0.5 * math.log(2))
        c = compare(Sampled.of(x), Sampled.of(lognormal(rng, n, 0.05)), resamples=2000)
        hits += c.low <= 1.3 <= c.high
    assert hits / rows > 0.93


def test_a_clear_difference_is_found_at_five_trials_of_three():
    rng = np.random.default_rng(5)
    found = compare_all({s: Sampled.of(lognormal(rng, 5, 0.05, t)) for s, t in (("a", 2), ("b", 1), ("c", 1.6))})
    assert all(c.distinguishable for c in found.values())
    assert best(found, Better.LOWER) == "b"
    assert best(found, Better.HIGHER) == "a"
    assert best(found, Better.NEITHER) is None
    c = found["a", "b"]
    assert c.low < c.ratio < c.high and c.ratio == pytest.approx(2, rel=0.1)


def test_pairs_by_block_take_out_what_a_block_does():
    rng = np.random.default_rng(6)
    blocks = np.exp(0.5 * rng.standard_normal(10))
    x, y = lognormal(rng, 10, 0.02, 1.2) * blocks, lognormal(rng, 10, 0.02) * blocks
    paired = compare(Sampled.of(x), Sampled.of(y))
    apart = compare(Sampled.of(x), Sampled.of(y, block=range(101, 111)))
    assert paired.paired and paired.distinguishable
    assert not apart.paired and not apart.distinguishable


def test_a_missing_block_leaves_the_others_paired():
    rng = np.random.default_rng(7)
    blocks = np.exp(0.5 * rng.standard_normal(12))
    x, y = lognormal(rng, 12, 0.02, 1.2) * blocks, lognormal(rng, 12, 0.02) * blocks
    c = compare(Sampled.of(x[1:], block=range(2, 13)), Sampled.of(y))
    assert c.paired


# the corners


def test_one_trial_has_no_interval_and_no_verdict():
    assert median_interval(Sampled.of([3.0])) is None
    c = compare(Sampled.of([3.0]), Sampled.of([1.0]))
    assert c.ratio == 3.0 and not c.distinguishable and "too few trials" in c.reason


@pytest.mark.parametrize("n", [2, 3])
def test_few_trials_show_their_range_and_no_verdict(n):
    a, b = Sampled.of([10.0 + i for i in range(n)]), Sampled.of([1.0] * n)
    interval = median_interval(a)
    assert (interval.low, interval.high) == (10.0, 9.0 + n) and interval.level < 0.95
    c = compare(a, b)
    assert not c.distinguishable and "4 are needed" in c.reason
    assert (c.low, c.high) == (10.0, 9.0 + n)


def test_no_values():
    nothing = Sampled.of([])
    assert all(map(math.isnan, median(nothing)))
    assert median_interval(nothing) is None
    assert compare(nothing, Sampled.of([1.0])).reason == "no values"
    assert compare_all({"a": nothing, "b": Sampled.of([1.0, 2.0])}) == {}
    assert best({}, Better.LOWER) is None


def test_zero_variance():
    same = compare(Sampled.of([2.0] * 5), Sampled.of([2.0] * 5))
    assert (same.ratio, same.low, same.high, same.distinguishable) == (1.0, 1.0, 1.0, False)
    other = compare(Sampled.of([3.0] * 5), Sampled.of([2.0] * 5))
    assert (other.ratio, other.low, other.high, other.distinguishable) == (1.5, 1.5, 1.5, True)


def test_ties_widen():
    c = compare(Sampled.of([1.0, 1.0, 2.0, 2.0, 2.0]), Sampled.of([1.0, 1.0, 1.0, 2.0, 2.0]))
    assert not c.distinguishable and c.low <= 1 <= c.high


def test_zeros():
    none, some = Sampled.of([0.0] * 5), Sampled.of([3.0, 4.0, 5.0, 6.0, 7.0])
    assert compare(none, none).ratio == 1.0 and not compare(none, none).distinguishable
    c = compare(none, some)
    assert (c.ratio, c.low, c.high, c.distinguishable) == (0.0, 0.0, 0.0, True)
    c = compare(some, none)
    assert math.isinf(c.low) and c.distinguishable


def test_values_below_zero_have_no_ratio():
    c = compare(Sampled.of([-1.0, 1, 2, 3, 4]), Sampled.of([1.0, 2, 3, 4, 5]))
    assert math.isnan(c.ratio) and not c.distinguishable and c.reason


def test_not_a_number_is_refused():
    with pytest.raises(ValueError):
        Sampled.of([1.0, math.nan])
    with pytest.raises(ValueError):
        Sampled.of([2.0], [1.0])


# censored values


def test_censored_median_is_a_bound_where_it_falls_among_them():
    few = Sampled.of([1.0, 2.0, 3.0, 60.0, 60.0], [1.0, 2.0, 3.0, INF, INF])
    assert median(few) == (3.0, 3.0)
    assert median_interval(few)[:2] == (1.0, INF)
    many = Sampled.of([1.0, 2.0, 60.0, 60.0, 60.0], [1.0, 2.0, INF, INF, INF])
    assert median(many) == (60.0, INF)


def test_all_censored():
    late, good = Sampled.of([60.0] * 5, [INF] * 5), Sampled.of([1.0, 1.1, 1.2, 1.3, 1.4])
    c = compare(late, good)
    assert math.isnan(c.ratio) and c.distinguishable and 40 < c.low <= 60 and math.isinf(c.high)
    c = compare(good, late)
    assert c.low == 0 and c.high < 1 / 40 and c.distinguishable
    both = compare(late, late)
    assert not both.distinguishable and both.low == 0 and math.isinf(both.high)


def test_all_censored_paired():
    late, good = Sampled.of([60.0] * 8, [INF] * 8), Sampled.of(np.linspace(1, 2, 8))
    c = compare(late, good)
    assert c.paired and c.distinguishable and 30 <= c.low <= 60 and math.isinf(c.high)
    assert not compare(late, late).distinguishable


def test_a_limit_below_the_others_values_proves_nothing():
    c = compare(Sampled.of([5.0] * 5, [INF] * 5), Sampled.of([8.0, 9.0, 10.0, 11.0, 12.0]))
    assert not c.distinguishable


def test_lower_bounds_can_show_one_direction_only():
    bound = Sampled.of([100.0, 101, 102, 103, 104], [INF] * 5)
    assert compare(bound, Sampled.of([50.0, 51, 52, 53, 54])).distinguishable
    assert not compare(bound, Sampled.of([200.0, 201, 202, 203, 204])).distinguishable


# properties

positive = st.floats(min_value=1e-3, max_value=1e6)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(positive, min_size=5, max_size=9),
    st.lists(positive, min_size=5, max_size=9),
    st.integers(0, 5),
)
def test_intervals_hold_what_they_should(x, y, late):
    a, b = Sampled.of(x), Sampled.of(y)
    c = compare(a, b, resamples=200)
    assert c.low <= c.ratio <= c.high
    assert c.distinguishable == (not c.low <= 1 <= c.high)
    # What is not known can't make an interval tighter.
    censored = compare(Sampled.of(x, [INF] * late + x[late:]), b, resamples=200)
    assert censored.low <= c.low * (1 + 1e-9) and censored.high >= c.high * (1 - 1e-9)
    # Nor does the unit matter.
    scaled = compare(Sampled.of([1000 * v for v in x]), Sampled.of([1000 * v for v in y]), resamples=200)
    assert (scaled.low, scaled.high) == pytest.approx((c.low, c.high))


@settings(max_examples=40, deadline=None)
@given(st.integers(7, 12).flatmap(lambda n: st.tuples(*[st.lists(positive, min_size=n, max_size=n)] * 2)))
def test_turned_round_it_says_the_same(xy):
    a, b = map(Sampled.of, xy)
    one, other = compare(a, b, resamples=200), compare(b, a, resamples=200)
    assert (one.low * other.high, one.high * other.low) == pytest.approx((1, 1), rel=1e-6)
    assert one.distinguishable == other.distinguishable


def test_deterministic_and_seeded():
    rng = np.random.default_rng(9)
    a, b = Sampled.of(lognormal(rng, 9, 0.4)), Sampled.of(lognormal(rng, 8, 0.4))
    assert compare(a, b, seed=3) == compare(a, b, seed=3)
    assert stats._resamples(5, 100, 1, 0).tobytes() != stats._resamples(5, 100, 2, 0).tobytes()


def test_fast_enough():
    """100 metrics of 3 subjects with 10,000 resamples: 0.25 s alone on one core; the limit leaves room for a busy one."""
    rng = np.random.default_rng(0)
    rows = [{s: Sampled.of(rng.lognormal(size=5)) for s in "abc"} for _ in range(100)]
    began = time.process_time()
    for row in rows:
        compare_all(row)
    assert time.process_time() - began < 1.0


# what should not be quoted


def test_instability_names_the_cause():
    rng = np.random.default_rng(1)
    assert instability(Sampled.of(lognormal(rng, 10, 0.02))) is None
    assert "scatter" in instability(Sampled.of([1.0, 1.3, 0.7, 1.6, 0.8]))
    assert "about" in instability(Sampled.of([1.0, 1.3, 0.7, 1.6, 0.8]))
    odd = instability(Sampled.of([1.0, 1.01, 1.02, 4.0, 0.99]))
    assert "block 4" in odd and "4.0 times" in odd


def test_drift_is_told_from_scatter():
    rising = [1.0 + 0.05 * i for i in range(8)]
    assert "rise from block to block" in instability(Sampled.of(rising))
    assert "fall from block to block" in instability(Sampled.of(rising[::-1]))
    assert instability(Sampled.of([1.0 + 0.001 * i for i in range(8)])) is None
    shuffled = [rising[i] for i in (3, 6, 0, 7, 1, 5, 2, 4)]
    assert "block to block" not in (instability(Sampled.of(shuffled)) or "")


def test_instability_needs_three_known_values():
    assert instability(Sampled.of([1.0, 9.0])) is None
    assert instability(Sampled.of([1.0, 60.0, 60.0], [1.0, INF, INF])) is None
    assert instability(Sampled.of([0.0, 0.0, 0.0])) is None
    assert instability(Sampled.of([2.0] * 5)) is None


def test_needed_trials():
    assert [stats.needed(0.05 / pairs) for pairs in (1, 3, 6, 10)] == [4, 5, 5, 6]
