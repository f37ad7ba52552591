"""What a handful of trials bears: medians, ratios, and when a difference may be called one.

The unit of repetition is the trial, never the request (Kalibera & Jones, ISMM'13). Trials are few (5 by default),
skewed, sometimes censored by a timeout, and run in blocks (each has every subject once, in random order). So:

**Median: exact order-statistic interval.** The interval between the k-th smallest and the k-th largest of n values
covers the median with probability 1 - 2 P(Bin(n, 1/2) < k), whatever the distribution (David & Nagaraja, *Order
Statistics*, 7.1). The largest k that keeps 95 % is taken. At n = 5 even the whole range has 93.75 %, at n = 3 75 %: it
is shown all the same and its level said. A bootstrap can't do better there: at n = 5 the percentile interval of the
median is that same range, while it claims 95 %; and BCa is no cure, because the jackknife that it takes its
acceleration from is inconsistent for a median (Efron & Tibshirani, *An Introduction to the Bootstrap*, 11.6).

**Ratio of medians: the wider of two intervals**, because each covers up for the other's weakness:
  * the percentile bootstrap of the ratio of medians (Efron & Tibshirani, 13.3), which asks nothing of the two
    distributions, but is too narrow below about 10 trials. Blocks are resampled where both subjects have the same
    ones, else each subject's values;
  * the exact rank interval, which keeps its level at every n, but takes the two to differ by a factor only. Paired:
    the Walsh averages of the blocks' log ratios, cut by the null distribution of Wilcoxon's signed rank; unpaired: all
    pairwise ratios, cut by the null distribution of Mann-Whitney's U (Hollander, Wolfe & Chicken, *Nonparametric
    Statistical Methods*, 3.3 and 4.3; the latter is Moses' interval). Paired is used where there are blocks enough to
    decide at all (6 for two subjects, 7 for three), for it takes out what a block does to all its trials.
The wider costs some power (at n = 5 and a true ratio of two standard deviations 0.50 instead of 0.59) and is what keeps
a comparison of a thing with itself from finding differences: tests/unit/test_stats.py simulates it.

**Verdict.** All pairs of subjects in a row are compared; each interval is at 1 - 0.05 / pairs (Bonferroni), so that
the row's intervals hold together at 95 % and the verdict is what the printed interval shows: 1 is in it or not. Holm's
steps would gain a little, and then print an interval that contradicts its verdict. Rows are not corrected against each
other: of 100 rows of identical subjects up to 5 may show a difference; `--aa` measures how many do.

**Censored values** (not within 60 s) and lower bounds are carried as intervals [60, ∞) through every order statistic:
the low end is computed from all low ends, the high end from all high ends. Nothing is ever put in for them.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..contract import Better

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000


class Sampled(NamedTuple):
    """The values of one subject: the truth of the i-th is within [low[i], high[i]] and was seen in block[i].

    Equal ends are an exact value. `high` may be infinite.
    """

    low: Floats
    high: Floats
    block: NDArray[np.int64]

    @classmethod
    def of(cls, low: Sequence[float], high: Sequence[float] | None = None, block: Sequence[int] | None = None) -> Sampled:
        """From plain sequences; exact values where `high` is not given, blocks 1… where `block` isn't."""
        lo = np.asarray(low, dtype=np.float64)
        hi = lo if high is None else np.asarray(high, dtype=np.float64)
        if np.isnan(lo).any() or np.isnan(hi).any() or (hi < lo).any():
            raise ValueError("a value must be a number, and its high end not below its low end")
        return cls(lo, hi, np.arange(1, len(lo) + 1) if block is None else np.asarray(block, dtype=np.int64))

    @property
    def n(self) -> int:
        return len(self.low)


class Interval(NamedTuple):
    """`level`: the probability with which such an interval covers the truth."""

    low: float
    high: float
    level: float


class Comparison(NamedTuple):
    """Median of one over median of the other. `ratio` is NaN where a median is not known exactly."""

    ratio: float
    low: float
    high: float
    distinguishable: bool
    paired: bool
    reason: str = ""


def median(values: Sampled) -> tuple[float, float]:
    """The two ends between which the median lies; equal where it is known, the high one infinite where it is censored.

    NaN, NaN for no values. An even number's median is the mean of the middle two.
    """
    if not values.n:
        return math.nan, math.nan
    return float(np.median(values.low)), float(np.median(values.high))


def median_interval(values: Sampled, level: float = LEVEL) -> Interval | None:
    """Exact order-statistic interval of the median; None for less than two values.

    Where not even the range reaches `level` (n < 6 at 95 %), it is the range, at the level that the range has.
    """
    n = values.n
    if n < 2:
        return None
    k, reached = _order(n, level)
    return Interval(float(np.sort(values.low)[k]), float(np.sort(values.high)[n - 1 - k]), reached)


