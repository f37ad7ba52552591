"""A history of runs, set for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from ..results.diff import WORSE
from ..results.history import History, Point, Series
from . import words
from .compared import SIGNS, STYLES
from .markdown import escape
from .spark import spark
from .words import Scale, clean


def title(s: Series) -> str:
    """What a series is of."""
    setting = words.setting(s.factors)
    return clean(f"{s.subject} {s.scenario}: {s.title}") + (f", {setting}" if setting else "")


def scale(s: Series) -> Scale:
    """One unit for all of a series."""
    return words.scale(s.unit, [x for p in s.points if (x := _median(p)) is not None])


def _median(p: Point) -> float | None:
    return p.value.median if p.value.median is not None else p.value.above


def line(s: Series) -> str:
    """The medians as a line of blocks; a run without one is a gap."""
    return spark([math.nan if (x := _median(p)) is None else x for p in s.points])


def figure(p: Point, factor: float) -> str:
    """The median with its interval, and what is missing from it."""
    v = p.value
    if v.median is not None:
        text = words.number(v.median * factor)
        if v.n > 1 and v.low is not None and v.high is not None and v.low != v.high:
            text += f" ({words.number(v.low * factor)}–{words.number(v.high * factor)})"
    else:
        text = f">{words.number((v.above or 0.0) * factor)}" if v.n else "–"
    lost = words.trouble(v)
    return f"{text}, {lost}" if lost else text


def said(p: Point) -> str:
    """What became of it."""
    if p.barred:
        return f"not comparable: {p.barred}"
    ratio = f" {words.times(p.ratio)}×" if p.ratio is not None and p.verdict else ""
    return f"{SIGNS[p.verdict]} {p.verdict}{ratio}" if p.verdict else ""


def trend(s: Series) -> str:
    """The trend in words; empty if there is none to speak of."""
    if not s.trend or s.tau is None:
        return ""
    way = "rises" if s.tau > 0 else "falls"
    return f"{way} from run to run, which is {s.trend} (Kendall's tau {s.tau:.2f}, p = {s.p:.2g})"


def _head(h: History) -> str:
    return f"{h.runs} run{'s' * (h.runs != 1)} in {clean(h.folder)}"


def markdown(h: History) -> Iterator[str]:
    """GitHub-flavoured Markdown, by line."""
    yield f"## {escape(_head(h))}"
    yield ""
    for s in h.series:
        unit = scale(s)
        yield f"### {escape(title(s))}"
        yield ""
        yield f"`{line(s)}`" + (f" {escape(trend(s))}" if trend(s) else "")
        yield ""
        yield f"| run | engine | {escape(unit.unit)} | against the one before |"
        yield "|:--|:--|:--|:--|"
        for p in s.points:
            cells = (clean(p.run), clean(p.version), figure(p, unit.factor), clean(said(p)))
            yield "| " + " | ".join(map(escape, cells)) + " |"
        yield ""
    if h.skipped:
        yield "**Skipped**"
        yield ""
        yield from (f"- {escape(clean(x))}" for x in h.skipped)


def terminal(h: History, out: TextIO, width: int | None = None) -> None:
    """A line of blocks and a table of runs for each figure."""
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        for part in _parts(h, console.options.ascii_only):
            console.print(part)
    text = captured.get()
    out.write(text if console.is_terminal else "".join(f"{x.rstrip()}\n" for x in text.splitlines()))


def _parts(h: History, plain: bool) -> Iterator[RenderableType]:
    def t(text: str, style: str = "") -> Text:
        return Text(text.translate(_ASCII) if plain else text, style)

    yield t(_head(h), "bold")
    yield Text()
    for s in h.series:
        unit = scale(s)
        yield t(title(s), "bold").append_text(t(f"  {line(s)}" if not plain else ""))
        if trend(s):
            yield Padding.indent(t(trend(s), STYLES[WORSE] if s.trend == WORSE else ""), 2)
        grid = Grid(box=box.ASCII2 if plain else box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for head in ("run", "engine", unit.unit if unit.unit != "1" else "", ""):
            grid.add_column(t(clean(head)), overflow="fold")
        for p in s.points:
            style = STYLES.get(p.verdict, "yellow" if p.barred else "")
            grid.add_row(t(clean(p.run)), t(clean(p.version)), t(figure(p, unit.factor)), t(clean(said(p)), style))
        yield Padding.indent(grid, 2)
        yield Text()
    for text in h.skipped:
        yield t(f"skipped {clean(text)}", "yellow")


def table(h: History, out: TextIO) -> None:
    """As CSV: one line a run and figure, in the metric's own unit."""
    from .csv import cell

    writer = csv.writer(out, lineterminator="\n")
    head: Sequence[str] = (
        "run", "started", "version", "subject", "scenario", "metric", "unit", "setting",
        "median", "low", "high", "n", "failed", "timed_out", "verdict", "ratio", "barred",
    )  # fmt: skip
    writer.writerow(head)
    for s in h.series:
        setting = ",".join(f"{k}={v}" for k, v in s.factors.items())
        for p in s.points:
            v = p.value
            row = (
                p.run, p.started, p.version, s.subject, s.scenario, s.name, s.unit, setting,
                v.median, v.low, v.high, v.n, v.failed, v.timed_out + v.censored, p.verdict, p.ratio, p.barred,
            )  # fmt: skip
            writer.writerow(cell(x) for x in row)


_ASCII = str.maketrans({"▲": "+", "▼": "-", "→": "->", "–": "-", "≥": ">=", "×": "x", "µ": "u", "…": "..."})
