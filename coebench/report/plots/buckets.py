"""Histograms for plots: decoded by the package hdrhistogram, then added and read as numpy arrays (its own look-ups are a loop
in Python for each percentile, milliseconds where a page needs thousands)."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

MS = 1e6  # in the unit of the histograms, nanoseconds


class Buckets:
    """The buckets that hold anything: the largest value that each may hold, in ms (what HdrHistogram's percentiles are), in
    rising order, and how many it holds."""

    def __init__(self, tops: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        self.tops = tops
        self.counts = counts
        self.total = int(counts.sum())

    def at(self, percentiles: Iterable[float]) -> list[float]:
        """The values at these percentiles (0 to 100), in ms. Nothing counted: NaN."""
        wanted = np.asarray(list(percentiles))
        if not self.total:
            return [float("nan")] * len(wanted)
        ranks = np.ceil(wanted / 100 * self.total - 1e-9).clip(1, self.total)
        found: list[float] = self.tops[np.searchsorted(self.counts.cumsum(), ranks)].tolist()
        return found


@functools.lru_cache(maxsize=4096)  # a timeline asks for the same second as a line, in a sum, and in its table
def decode(text: str) -> Buckets | None:
    """Of an HdrHistogram V2 in base64; None if it is none."""
    from ...load import hdr

    try:
        h = hdr.decoded(text)
        counts = np.ctypeslib.as_array(h.counts)[: h.counts_len]
        where = counts.nonzero()[0]
        return Buckets(_tops(where, h.sub_bucket_half_count_magnitude, h.unit_magnitude), counts[where].astype(np.int64))
    except Exception:  # a record that anybody may have edited: whatever its bytes lead to, it is not drawn
        return None


def _tops(index: NDArray[np.intp], half_magnitude: int, unit: int) -> NDArray[np.float64]:
    """The layout of HdrHistogram: half of the sub-buckets for each power of two, the first power's twice."""
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
    parts = [b for b in found if b is not None and b.total]
    if len(parts) <= 1:
        return parts[0] if parts else None
    tops, place = np.unique(np.concatenate([b.tops for b in parts]), return_inverse=True)
    weights = np.concatenate([b.counts for b in parts])
    return Buckets(tops, np.bincount(place, weights=weights).astype(np.int64))
