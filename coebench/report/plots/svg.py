"""Draws a figure as SVG: in a page, which gives the colours, or on its own, with its title and with colours of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from html import escape
from itertools import pairwise
from typing import NamedTuple

from . import style
from .figure import NOBODY, Area, Cells, Dots, Figure, Key, Line, Panel, Point, Range, finite
from .scale import Scale
from .style import cut, measure, wrap

NARROW = 340  # px: what a phone has room for
WIDE = 640
BLOG = 760
GAP = 20
SIDE_BY_SIDE = 520  # px: below this, panels lie beneath each other
Place = Callable[[float], float]  # a value's place, in px


def draw(figure: Figure, width: int = WIDE, *, theme: str = "", footer: str = "") -> str:
    """An SVG element `width` px wide and as high as it has to be. With a `theme` it stands alone: title, ground, `footer`."""
    pen = _Pen(width)
    margin = 16 if theme else 0
    inside = width - 2 * margin
    y = float(margin)
    if theme:
        for line in wrap(figure.title, inside, 18.5):
            y += 22
            pen.text(margin, y - 4, line, "h")
        for line in wrap(figure.about.replace("`", ""), inside):
            y += 16
            pen.text(margin, y, line, "m")
        y += 10
    y = _legend(pen, figure.legend, margin, y, inside)
    columns = max(1, figure.columns if width >= SIDE_BY_SIDE else 1)
    cell = (inside - GAP * (columns - 1)) / columns
    gutter = max((_gutter(p, cell) for p in figure.panels), default=0.0)  # alike, so that panels can be read downwards
    panels = figure.panels
    if columns < figure.columns:  # what belongs together lies beneath each other
        panels = tuple(p for i in range(figure.columns) for p in panels[i :: figure.columns])
    for first in range(0, len(panels), columns):
        row = panels[first : first + columns]
        # Beside each other they begin and end at the same height, so that they can be compared.
        tops = max(_above(p) for p in row)
        ends = [_panel(pen, p, margin + i * (cell + GAP), y, cell, tops, gutter) for i, p in enumerate(row)]
        y = max(ends) + 12
    if theme and footer:
        for line in wrap(footer, inside, 11.5):
            y += 15
            pen.text(margin, y, line, "m")
        y += 6
    height = math.ceil(y + margin)
    name = escape(figure.title)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{name}"><title>{name}</title>'
    )
    ground = ""
    if theme:
        ground = (
            f'<desc>{escape(figure.about)}</desc><style>{style.rules(theme)}</style><rect class="z" width="100%" height="100%"/>'
        )
    return head + ground + "".join(pen.parts) + "</svg>"


class _Pen:
    def __init__(self, width: float) -> None:
        self.width = width
        self.parts: list[str] = []

    def text(self, x: float, y: float, text: str, kind: str = "") -> None:
        self.parts.append(f'<text x="{_n(x)}" y="{_n(y)}"{_class(kind)}>{escape(text)}</text>')

    def path(self, d: str, kind: str) -> None:
        if d:
            self.parts.append(f'<path d="{d}"{_class(kind)}/>')

    def rect(self, x: float, y: float, width: float, height: float, kind: str, extra: str = "") -> None:
        self.parts.append(
            f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(max(0.0, height))}"{_class(kind)}{extra}/>'
        )

    def mark(self, x: float, y: float, colour: int, kind: str, size: float = 3.4) -> None:
        """The colour's own shape; round for what belongs to nobody."""
        self.path(_shape(colour, x, y, size), kind)

    def open(self, colour: int) -> None:
        self.parts.append(f'<g class="{_colour(colour)}">')

    def close(self) -> None:
        self.parts.append("</g>")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _colour(colour: int) -> str:
    return "y" if colour == NOBODY else f"c{colour % style.COLOURS}"


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def _shape(colour: int, x: float, y: float, r: float) -> str:
    colour = max(0, colour)
    if colour % 4 == 1:
        return f"M{_n(x - r)} {_n(y - r)}h{_n(2 * r)}v{_n(2 * r)}h{_n(-2 * r)}z"
    if colour % 4 == 2:
        return f"M{_n(x)} {_n(y - 1.3 * r)}l{_n(1.2 * r)} {_n(2.2 * r)}h{_n(-2.4 * r)}z"
    if colour % 4 == 3:
        return _diamond(x, y, 1.35 * r)
    return f"M{_n(x - r)} {_n(y)}a{_n(r)} {_n(r)} 0 1 0 {_n(2 * r)} 0a{_n(r)} {_n(r)} 0 1 0 {_n(-2 * r)} 0z"


