"""Bays as they come and go: how many nodes there are, and how many are created and deleted an hour."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .figure import Axis, Figure, Key, Line, Panel, Point, slug
from .source import Life, Source, Trace

BINS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)  # seconds; an hour, once there are hours enough
MOST_BINS = 40
MINUTES = 600.0  # seconds from which the axis tells minutes


class Change(NamedTuple):
    """At so many seconds of a trial, so many nodes more or fewer."""

    at: float
    more: int


class _Story:
    """One trial's bays, from the moment that the first was asked for."""

    def __init__(self, trace: Trace) -> None:
        facts = sorted(trace.lives, key=lambda f: f.at)
        zero = facts[0].at
        self.changes = list(_changes(facts, zero))
        self.end = facts[-1].at - zero
        self.created = sum(c.more for c in self.changes if c.more > 0)
        self.deleted = -sum(c.more for c in self.changes if c.more < 0)

    def nodes(self) -> list[Point]:
        """How many there are, at each change."""
        found, have = [Point(0.0, 0.0)], 0
        for change in self.changes:
            have += change.more
            found.append(Point(change.at, have))
        return [*found, Point(self.end, have)]

    def rates(self, sign: int, width: float) -> list[Point]:
        """Nodes an hour in each `width` seconds: created (`sign` 1) or deleted (-1)."""
        count = int(self.end // width) + 1
        bins = [0] * count
        for change in self.changes:
            if change.more * sign > 0:
                bins[min(count - 1, int(change.at // width))] += abs(change.more)
        found = [Point(i * width, n * 3600 / width) for i, n in enumerate(bins)]
        return [*found, Point(count * width, found[-1].y)]


def _changes(facts: list[Life], zero: float) -> Iterator[Change]:
    have: dict[str, int] = {}
    for fact in facts:
        if fact.nodes >= 0 and fact.nodes != have.get(fact.bay, 0):
            yield Change(fact.at - zero, fact.nodes - have.get(fact.bay, 0))
            have[fact.bay] = fact.nodes


def figures(source: Source) -> Iterator[Figure]:
    """One figure for each scenario that made bays itself: each subject's nodes, and below them their coming and going."""
    for scenario in dict.fromkeys(t.scenario for t in source.traces if t.lives):
        stories = {
            subject: [story for t in traces if t.lives and (story := _Story(t)).changes]
            for subject, traces in source.by_subject(scenario).items()
        }
        if stories := {s: mine for s, mine in stories.items() if mine}:
            yield _figure(source, scenario, stories)


def _figure(source: Source, scenario: str, stories: dict[str, list[_Story]]) -> Figure:
    every = [story for mine in stories.values() for story in mine]
    end = max(story.end for story in every)
    width = next((float(b) for b in BINS if end / b <= MOST_BINS), float(BINS[-1]))
    scale, unit = (60.0, "min") if end > MINUTES else (1.0, "s")
    end = (end // width + 1) * width
    x = Axis(label="since the first bay was asked for", unit=unit, zero=True, low=0.0, high=end / scale)
    panels, rows = [], []
    for what in ("nodes that are there", "nodes an hour: created; dashed: deleted"):
        for subject, mine in stories.items():
            items: list[Line] = []
            for number, story in enumerate(mine):
                lines = [story.nodes()] if what.startswith("nodes that") else [story.rates(sign, width) for sign in (1, -1)]
                for i, line in enumerate(lines):
                    points = tuple(Point(p.x / scale, p.y) for p in line)
                    look = {"faint": number > 0, "dashed": i == 1}
                    items.append(Line(points=points, colour=source.colour(subject), steps=True, **look))
            y = Axis(label=what, zero=True, low=0.0)
            title = source.called[subject] if what.startswith("nodes that") else ""
            panels.append(Panel(title=title, x=x, y=y, items=tuple(items), height=130))
    for subject, mine in stories.items():
        for number, story in enumerate(mine, 1):
            most = max(p.y for p in story.nodes())
            rates = [max(p.y for p in story.rates(sign, width)) for sign in (1, -1)]
            figures = (number, f"{most:.0f}", story.created, story.deleted, *(f"{r:.0f}" for r in rates))
            rows.append((source.called[subject], *map(str, figures)))
    return Figure(
        slug=slug(scenario, "machines"),
        scenario=scenario,
        title=f"{scenario}: nodes created and deleted",
        about=f"All bays of a trial together; counted in steps of {width:g} s, told as so many an hour. "
        "Further trials are drawn faintly.",
        panels=tuple(panels),
        legend=tuple(Key(source.called[s], source.colour(s)) for s in stories),
        head=("", "trial", "most at once", "created", "deleted", "created an hour at most", "deleted an hour at most"),
        rows=tuple(rows),
        columns=min(3, len(stories)),
    )
