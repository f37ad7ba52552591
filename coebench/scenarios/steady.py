"""When a load has warmed up, by its own seconds. Pure: a series in, the length of its warm-up out.

Warming up is getting better: answers come sooner, more of them come. A series is steady when it shows neither

- a trend to the better: Kendall's S of its values against time, one-sided, at 5 %, and a change from its first third to
  its last of more than 5 % (what is smaller would change no figure);
- nor a first value that is worse than all others by Dixon's Q, at 5 %, and worse than the next worst by 5 %.

Getting worse is no warm-up: that is what an overloaded service does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

LEVEL = 0.05
CHANGE = 0.05
FEWEST = 4  # values in which a trend at 5 % can be seen at all: 1 of 24 orders
BINS = 40  # a longer series is taken together to as many values
# Dixon's Q (r10), one-sided, 5 %, by the number of values (Dixon 1951); for more than ten, ten's is on the safe side.
_DIXON = {4: 0.765, 5: 0.642, 6: 0.560, 7: 0.507, 8: 0.468, 9: 0.437, 10: 0.412}


def warmup(values: Sequence[float], higher_is_better: bool) -> int | None:
    """How many values at the beginning belong to the warm-up; None if no FEWEST values at the end are steady."""
    for n in range(len(values) - FEWEST + 1):
        if not improving(values[n:], higher_is_better):
            return n
    return None


def improving(values: Sequence[float], higher_is_better: bool) -> bool:
    """Whether the values get better by more than chance and by more than CHANGE; False where they are too few to tell."""
    if len(values) < FEWEST:
        return False
    if _first_is_worse([v if higher_is_better else -v for v in values]):
        return True
    signed = [v if higher_is_better else -v for v in _binned(values)]
    third = max(1, len(signed) // 3)
    first, last = sum(signed[:third]) / third, sum(signed[-third:]) / third
    middle = abs(sorted(signed)[len(signed) // 2])
    if last - first <= CHANGE * middle:
        return False
    s = sum((b > a) - (b < a) for a, b in combinations(signed, 2))
    return chance(len(signed), s) <= LEVEL


def _first_is_worse(signed: Sequence[float]) -> bool:
    worst, best = min(signed[1:]), max(signed)
    gap = worst - signed[0]
    return gap > CHANGE * abs(worst) and gap > _DIXON.get(len(signed), _DIXON[10]) * (best - signed[0])


def chance(n: int, s: int) -> float:
    """How likely a Kendall's S of at least `s` is among all orders of n different values (Kendall 1938; exact).

    S = n (n - 1) / 2 - 2 × inversions, and the inversions of random orders are counted by Mahonian numbers.
    """
    counts = [1]
    for k in range(2, n + 1):
        counts = [sum(counts[max(0, i - k + 1) : i + 1]) for i in range(len(counts) + k - 1)]
    most = (n * (n - 1) // 2 - s) / 2
    return sum(c for i, c in enumerate(counts) if i <= most) / math.factorial(n)


def _binned(values: Sequence[float]) -> list[float]:
    size = -(-len(values) // BINS)
    return [sum(values[i : i + size]) / len(values[i : i + size]) for i in range(0, len(values), size)]