@functools.cache
def _order(n: int, level: float) -> tuple[int, float]:
    """How many values to cut off each end, and the level of what is left."""
    below, k = 0.5**n, 0  # P(Bin(n, ½) ≤ k)
    while True:
        more = below + math.comb(n, k + 1) * 0.5**n
        if 1 - 2 * more < level:
            return k, 1 - 2 * below
        below, k = more, k + 1


def mad(values: Sequence[float] | Floats) -> float:
    """Median absolute deviation from the median, in the values' unit; 1.4826 times it estimates a normal's sigma."""
    v = np.asarray(values, dtype=np.float64)
    return float(np.median(np.abs(v - np.median(v)))) if len(v) else math.nan


@functools.lru_cache(maxsize=32)
def _resamples(n: int, resamples: int, seed: int, stream: int) -> NDArray[np.uint16]:
    """How often each of n things is drawn in each of `resamples` samples of size n, with the things as rows.

    Shared between metrics, which changes the distribution of none of them.
    """
    drawn = np.random.default_rng((abs(seed), n, stream)).integers(0, n, (resamples, n))
    times = np.zeros((n, resamples), dtype=np.uint16)
    np.add.at(times, (drawn.T, np.arange(resamples)), 1)
    return times


def _medians(values: Floats, times: NDArray[np.uint16]) -> Floats:
    """The median of every resample.

    From the smallest value upwards, count how many draws lie at or below it: the first to pass half of them is the
    median. That is n vector additions of small integers, and ten times as fast as a median of 10,000 rows.
    """
    n = len(values)
    order = np.argsort(values)
    below = np.zeros(times.shape[1], dtype=np.uint16)
    lower, upper = np.zeros_like(below), np.zeros_like(below)
    for row in order:
        below += times[row]
        lower += below <= (n - 1) // 2
        upper += below <= n // 2
    ascending = values[order]
    return ascending[lower] if n % 2 else (ascending[lower] + ascending[upper]) / 2