def _diamond(x: float, y: float, r: float) -> str:
    return f"M{_n(x)} {_n(y - r)}l{_n(r)} {_n(r)}l{_n(-r)} {_n(r)}l{_n(-r)} {_n(-r)}z"


def _legend(pen: _Pen, keys: tuple[Key, ...], left: float, y: float, width: float) -> float:
    if not keys:
        return y
    x, y = left, y + 14
    for key in keys:
        need = 24 + measure(key.text) + 14
        if x > left and x + need > left + width:
            x, y = left, y + 18
        pen.open(key.colour)
        if key.kind in ("line", "faint", "dashed"):
            pen.path(f"M{_n(x)} {_n(y - 4)}h18", "l" + {"faint": " f", "dashed": " d"}.get(key.kind, ""))
        elif key.kind == "area":
            pen.rect(x + 2, y - 10, 14, 12, f"s{key.shade % 4}")
        elif key.kind == "claim":
            pen.path(_diamond(x + 9, y - 4, 4.5), "o")
        else:
            pen.mark(x + 9, y - 4, key.colour, "o" if key.kind == "open" else "p", 4)
        pen.close()
        pen.text(x + 24, y, cut(key.text, width - 24))
        x += need
    return y + 14


def _above(panel: Panel) -> float:
    """Room over the axes: the panel's title, the y axis' label, the names of the marks."""
    return 18 * bool(panel.title) + 16 * bool(panel.y.label) + 15 * min(2, len(panel.marks)) + 6


def _values(panel: Panel) -> tuple[list[float], list[float]]:
    """All x and all y that have to fit."""
    xs: list[float] = []
    ys: list[float] = []
    for item in panel.items:
        if isinstance(item, Line | Dots):
            xs += [p.x for p in item.points]
            ys += [p.y for p in item.points]
        elif isinstance(item, Range):
            xs += finite([item.low, item.high, item.value])
            ys.append(item.y)
        elif isinstance(item, Area):
            xs += [b.x for b in item.bands]
            ys += [v for b in item.bands for v in (b.low, b.high)]
    return finite(xs), finite(ys)


def _gutter(panel: Panel, width: float) -> float:
    """Room for the names of the y axis' ticks."""
    widest = max((measure(text) for _, text in _vertical(panel).ticks), default=0.0)
    return min(widest + 8, width * (0.38 if panel.y.scale == "names" and panel.x.scale != "names" else 0.3))


def _vertical(panel: Panel) -> Scale:
    return Scale(panel.y, _values(panel)[1], panel.height / 34)


def _panel(pen: _Pen, panel: Panel, left: float, top: float, width: float, above: float, gutter: float) -> float:
    """Draws it and returns where it ends."""
    names = panel.y.scale == "names"
    xs, _ = _values(panel)
    height = panel.height
    vertical = _vertical(panel)
    x0, x1, y0 = left + gutter, left + width - 8, top + above
    y1 = y0 + height
    inner = x1 - x0
    horizontal = Scale(panel.x, xs, inner / 62)

    def px(value: float) -> float:
        return x0 + inner * horizontal.at(value)

    def py(value: float) -> float:
        # Names are read from above, values grow upwards.
        return y0 + height * vertical.at(value) if names else y1 - height * vertical.at(value)

    line = top
    if panel.title:
        line += 18
        pen.text(left, line - 4, cut(panel.title, width, 14), "b")  # bold is wider
    if panel.y.label:
        line += 16
        pen.text(left, line - 4, cut(panel.y.label, width), "m")
    _grid(pen, panel, horizontal, vertical, _Box(x0, y0, x1, y1, gutter), px, py)
    for item in panel.items:
        _item(pen, item, px, py)
    for i, mark in enumerate(sorted(panel.marks)):
        x = px(mark.x)
        if x0 - 1 <= x <= x1 + 1:
            text_y = y0 - 4 - 13 * (i % 2 if len(panel.marks) > 1 else 0)
            pen.path(f"M{_n(x)} {_n(text_y + 2)}V{_n(y1)}", "k")
            text = cut(mark.text, max(inner * 0.6, 60), 12)
            end = x + measure(text) > x1
            pen.text(x + (-2 if end else 2), text_y, text, "m e" if end else "m")
    lines = max(map(len, _columns(horizontal, inner)), default=1) if panel.x.scale == "names" else 1
    below = y1 + (5 + 13 * lines if horizontal.ticks and not panel.x.bare else 2)
    if panel.x.label:
        pen.text((x0 + x1) / 2, below + 12, cut(panel.x.label, width), "m c")
        below += 18
    return below


class _Box(NamedTuple):
    """The inside of a panel's axes, and the room for the names left of it."""

    x0: float
    y0: float
    x1: float
    y1: float
    gutter: float


