"""Histograms for plots: decoded by the package hdrhistogram, then added and read as numpy arrays (its own look-ups are a loop
in Python for each percentile, milliseconds where a page needs thousands)."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

MS = 1e6  # in the unit of the histograms, nanoseconds


class Buckets:
    """Counts by bucket, and the largest value that each bucket may hold (what HdrHistogram's percentiles are), in ms."""

    def __init__(self, counts: NDArray[np.int64], tops: NDArray[np.float64]) -> None:
        self.counts = counts
        self.tops = tops
        self.total = int(counts.sum())

    def at(self, percentiles: Iterable[float]) -> list[float]:
        """The values at these percentiles (0 to 100), in ms. Nothing counted: NaN."""
        wanted = list(percentiles)
        if not self.total:
            return [float("nan")] * len(wanted)
        running = self.counts.cumsum()
        ranks = np.ceil(np.asarray(wanted) / 100 * self.total - 1e-9).clip(1, self.total)
        return [float(v) for v in self.tops[np.searchsorted(running, ranks)]]

    def plus(self, other: Buckets) -> Buckets:
        """Both together."""
        long, short = (self, other) if len(self.counts) >= len(other.counts) else (other, self)
        counts = long.counts.copy()
        counts[: len(short.counts)] += short.counts
        return Buckets(counts, long.tops)


def decode(text: str) -> Buckets | None:
    """Of an HdrHistogram V2 in base64; None if it is none."""
    from hdrh.histogram import HdrHistogram

    try:
        h = HdrHistogram.decode(text)
        counts = np.array(h.counts[: h.counts_len], dtype=np.int64)
        return Buckets(counts, _tops(h.counts_len, h.sub_bucket_half_count_magnitude, h.unit_magnitude))
    except Exception:  # a record that anybody may have edited: whatever its bytes lead to, it is not drawn
        return None


@functools.lru_cache(maxsize=8)
def _tops(length: int, half_magnitude: int, unit: int) -> NDArray[np.float64]:
    """The layout of HdrHistogram: half of the sub-buckets for each power of two, the first power's twice."""
    index = np.arange(length)
    bucket = (index >> half_magnitude) - 1
    sub = (index & ((1 << half_magnitude) - 1)) + (1 << half_magnitude)
    first = bucket < 0
    sub[first] -= 1 << half_magnitude
    bucket[first] = 0
    shift = bucket + unit
    tops: NDArray[np.float64] = ((sub << shift) + (1 << shift) - 1) / MS
    return tops


def total(found: Iterable[Buckets | None]) -> Buckets | None:
    """All of them merged; None if there is none with a count. Percentiles are never averaged: this is what stands for all."""
    whole: Buckets | None = None
    for b in found:
        if b is not None and b.total:
            whole = b if whole is None else whole.plus(b)
    return whole
