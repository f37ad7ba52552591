"""A service level objective: what a load must look like to be called good. Pure: text in, verdicts out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..contract import BadInput

PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
ERRORS = "errors"
FEW = 0.1  # % of errors that an objective allows which says nothing of them
# % of the offered rate that must be achieved, whatever the objective: less, and a queue grows that a short measurement would
# not see the end of. Answers that come after the end are missing from it, so it is no 100 %.
KEPT_UP = 95.0
_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_HELP = "write conditions such as p99<20ms,errors<0.1%"


class Condition(NamedTuple):
    """`what` is below `limit`: a percentile of the latency from the planned send, in ms, or the errors, in per cent."""

    what: str
    limit: float

    def __str__(self) -> str:
        return f"{self.what}<{self.limit:g}{'%' if self.what == ERRORS else 'ms'}"

    def value(self, load: Mapping[str, Any]) -> float | None:
        """What a `load` observation has of it; None where nothing was answered."""
        return errors(load) if self.what == ERRORS else load["latency_ms"].get(self.what)


class Slo(NamedTuple):
    """All conditions must hold. A request without a good answer has no latency, so there is always one on errors; and the
    offered rate must be achieved but for 5 %."""

    conditions: tuple[Condition, ...]

    def __str__(self) -> str:
        return ",".join(map(str, self.conditions))

    @classmethod
    def parse(cls, text: object) -> Slo:
        """An objective as it is written: `p99<20ms,errors<0.1%`. Raises BadInput."""
        if not isinstance(text, str) or not text.strip():
            raise BadInput(f"an objective is a text: {_HELP}")
        found: dict[str, Condition] = {}
        for part in text.split(","):
            m = re.fullmatch(r"\s*([a-z0-9.]+)\s*<=?\s*([0-9]*\.?[0-9]+)\s*(us|µs|ms|s|%)?\s*", part)
            if not m:
                raise BadInput(f"'{part.strip()}' is no condition of an objective: {_HELP}")
            what, number, unit = m[1], float(m[2]), m[3]
            if what not in (*PERCENTILES, ERRORS):
                raise BadInput(f"an objective is made of {', '.join(PERCENTILES)} and {ERRORS}, not of '{what}'")
            if unit is None or (what == ERRORS) != (unit == "%"):
                raise BadInput(f"'{part.strip()}': {'errors are in %' if what == ERRORS else 'a latency is in us, ms or s'}")
            if what in found:
                raise BadInput(f"an objective has '{what}' once, not twice")
            limit = number if what == ERRORS else number * _MS[unit]
            if not 0 < limit < math.inf or (what == ERRORS and limit > 100):
                raise BadInput(
                    f"'{part.strip()}' can't be: {'0 < errors ≤ 100%' if what == ERRORS else 'a latency is above 0, and finite'}"
                )
            found[what] = Condition(what, limit)
        found.setdefault(ERRORS, Condition(ERRORS, FEW))
        order = (*PERCENTILES, ERRORS)
        return cls(tuple(sorted(found.values(), key=lambda c: order.index(c.what))))

    def missed(self, load: Mapping[str, Any]) -> tuple[str, ...]:
        """The conditions that a `load` observation does not hold; () is good."""
        missed = [str(c) for c in self.conditions if (v := c.value(load)) is None or not v < c.limit]
        if load["achieved_rps"] < KEPT_UP / 100 * load["offered_rps"]:
            missed.append(f"achieved>{KEPT_UP:g}%")
        return tuple(missed)


def errors(load: Mapping[str, Any]) -> float:
    """Requests without a good answer, in per cent of those planned: failed, unsent, or not answered in time."""
    bad = sum(load["errors"].values()) + load["unsent"] + load["inflight"]
    return 100.0 * bad / load["planned"] if load["planned"] else 100.0
