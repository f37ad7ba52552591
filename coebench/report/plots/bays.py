"""How long a bay takes to be ready: a dot a bay."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from .figure import Axis, Dots, Figure, Key, Panel, Point, Range, slug
from .scale import quantity
from .source import Source


def figures(source: Source) -> Iterator[Figure]:
    """One figure, if any bay became ready."""
    ready = {s: source.result.bays[s].ready for s in source.subjects if s in source.result.bays and source.result.bays[s].ready}
    if not ready:
        return
    items: list[Dots | Range] = []
    rows = []
    for i, (subject, times) in enumerate(ready.items()):
        colour, middle = source.colour(subject), statistics.median(times)
        items.append(Dots(points=tuple(Point(t, float(i)) for t in times), colour=colour))
        items.append(Range(y=float(i), low=None, high=None, value=middle, colour=colour))
        shown = (f"{len(times)}", *(quantity(v, "s") for v in (min(times), middle, max(times))))
        rows.append((source.called[subject], *shown))
    yield Figure(
        slug=slug("bays", "ready"),
        scenario="",
        title="Bays: from asking for one until it is ready",
        about="Hosts, engine, nodes and images, as the provisioner makes them. Less is better.",
        panels=(
            Panel(
                x=Axis(unit="s", zero=True),
                y=Axis(scale="names", names=tuple(source.called[s] for s in ready)),
                items=tuple(items),
                height=26 * len(ready),
            ),
        ),
        legend=(Key("one bay", -1, "dot"), Key("median", -1, "line")),
        head=("", "bays", "least", "median", "most"),
        rows=tuple(rows),
    )
