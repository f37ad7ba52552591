"""A series of numbers as a line of blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"


def spark(values: Sequence[float], *, zero: bool = True, top: float | None = None) -> str:
    """A block for each value, as high as it is beside the largest, or beside `top`; a blank for NaN.

    From zero, so that heights are proportions: a scatter of a few per cent is a flat line, as it ought to be. Without
    `zero` from the smallest value.
    """
    known = [v for v in values if math.isfinite(v)]
    low = min(0.0, *known) if zero and known else min(known, default=0.0)
    high = max(known, default=0.0) if top is None else top
    span = high - low
    out = []
    for v in values:
        if math.isnan(v):
            out.append(" ")
        elif not span or math.isinf(v):
            out.append(BLOCKS[-1] if v > 0 and zero else BLOCKS[0])
        else:
            out.append(BLOCKS[min(len(BLOCKS) - 1, int((v - low) / span * len(BLOCKS)))])
    return "".join(out)


def squeezed(values: Sequence[float], width: int) -> list[float]:
    """At most `width` values: the means of equal stretches, NaN left out."""
    if len(values) <= width:
        return list(values)
    out = []
    for i in range(width):
        part = [v for v in values[i * len(values) // width : (i + 1) * len(values) // width] if not math.isnan(v)]
        out.append(sum(part) / len(part) if part else math.nan)
    return out