def _divide(a: Floats, b: Floats) -> Floats:
    """a / b of values that are not negative: 0 / 0 is no difference (1), ∞ / ∞ the caller avoids or gets NaN for."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((a == 0) & (b == 0), 1.0, a / b)


def compare(a: Sampled, b: Sampled, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> Comparison:
    """Compare two subjects' values of one metric; the module's text says how and why.

    `level` is this one comparison's. Deterministic for a seed. Values below zero have no ratio: no verdict then.
    """
    if not a.n or not b.n:
        return Comparison(math.nan, 0.0, math.inf, False, False, "no values")
    if min(a.low.min(), b.low.min()) < 0:
        return Comparison(math.nan, 0.0, math.inf, False, False, "values below zero have no ratio")
    ma, mb = median(a), median(b)
    exact = ma[0] == ma[1] and mb[0] == mb[1] and math.isfinite(ma[0]) and math.isfinite(mb[0])
    ratio = float(_divide(np.array(ma[0]), np.array(mb[0]))) if exact else math.nan
    alpha = 1 - level
    common, ia, ib = np.intersect1d(a.block, b.block, return_indices=True)
    pa = Sampled(a.low[ia], a.high[ia], common)
    pb = Sampled(b.low[ib], b.high[ib], common)
    paired = len(common) >= 2 and 2 * 0.5 ** len(common) <= alpha * (1 + 1e-9)
    rank = _signed_rank(pa, pb, alpha) if paired else _mann_whitney(a, b, alpha)
    if len(common) == a.n == b.n:
        boot = _bootstrap(a=pa, b=pb, alpha=alpha, resamples=resamples, seed=seed, streams=(0, 0))
    else:
        boot = _bootstrap(a=a, b=b, alpha=alpha, resamples=resamples, seed=seed, streams=(0, 1))
    low, high = boot
    reason = ""
    if rank is None:
        # No test without assumptions can call a difference here: the widest interval there is, and no verdict.
        pairs_low, pairs_high = _pairwise(a, b)
        low, high = min(low, pairs_low.min()), max(high, pairs_high.max())
        reason = f"too few trials to tell ({min(a.n, b.n)}; {needed(alpha)} are needed)"
    else:
        low, high = min(low, rank[0]), max(high, rank[1])
    if not math.isnan(ratio):  # medians of all values, where the interval is of the common blocks, may lie outside
        low, high = min(low, ratio), max(high, ratio)
    return Comparison(ratio, float(low), float(high), not reason and not low <= 1 <= high, paired, reason)


def needed(alpha: float) -> int:
    """The least number of trials of two subjects, each, that can show a difference at `alpha`."""
    n = 1
    while 2 / math.comb(2 * n, n) > alpha:
        n += 1
    return n


def _pairwise(a: Sampled, b: Sampled) -> tuple[Floats, Floats]:
    return (
        np.sort(_divide(a.low[:, None], b.high[None, :]), axis=None),
        np.sort(_divide(a.high[:, None], b.low[None, :]), axis=None),
    )


def _mann_whitney(a: Sampled, b: Sampled, alpha: float) -> tuple[float, float] | None:
    cut = _u_cut(a.n, b.n, alpha)
    if cut < 0:
        return None
    low, high = _pairwise(a, b)
    return float(low[cut]), float(high[-1 - cut])


def _signed_rank(a: Sampled, b: Sampled, alpha: float) -> tuple[float, float] | None:
    cut = _w_cut(a.n, alpha)
    if cut < 0:
        return None
    i, j = np.triu_indices(a.n)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.log(_divide(a.low, b.high)), np.log(_divide(a.high, b.low))
        # -∞ + ∞ says nothing about its pair of blocks, so it counts as whatever widens the interval.
        low = np.sort(np.nan_to_num((low[i] + low[j]) / 2, nan=-np.inf, posinf=np.inf, neginf=-np.inf))
        high = np.sort(np.nan_to_num((high[i] + high[j]) / 2, nan=np.inf, posinf=np.inf, neginf=-np.inf))
    return float(np.exp(low[cut])), float(np.exp(high[-1 - cut]))


@functools.cache
def _u_cut(n: int, m: int, alpha: float) -> int:
    """The largest u with 2 P(U ≤ u) ≤ alpha: how many pairwise ratios to cut off each end. -1 where there is none.

    U's null distribution is given by the Gaussian binomial coefficient: the product of (1 - x^(m+i)) / (1 - x^i).
    Exact to 40 × 40; above that the normal approximation (it is within a hundredth of the level by then).
    """
    if n * m > 1600:
        u = n * m / 2 - statistics.NormalDist().inv_cdf(1 - alpha / 2) * math.sqrt(n * m * (n + m + 1) / 12) - 0.5
        return math.floor(u)
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for k in range(n * m, m + i - 1, -1):
            counts[k] -= counts[k - m - i]
        for k in range(i, n * m + 1):
            counts[k] += counts[k - i]
    return _cut(counts, math.comb(n + m, n), alpha)


@functools.cache
def _w_cut(n: int, alpha: float) -> int:
    """The same for Wilcoxon's signed rank: the ways to write w as a sum of different ranks of 1…n, out of 2^n."""
    size = n * (n + 1) // 2
    counts = [1] + [0] * size
    for rank in range(1, n + 1):
        for k in range(size, rank - 1, -1):
            counts[k] += counts[k - rank]
    return _cut(counts, 2**n, alpha)


def _cut(counts: Sequence[int], total: int, alpha: float) -> int:
    below = 0
    for value, count in enumerate(counts):
        below += count
        if 2 * below / total > alpha * (1 + 1e-9):
            return value - 1
    return len(counts) - 1


def _bootstrap(
    *, a: Sampled, b: Sampled, alpha: float, resamples: int, seed: int, streams: tuple[int, int]
) -> tuple[float, float]:
    """Percentile bootstrap of the ratio of medians. Equal streams resample both by the same draws, that is by block."""
    ta = _resamples(a.n, resamples, seed, streams[0])
    tb = _resamples(b.n, resamples, seed, streams[1])
    a_low, b_low = _medians(a.low, ta), _medians(b.low, tb)
    a_high = a_low if np.array_equal(a.low, a.high) else _medians(a.high, ta)
    b_high = b_low if np.array_equal(b.low, b.high) else _medians(b.high, tb)
    low = _divide(a_low, b_high)
    high = low if a_high is a_low and b_high is b_low else _divide(a_high, b_low)
    # Order statistics and not interpolated quantiles: they may be infinite. Rounded outwards.
    k = max(0, math.floor(alpha / 2 * resamples) - 1)
    return float(np.partition(low, k)[k]), float(np.partition(high, resamples - 1 - k)[resamples - 1 - k])


