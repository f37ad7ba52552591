"""Times that were seen by polling: how fine they are, and which of them can't be compared.

A watch that is told nothing by the engine looks every so many seconds (`watch.fallback`): a figure may be late by that much, and
two columns that are observed in different ways differ by it without any difference between the engines.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from ..contract import Observation
from .model import Values

# Times of the engine's work that scenarios take from a watch. Those of single requests are in ms: no watch is in them.
SECONDS = {"s": 1.0, "min": 60.0}
LEAST = 2  # intervals: shorter times, and smaller differences, are not compared


class Poll(NamedTuple):
    """How the coarsest watch of a trial finds changes, and the seconds between two looks: infinite where it does not say."""

    how: str
    seconds: float


def coarsest(observations: Iterable[Observation]) -> Poll | None:
    """Of a trial's watches; None where the engine told of all changes itself."""
    polls = [_poll(o) for o in observations if o.name == "watch.fallback"]
    return max(polls, key=lambda p: p.seconds, default=None)


def _poll(o: Observation) -> Poll:
    how, seconds = str(o.data.get("how") or "changes are found by polling"), o.data.get("seconds")
    if isinstance(seconds, (int, float)) and 0 < seconds < 1e6:
        return Poll(how, float(seconds))
    said = re.search(r"every (\d+(?:\.\d+)?) ?(ms|s)\b", how)  # a record or a driver that has it in words alone
    return Poll(how, float(said[1]) * (0.001 if said[2] == "ms" else 1.0) if said else math.inf)


def too_coarse(unit: str, a: Values, b: Values) -> str:
    """Why two cells of a row can't be compared; empty where they can."""
    scale = SECONDS.get(unit)
    polls = [v.poll or math.inf for v in (a, b) if v.polled]
    if scale is None or not polls:
        return ""
    interval = max(polls)
    one, other = (scale * next((x for x in (v.median, v.above) if x is not None), 0.0) for v in (a, b))
    if min(one, other) >= LEAST * interval and abs(one - other) >= LEAST * interval:
        return ""
    often = f" every {interval:g} s" if math.isfinite(interval) else ""
    return f"seen by polling{often}, too coarse to tell"
