"""The search for the highest rate that meets an objective: which rate to try next, and what the tries say. Pure.

A try at a rate is good or not, by chance too: one hiccup of a machine fails the best of services. So

- a rate that failed is tried again before it is believed, and again if a higher one was good;
- the edge is the threshold that the fewest tries contradict (a good one above it, a failed one below), the most likely
  step function where errors either way are alike; of equals the lowest;
- both sides of the edge are tried `repeats` times, and the answer comes with what those tries said.

`following` looks at nothing but the tries so far, so a recorded search can be followed again, and simulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

FACTOR = 1.6  # from a rate to the next while the edge is not in sight: 10^(1/5), the R5 series
PAST = 2  # rates beyond the edge that such steps go to: one could be an accident
DEPTH = 12  # steps down, until it is believed that no rate is good: to a 280th
MOST = 40  # tries


class Try(NamedTuple):
    """One measurement at one rate. `limited`: the generator was at its limit, so a failure may be its own."""

    rate: float
    good: bool
    limited: bool = False


class Edge(NamedTuple):
    """Where it is. Rates are requests a second; `rate` 0: none was good. `beyond` None: none failed.

    `low`: no try at or below it failed; `high`: no try at or above it was good (None: the highest was). Where all agree,
    that is `rate` and `beyond`. `agreed` of `tries` on the two sides of the edge said what their side says.
    """

    rate: float
    beyond: float | None
    low: float
    high: float | None
    agreed: int
    tries: int
    limited: bool


def edge(tries: Sequence[Try]) -> Edge:
    """What the tries say."""
    rates = sorted({t.rate for t in tries})

    def contradicting(threshold: float) -> int:
        return sum(t.good != (t.rate <= threshold) for t in tries)

    rate = min((0.0, *rates), key=lambda r: (contradicting(r), r))
    beyond = next((r for r in rates if r > rate), None)
    failed = [t.rate for t in tries if not t.good]
    good = [t.rate for t in tries if t.good]
    low = max((r for r in rates if not failed or r < min(failed)), default=0.0)
    high = next((r for r in rates if not good or r > max(good)), None)
    sides = [t for t in tries if t.rate in (rate, beyond)]
    agreed = sum(t.good == (t.rate == rate) for t in sides)
    own = [t for t in tries if beyond is not None and t.rate == beyond and not t.good]
    return Edge(rate, beyond, low, high, agreed, len(sides), bool(own) and 2 * sum(t.limited for t in own) >= len(own))


def following(
    tries: Sequence[Try], start: float, repeats: int, resolution: float, most: float, ladder: Sequence[float] = ()
) -> float | None:
    """The rate to try next; None when the edge is known.

    `start`: the first rate. `repeats`: tries on each side of the edge. `resolution`: the ratio of the two sides that is
    narrow enough, 1.05 for 5 %. `most`: no rate above it is tried. `ladder`: rates to go through first, low to high, as far
    as two past the edge; () is `start` and on by FACTOR.
    """
    if not tries:
        return min(ladder, default=start)
    if len(tries) >= MOST:
        return None
    rates = sorted({t.rate for t in tries})
    for r in rates:  # a first failure is tried again, and so is a tie
        mine = [t.good for t in tries if t.rate == r]
        if len(mine) < repeats and 2 * sum(mine) <= len(mine) and (len(mine) < 2 or 2 * sum(mine) == len(mine)):
            return r
    best = max((t.rate for t in tries if t.good), default=0.0)
    for r in rates:  # a failure below a rate that was good
        mine = [t.good for t in tries if t.rate == r]
        if r < best and 2 * sum(mine) <= len(mine) < 2 * repeats:
            return r
    now = edge(tries)
    above = [r for r in rates if r > now.rate]
    higher = next((r for r in sorted(ladder) if r > rates[-1]), None) if ladder else round_rate(rates[-1] * FACTOR)
    if len(above) < PAST and higher is not None and higher <= most and not _bisected(rates, ladder, start):
        return higher
    if now.rate == 0:
        lower = round_rate(rates[0] / FACTOR)
        down = sum(r < min(ladder, default=start) for r in rates)
        return lower if lower >= 1 and down < DEPTH else None
    if now.beyond is not None and now.beyond > now.rate * resolution:
        middle = round_rate(math.sqrt(now.rate * now.beyond))
        if now.rate < middle < now.beyond:
            return middle
    for side in (now.rate, now.beyond):
        if side is not None and sum(t.rate == side for t in tries) < repeats:
            return side
    return None


def _bisected(rates: Sequence[float], ladder: Sequence[float], start: float) -> bool:
    """Whether the way up is over: a rate between two of its steps has been tried."""
    if ladder:
        return any(r not in ladder and r > min(ladder) for r in rates)
    step = start
    steps = {start}
    while step < rates[-1]:
        step = round_rate(step * FACTOR)
        steps.add(step)
    return any(r not in steps and r > start for r in rates)


def round_rate(rate: float) -> float:
    """To three digits: a rate that can be said, and asked for again."""
    return float(f"{rate:.3g}")
