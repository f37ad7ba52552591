"""What a plot is, before it is drawn: panels with axes and marks, and the same figures as a table.

A plot function (one file a plot in this folder) makes these from a result or from what a run recorded; `svg` draws them. Values
are in the axis' unit. Colours are numbers: 0, 1, 2 … for subjects in the order of the table's columns, -1 for
what belongs to none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

NOBODY = -1


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """`scale`: "linear", "log", "nines" (percentiles, the way HdrHistogram's plots have them), or "names", where a mark's
    position is the index of a name. `zero`: a linear axis begins at 0. `low`, `high`: what it has to reach, for axes that are
    to be alike. `bare`: its ticks are not named, another panel's are."""

    label: str = ""
    unit: str = ""
    scale: str = "linear"
    names: tuple[str, ...] = ()
    zero: bool = False
    bare: bool = False
    low: float | None = None
    high: float | None = None


class Point(NamedTuple):
    x: float
    y: float


class Band(NamedTuple):
    """From `low` to `high` at `x`."""

    x: float
    low: float
    high: float


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """`steps`: a value holds until the next. `faint`: one trial of many. A gap is a point whose y is NaN."""

    points: tuple[Point, ...]
    colour: int = NOBODY
    steps: bool = False
    faint: bool = False
    dashed: bool = False
    dots: bool = False  # a mark at each point, of the colour's own shape


class Dots(msgspec.Struct, frozen=True, kw_only=True):
    """Single values. `open`: hollow, for what is only known to be above (or below) its place."""

    points: tuple[Point, ...]
    colour: int = NOBODY
    open: bool = False


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """An interval along x, at `y`, and the value within it; on an axis of names for y."""

    y: float
    low: float | None
    high: float | None
    value: float | None
    colour: int = NOBODY
    claim: bool = False  # the engine's own account: drawn as a hollow diamond


class Area(msgspec.Struct, frozen=True, kw_only=True):
    """A layer of a stack, in steps; `shade` from 0 (pale) tells layers of one colour apart."""

    bands: tuple[Band, ...]
    colour: int = NOBODY
    shade: int = 0


class Cells(msgspec.Struct, frozen=True, kw_only=True):
    """A matrix on two axes of names: (column, row, text, weight from 0 to 1 that shades it, or None for nothing known)."""

    cells: tuple[tuple[int, int, str, float | None], ...]


class Mark(NamedTuple):
    """A moment that explains what follows it: a dashed upright line with its name."""

    x: float
    text: str


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One pair of axes. `height`: of the axes' inside, in px at any width."""

    x: Axis
    y: Axis
    items: tuple[Line | Dots | Range | Area | Cells, ...]
    title: str = ""
    marks: tuple[Mark, ...] = ()
    height: int = 180


class Key(NamedTuple):
    """A line of the legend. `kind`: "line", "faint", "dashed", "dot", "open", "claim", "area"."""

    text: str
    colour: int
    kind: str = "line"
    shade: int = 0


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One picture. `slug`: its file's name and its id in a page. `about`: one sentence on how to read it.

    `head` and `rows`: what is drawn as a table, for who can't see it and for who wants the numbers. `columns`: how many
    panels lie beside each other where there is room. `metric`: the metric whose row of the table this is, if it is no more
    than that; a page that has many of them may fold some.
    """

    slug: str
    scenario: str
    title: str
    about: str = ""
    panels: tuple[Panel, ...]
    legend: tuple[Key, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    columns: int = 1
    metric: str = ""


def slug(*words: object) -> str:
    """A name that a file and an HTML id can have."""
    text = "-".join(str(w) for w in words).lower()
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in text).split())[:80] or "plot"


def finite(values: Sequence[float | None]) -> list[float]:
    """Those that are numbers."""
    return [v for v in values if v is not None and v == v and abs(v) != float("inf")]