def compare_all(
    values: Mapping[str, Sampled], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> dict[tuple[str, str], Comparison]:
    """All pairs of subjects that have values, in order; the intervals hold together at `level` (Bonferroni)."""
    names = [name for name, v in values.items() if v.n]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    each = 1 - (1 - level) / max(1, len(pairs))
    return {(a, b): compare(values[a], values[b], level=each, resamples=resamples, seed=seed) for a, b in pairs}


def best(comparisons: Mapping[tuple[str, str], Comparison], better: Better) -> str | None:
    """The subject that is distinguishably better than every other one; None where there is none, or no direction."""
    if better is Better.NEITHER or not comparisons:
        return None
    names = {name for pair in comparisons for name in pair}
    for name in names:
        if all(
            c.distinguishable and ((c.high < 1) == ((a == name) == (better is Better.LOWER)))
            for (a, b), c in comparisons.items()
            if name in (a, b)
        ):
            return name
    return None


class Trend(NamedTuple):
    """Kendall's tau-b of values against their order, and the two-sided p-value that there is none."""

    tau: float
    p: float


def trend(values: Sequence[float]) -> Trend:
    """Whether values rise or fall in the order given (Mann-Kendall; Hollander, Wolfe & Chicken, 8.1).

    Exact without ties up to 100 values, else by the normal approximation with the correction for ties. NaN, 1 for less
    than two values, or if all are alike.
    """
    v = np.asarray(values, dtype=np.float64)
    n = len(v)
    s = int(np.sign(v[None, :] - v[:, None])[np.triu_indices(n, 1)].sum()) if n > 1 else 0
    ties = [int(c) for c in np.unique(v, return_counts=True)[1]]
    pairs, tied = n * (n - 1) // 2, sum(t * (t - 1) // 2 for t in ties)
    if n < 2 or tied == pairs:
        return Trend(math.nan, 1.0)
    tau = s / math.sqrt(pairs * (pairs - tied))
    if not tied and n <= 100:
        return Trend(tau, min(1.0, 2 * _inversions(n, (pairs - abs(s)) // 2)))
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    return Trend(tau, math.erfc(abs(s) / math.sqrt(2 * variance)))


@functools.cache
def _inversions(n: int, most: int) -> float:
    """The share of the orders of n things that have at most so many inversions: the Mahonian numbers, summed."""
    counts = [1] + [0] * most
    for i in range(2, n + 1):
        for k in range(1, most + 1):
            counts[k] += counts[k - 1]
        for k in range(most, i - 1, -1):
            counts[k] -= counts[k - i]
    return sum(counts) / math.factorial(n)


# Above this share of the median the scatter of single trials is too large to quote the median of five: its interval is
# then some ±20 % wide, which is more than most differences that people buy by.
UNSTABLE_SPREAD = 0.15
# How many times the scatter, and how many times the median, a single value must lie off to be called an outlier.
OUTLIER_SIGMAS, OUTLIER_FACTOR = 5.0, 1.5


def instability(values: Sampled, target: float = 0.10) -> str | None:
    """Why these values should not be quoted, and what would help; None where nothing is wrong with them or n < 3.

    `target`: half the width of the median's interval, as a share of the median, that is worth aiming at. The number of
    trials that would reach it follows from the scatter seen (Hoefler & Belli, SC'15, 4.2.2).
    """
    exact = values.low[values.low == values.high]
    if len(exact) < 3:
        return None
    middle = float(np.median(exact))
    if middle <= 0:
        return None
    spread = 1.4826 * mad(exact)
    off = np.abs(exact - middle)
    worst = int(np.argmax(off))
    rest = np.delete(exact, worst)
    factor = max(exact[worst], middle) / max(min(exact[worst], middle), 1e-300)
    if factor > OUTLIER_FACTOR and off[worst] > OUTLIER_SIGMAS * 1.4826 * mad(rest):
        where = int(values.block[values.low == values.high][worst])
        share = f"{factor:.1f} times" if exact[worst] > middle else f"{100 / factor:.0f} % of"
        return f"block {where} is at {share} the median: look at that trial's log, or run more blocks"
    if len(exact) > 3 and float(np.ptp(exact)) > UNSTABLE_SPREAD * middle:
        # Kendall's S against the blocks' order, in its standard deviations; 3 of them can be had from 7 trials on.
        ordered = exact[np.argsort(values.block[values.low == values.high], kind="stable")]
        n = len(ordered)
        s = float(np.sign(ordered[None, :] - ordered[:, None])[np.triu_indices(n, 1)].sum())
        if abs(s) >= 3 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18):
            way = "rise" if s > 0 else "fall"
            return f"values {way} from block to block: something is left behind, or the machine was not at rest"
    if spread > UNSTABLE_SPREAD * middle:
        # The interval of a median of n values of scatter s is about ± 1.96 × 1.2533 s / √n wide (normal theory).
        more = math.ceil((1.96 * 1.2533 * spread / (target * middle)) ** 2)
        return (
            f"trials scatter by {100 * spread / middle:.0f} % of the median: "
            f"about {_round_up(more)} trials would give ±{100 * target:.0f} %"
        )
    return None


def _round_up(n: int) -> int:
    """To two digits, for an estimate that is no better than that."""
    step: int = 10 ** max(0, len(str(n)) - 2)
    return -(-n // step) * step
