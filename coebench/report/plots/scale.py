"""Where a value lies on an axis, and which values get a tick."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from ..words import decimals
from .figure import Axis

NINES = ((0.0, "0"), (50.0, "50 %"), (90.0, "90 %"), (99.0, "99 %"), (99.9, "99.9 %"), (99.99, "99.99 %"), (99.999, "99.999 %"))


class Scale:
    """Maps values to 0…1. `ticks`: (value, text)."""

    def __init__(self, axis: Axis, values: Iterable[float], room: float) -> None:
        """`values`: all that have to fit. `room`: how many ticks there is place for."""
        self.axis = axis
        found = [v for v in values if math.isfinite(v)]
        if axis.scale == "names":
            self.low, self.high = -0.5, max(len(axis.names), 1) - 0.5
            self.ticks = [(float(i), name) for i, name in enumerate(axis.names)]
        elif axis.scale == "nines":
            self.low, self.high = 0.0, _nines(max(found, default=99.0))
            self.ticks = [(v, text) for v, text in NINES if _nines(v) <= self.high + 1e-9]
        elif axis.scale == "log":
            self._log([v for v in (*found, axis.low or 0.0, axis.high or 0.0) if v > 0], room)
        else:
            self._linear(found, room)

    def _linear(self, found: list[float], room: float) -> None:
        found = [*found, *(v for v in (self.axis.low, self.axis.high) if v is not None), *([0.0] if self.axis.zero else [])]
        low, high = min(found, default=0.0), max(found, default=1.0)
        if high <= low:
            high = low + (abs(low) or 1.0)
        step = _step((high - low) / max(room, 1.0))
        if self.axis.low is None:
            low = math.floor(low / step + 1e-9) * step
        if self.axis.high is None:
            high = math.ceil(high / step - 1e-9) * step
        self.low, self.high = low, high + (high - low) * 0.02 * (self.axis.high is not None)
        first = math.ceil(low / step - 1e-9)
        values = [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
        self.ticks = [(v, text) for v, text in zip(values, texts(values, self.axis.unit), strict=True)]

    def _log(self, found: list[float], room: float) -> None:
        low, high = min(found, default=1.0), max(found, default=10.0)
        if high / low < 3:  # a little air, so that near values do not fill all of it
            low, high = low / 1.5, high * 1.5
        self.low, self.high = math.log10(low) - 0.03, math.log10(high) + 0.03
        for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            values = [f * 10.0**e for e in range(math.floor(self.low) - 1, math.ceil(self.high) + 1) for f in factors]
            values = [v for v in values if self.low <= math.log10(v) <= self.high]
            if len(values) <= max(room, 2):
                break
        else:
            values = values[:: math.ceil(len(values) / max(room, 2))]
        self.ticks = [(v, quantity(v, self.axis.unit)) for v in values]

    def at(self, value: float) -> float:
        """0 at the axis' low end, 1 at its high end; beyond them where the value is."""
        if self.axis.scale == "log":
            value = math.log10(value) if value > 0 else self.low
        elif self.axis.scale == "nines":
            value = _nines(value)
        return (value - self.low) / (self.high - self.low)


def _nines(percent: float) -> float:
    return -math.log10(max(1e-9, 1 - percent / 100))


def _step(least: float) -> float:
    """1, 2 or 5 times a power of ten, not less than `least`."""
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next(f * power for f in (1, 2, 5, 10) if f * power >= least * (1 - 1e-9))


def texts(values: list[float], unit: str) -> list[str]:
    """All ticks of a linear axis alike: in one unit, with as many places as the finest step needs."""
    top = max((abs(v) for v in values), default=0.0)
    factor, name = _unit(top, unit)
    shown = [v * factor for v in values]
    step = min((b - a for a, b in pairwise(shown)), default=1.0)
    places = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return [f"{v:.{places}f}{name if v or name == ' %' else ''}" if v else "0" for v in shown]


def quantity(value: float, unit: str) -> str:
    """One value in the unit that it reads best in: "250 µs", "1.5 s", "20k/s", "3 GiB"."""
    factor, name = _unit(abs(value), unit)
    shown = value * factor
    text = f"{shown:.{decimals(shown)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + name


def _unit(top: float, unit: str) -> tuple[float, str]:
    if unit in ("s", "ms", "µs", "ns"):
        seconds = top * {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]
        to = "s" if seconds >= 1 or not top else "ms" if seconds >= 1e-3 else "µs" if seconds >= 1e-6 else "ns"
        base = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
        return base[unit] / base[to], f" {to}"
    if unit == "1/s":
        return (1e-6, "M/s") if top >= 1e6 else (1e-3, "k/s") if top >= 1e4 else (1.0, "/s")
    if unit == "B":
        for size, name in ((2**40, " TiB"), (2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB")):
            if top >= size:
                return 1 / size, name
        return 1.0, " B"
    return 1.0, f" {unit}" if unit and unit != "1" else ""