def _grid(pen: _Pen, panel: Panel, horizontal: Scale, vertical: Scale, box: _Box, px: Place, py: Place) -> None:
    x0, y0, x1, y1, gutter = box
    rules = []
    for value, text in vertical.ticks:
        y = py(value)
        if panel.y.scale != "names":
            rules.append(f"M{_n(x0)} {_n(y)}H{_n(x1)}")
        pen.text(x0 - 6, y + 4, cut(text, gutter - 6), "e")
    last = math.inf if panel.x.bare else -math.inf
    if panel.x.scale == "names":
        for (value, _), lines in zip(horizontal.ticks, _columns(horizontal, x1 - x0), strict=True):
            for i, text in enumerate(lines):
                pen.text(px(value), y1 + 15 + 13 * i, text, "c")
    for value, text in horizontal.ticks if panel.x.scale != "names" else ():
        x = px(value)
        rules.append(f"M{_n(x)} {_n(y0)}V{_n(y1)}")
        half = measure(text) / 2
        middle = min(max(x, x0 - gutter + half), x1 + 8 - half)  # a label may not leave the picture
        if middle - half > last:
            pen.text(middle, y1 + 15, text, "c")
            last = middle + half + 4
    pen.path("".join(rules), "g")


def _columns(horizontal: Scale, width: float) -> list[list[str]]:
    """The names under columns that share a width, each in as many lines as it takes."""
    slot = width / max(1, len(horizontal.ticks))
    return [wrap(text, slot - 2) for _, text in horizontal.ticks]


def _item(pen: _Pen, item: Line | Dots | Range | Area | Cells, px: Place, py: Place) -> None:
    if isinstance(item, Cells):
        _cells(pen, item, px, py)
        return
    pen.open(item.colour)
    if isinstance(item, Line):
        kind = "l" + " f" * item.faint + " d" * item.dashed
        pen.path("".join(_stroke(item, px, py)), kind)
        if item.dots:
            for p in item.points:
                if math.isfinite(p.y):
                    pen.mark(px(p.x), py(p.y), item.colour, "p")
    elif isinstance(item, Dots):
        for p in item.points:
            pen.mark(px(p.x), py(p.y), item.colour, "o" if item.open else "q")
    elif isinstance(item, Range):
        y = py(item.y)
        if item.low is not None and item.high is not None:
            pen.path(f"M{_n(px(item.low))} {_n(y)}H{_n(max(px(item.high), px(item.low) + 1))}", "w")
        if item.value is not None:
            x = px(item.value)
            if item.claim:
                pen.path(_diamond(x, y, 4.5), "o")
            else:
                pen.path(f"M{_n(x)} {_n(y - 8)}v16", "l")
    elif isinstance(item, Area) and item.bands:
        up = [Point(b.x, b.high) for b in item.bands]
        down = [Point(b.x, b.low) for b in item.bands]
        forth = _stairs([(px(p.x), py(p.y)) for p in up])
        back = _stairs([(px(p.x), py(p.y)) for p in down])
        d = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in [*forth, *reversed(back)]) + "z"
        pen.path(d, f"s{item.shade % 4}")
    pen.close()


def _stairs(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    out = points[:1]
    for (_, y), (x2, y2) in pairwise(points):
        out += [(x2, y), (x2, y2)] if y2 != y else [(x2, y2)]
    return out


def _stroke(line: Line, px: Place, py: Place) -> Iterator[str]:
    """The path of a line; what would be drawn on the same half pixel is left out."""
    pen_down = False
    last = (math.nan, math.nan)
    for p in line.points:
        if not math.isfinite(p.y):
            pen_down = False
            continue
        x, y = round(2 * px(p.x)) / 2, round(2 * py(p.y)) / 2
        if pen_down and (x, y) == last:
            continue
        if not pen_down:
            yield f"M{_n(x)} {_n(y)}"
        elif line.steps:
            yield f"H{_n(x)}" + (f"V{_n(y)}" if y != last[1] else "")
        else:
            yield f"L{_n(x)} {_n(y)}"
        pen_down, last = True, (x, y)


def _cells(pen: _Pen, cells: Cells, px: Place, py: Place) -> None:
    wide = px(1) - px(0)
    high = py(1) - py(0)
    for column, row, text, weight in cells.cells:
        x, y = px(column) - wide / 2 + 1, py(row) - high / 2 + 1
        pen.rect(x, y, wide - 2, high - 2, "n")
        if weight is not None:
            pen.rect(x, y, wide - 2, high - 2, "x", f' fill-opacity="{0.06 + 0.44 * min(1.0, max(0.0, weight)):.2f}" rx="2"')
        pen.text(px(column), py(row) + 4, cut(text, wide - 4), "c")
