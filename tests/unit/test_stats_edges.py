"""The statistics at their edges, against scipy: ties, one value, no scatter, all censored."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from coebench.results.stats import Sampled, compare, compare_all, instability, mad, median, median_interval

INF = math.inf


def at_most(x, y, axis=-1):
    """How many pairs have x ≤ y: Mann-Whitney's U with every tie counted whole, which is the cautious way."""
    return (np.expand_dims(x, -1) <= np.expand_dims(y, -2)).sum(axis=(-1, -2)).astype(float)


TIED = [(a, b) for a in itertools.combinations_with_replacement((1.0, 2.0, 3.0), 5) for b in ((1.0, 1, 1, 2, 2), (2.0,) * 5)]


def test_with_ties_a_difference_is_one_for_scipys_exact_permutation_test_too():
    found = 0
    for a, b in TIED:
        c = compare(Sampled.of(a), Sampled.of(b), resamples=500)
        if not c.distinguishable:
            continue
        found += 1
        above, below = (a, b) if c.low > 1 else (b, a)
        exact = scipy.stats.permutation_test(
            (above, below), at_most, vectorized=False, alternative="less", n_resamples=np.inf, permutation_type="independent"
        )
        assert exact.pvalue <= 0.025 + 1e-12, (a, b)
    assert found >= 4


def test_paired_with_ties_and_zeros_a_difference_is_one_for_scipys_exact_wilcoxon_too():
    found = 0
    rng = np.random.default_rng(5)
    for _ in range(60):
        a = rng.choice([1.0, 2.0, 4.0], 7)
        b = a / rng.choice([1.0, 2.0, 2.0, 4.0], 7)
        c = compare(Sampled.of(a), Sampled.of(b), resamples=500)
        assert c.paired
        if c.distinguishable:
            found += 1
            # scipy counts the differences of 0 as it counts the others, half to each side
            theirs = scipy.stats.wilcoxon(np.log(a / b), method=scipy.stats.PermutationMethod(), zero_method="zsplit")
            assert theirs.pvalue <= 0.05 + 1e-9, (a, b)
    assert found


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [2.0] * 7, [1.0, 1.0, 2.0, 2.0, 9.0], list(range(9))])
def test_medians_and_scatter_are_scipys(values):
    of = Sampled.of(values)
    assert median(of) == (scipy.stats.quantile(np.array(values, float), 0.5),) * 2
    assert mad(values) == scipy.stats.median_abs_deviation(values)


@pytest.mark.parametrize("n", [6, 8, 9, 15, 30])
def test_the_interval_of_a_median_with_ties_holds_what_scipys_does(n):
    v = np.random.default_rng(n).integers(0, 5, n).astype(float)
    ours, theirs = median_interval(Sampled.of(v)), scipy.stats.quantile_test(v, p=0.5).confidence_interval(0.95)
    assert ours is not None and ours.low <= theirs.low and ours.high >= theirs.high and ours.level >= 0.95


def test_no_scatter_at_all():
    same = Sampled.of([2.0] * 6)
    assert median_interval(same)[:2] == (2.0, 2.0) and instability(same) is None  # type: ignore[index]
    assert compare(same, same)[:4] == (1.0, 1.0, 1.0, False)
    assert scipy.stats.mannwhitneyu([2.0] * 6, [2.0] * 6, method="asymptotic").pvalue == 1.0
    assert compare(same, Sampled.of([2.0000001] * 6)).distinguishable  # no scatter: any difference is one


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_all_censored_says_what_survival_analysis_says(n):
    """Kaplan and Meier's median does not exist where nothing ever ended; ours is a bound."""
    late = Sampled.of([60.0] * n, [INF] * n)
    estimate = scipy.stats.ecdf(scipy.stats.CensoredData.right_censored([60.0] * n, [True] * n))
    assert estimate.sf.evaluate(60.0) == 1.0
    assert median(late) == (60.0, INF)
    interval = median_interval(late)
    assert interval is None if n == 1 else interval.low == 60 and math.isinf(interval.high)
    assert not compare(late, late).distinguishable and math.isnan(compare(late, late).ratio)
    assert instability(late) is None


def test_some_censored_have_the_median_of_kaplan_and_meier():
    values, late = [1.0, 2.0, 3.0, 60.0, 60.0], [False, False, False, True, True]
    sf = scipy.stats.ecdf(scipy.stats.CensoredData.right_censored(values, late)).sf
    theirs = min(q for q, p in zip(sf.quantiles, sf.probabilities, strict=True) if p <= 0.5)
    assert median(Sampled.of(values, [INF if x else v for v, x in zip(values, late, strict=True)])) == (theirs, theirs)


def test_a_subject_without_values_is_no_pair():
    found = compare_all({"a": Sampled.of([1.0] * 5), "b": Sampled.of([]), "c": Sampled.of([1.0])})
    assert list(found) == [("a", "c")] and "too few" in found["a", "c"].reason
