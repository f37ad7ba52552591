"""Named quantities and their samples."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec


class Better(enum.StrEnum):
    """The direction in which a metric is better."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """A named quantity with a unit, a direction and a definition; `name` is unique within its scenario.

    `claim_of` names the metric of the same scenario that this is the engine's own account of.
    """

    name: str
    unit: str  # "s", "ms", "1/s", "1", "%"
    better: Better
    title: str
    definition: str
    claim_of: str = ""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One trial's value of one metric at one setting of the factors.

    `censored`: the fact had not come after `value` units, when waiting was given up.
    """

    metric: str
    value: float
    censored: bool = False
    factors: Mapping[str, str | int | float] = {}
