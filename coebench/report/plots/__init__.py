"""Plots: what a run shows as pictures. `all_figures` makes them, `svg.draw` draws one; the page, the files and the live
page use both.

A plot is a function from a source (the result and what was recorded) to figures; it gives none where its data is not there. A
new one is a file here and a line below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from . import bays, distribution, growth, latency, machines, matrix, offered, placement, timeline
from .figure import Figure
from .source import Source, source

PLOTS: tuple[Callable[[Source], Iterator[Figure]], ...] = (
    matrix.figures,
    offered.figures,
    growth.figures,
    timeline.figures,
    machines.figures,
    latency.figures,
    placement.figures,
    distribution.figures,
    bays.figures,
)


def all_figures(source: Source) -> list[Figure]:
    """Every figure that this source has data for, by scenario in the result's order, those of none first."""
    order = {s.name: i for i, s in enumerate(source.result.scenarios)}
    found = [f for plot in PLOTS for f in plot(source)]
    names: dict[str, int] = {}
    unique = []
    for f in sorted(found, key=lambda f: order.get(f.scenario, -1)):
        names[f.slug] = names.get(f.slug, 0) + 1
        unique.append(f if names[f.slug] == 1 else _renamed(f, names[f.slug]))
    return unique


def _renamed(figure: Figure, number: int) -> Figure:
    return msgspec.structs.replace(figure, slug=f"{figure.slug}-{number}")


__all__ = ["PLOTS", "Figure", "Source", "all_figures", "source"]
