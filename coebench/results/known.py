"""What is known of a cell's true values, given how each was measured: the one place that says so, for tables and diffs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..contract import Better
from . import stats
from .model import SampleValue


def known(better: Better, samples: Sequence[SampleValue]) -> stats.Sampled:
    """The intervals that hold the truth, which is what comparisons are made of.

    A censored value is that or more. A generator at its limit bounds a rate from below; what it does to a latency has no
    direction that one could defend: it adds its own queue and takes away load.
    """
    low, high = [], []
    for s in samples:
        spoilt = s.limited and better is Better.LOWER
        low.append(min(0.0, s.value) if spoilt else s.value)
        high.append(math.inf if spoilt or s.limited or s.censored else s.value)
    return stats.Sampled.of(low, high, [s.block for s in samples])
