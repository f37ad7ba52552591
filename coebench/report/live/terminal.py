"""`compare --live` in a terminal: every subject with its bay, phase, instances, requests and latency as they happen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TextIO

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ...contract import Observation, now
from ...hooks import hookimpl
from ..plots.scale import quantity
from ..progress import Progress
from ..words import clean, seconds
from .state import Beat, Column, LiveState, beat, counts

BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = "_.:-=+*#"


class LiveTerminal(Progress):
    """As the progress display, with a table of all subjects above it. Where there is no terminal (or a dumb one) it writes
    lines, one of them for each second of load: what can be followed through a pipe or in a log."""

    def __init__(
        self,
        state: LiveState,
        stream: TextIO | None = None,
        *,
        live: bool | None = None,
        clock: Callable[[], float] = now,
    ) -> None:
        super().__init__(stream, live=live, clock=clock)
        self._seen = state

    @hookimpl
    def observed(self, observation: Observation) -> None:
        super().observed(observation)
        if observation.name == "load.second" and not self._live and counts(observation):
            self._say(observation.at, f"{observation.trial}: {said(beat(observation))}")

    def __rich__(self) -> Group:
        bars = BARS if self._console.encoding.lower().startswith("utf") else PLAIN_BARS
        return Group(table(self._seen, bars, self._console.width), super().__rich__())


def said(second: Beat) -> str:
    """A second in words: "1018/s, p50 129 µs, p99 1.3 ms, 3 bad/s"."""
    words = [quantity(second.good, "1/s") if second.good else "0/s"]
    if second.p99 == second.p99:
        words += [f"p50 {quantity(second.p50, 'ms')}", f"p99 {quantity(second.p99, 'ms')}"]
    words.append(f"{second.bad:.3g} bad/s" if second.bad else "none bad")
    return ", ".join(words)


def table(state: LiveState, bars: str = BARS, width: int = 100) -> Table:
    """All subjects, a row each; the one at work stands out."""
    grid = Table(box=box.SIMPLE_HEAD if bars == BARS else box.ASCII2, pad_edge=False, padding=(0, 1), expand=False)
    grid.add_column("", no_wrap=True)
    grid.add_column("at", overflow="fold")  # what is long goes on in the next line
    grid.add_column("instances", overflow="fold")
    for head in ("requests", "p99", "bad"):
        grid.add_column(head, justify="right", no_wrap=True)
    room = width - 90
    if room >= 8:
        grid.add_column("requests", no_wrap=True)
    with state.lock:
        called, at = state.called(), state.clock()
        for column in state.columns.values():
            working = state.trial is not None and state.trial.subject == column.subject
            cells = _cells(column, called[column.subject], working, at)
            if room >= 8:
                cells.append(Text(spark([b.good for b in column.beats][-min(room, 40) :], bars), "cyan"))
            grid.add_row(*cells, style="" if working or column.at.startswith("bay:") else "dim")
    return grid


def _cells(column: Column, called: str, working: bool, at: float) -> list[Text]:
    doing = f"{column.scenario}: {column.phase or 'begins'}" if working else column.at
    since = f" {seconds(max(0.0, at - column.since))}" if column.since and column.at not in ("waiting", "done") else ""
    states = column.instances
    ready = states.pop("ready", 0)
    others = ", ".join(f"{n} {clean(s)}" for s, n in sorted(states.items()))
    instances = ", ".join(w for w in (f"{ready} ready" if ready else "", others) if w)
    last = column.beats[-1] if column.beats else None
    outcome = column.outcomes
    bad_trials = sum(outcome.values()) - outcome["ok"] - outcome["skipped"]
    name = Text(called, "bold" if working else "")
    name.append(f" {outcome['ok']}✓" if outcome["ok"] else "", "green")
    name.append(f" {bad_trials} not well" if bad_trials else "", "red")
    return [
        name,
        Text(doing + since),
        Text(instances),
        Text((quantity(last.good, "1/s") if last.good else "0/s") if last else ""),
        Text(quantity(last.p99, "ms") if last and last.p99 == last.p99 else ""),
        Text(f"{last.bad:.3g}/s" if last else "", "red" if last and last.bad else ""),
    ]


def spark(values: list[float], bars: str = BARS) -> str:
    """A bar a value, the highest as high as it goes; nothing at all is the lowest."""
    top = max(values, default=0.0)
    return "".join(bars[min(len(bars) - 1, int(v / top * len(bars)))] if top else bars[0] for v in values)
