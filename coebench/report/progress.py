"""What a run is doing, on the error stream: standard output stays for the result alone."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..contract import Observation, now
from ..hooks import Outcome, TrialInfo, hookimpl
from ..results.model import Result
from .words import clean, seconds

_STYLE = {"ok": "green", "failed": "red", "timeout": "red", "skipped": "yellow", "interrupted": "yellow"}
_SAID = {"timeout": "timed out"}


class Progress:
    """A plug-in of the hooks: a live display where `stream` is a terminal, else a timestamped line for each step.

    Ended trials stay on the screen as lines, so that the scroll-back is the same record in both forms. Times are by the
    observations' own clock. `close` gives the terminal back and is safe to call twice; `run_ended` calls it.
    """

    def __init__(self, stream: TextIO | None = None, *, live: bool | None = None, clock: Callable[[], float] = now) -> None:
        self._console = Console(file=stream or sys.stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)
        able = self._console.is_terminal and not self._console.is_dumb_terminal
        self._clock = clock
        self._state = _State()
        self._live: Live | None = None
        if able if live is None else live:
            self._live = Live(self, console=self._console, refresh_per_second=8, transient=True)

    @hookimpl
    def run_started(self, run: str, folder: str, manifest: Mapping[str, Any]) -> None:
        order = [str(i) for i in manifest.get("order") or ()]
        budget = _number((manifest.get("plan") or {}).get("budget"))
        self._state.begin(self._clock(), order, budget)
        trials = "1 trial" if len(order) == 1 else f"{len(order)} trials"
        if budget:
            trials += f" at most, in {seconds(budget)}"
        self._say(self._clock(), f"run {run}: {trials}, into {folder}")
        if self._live:
            self._live.start()

    @hookimpl
    def trial_started(self, trial: TrialInfo) -> None:
        self._state.trial_started(self._clock(), trial)
        if not self._live:
            self._say(self._clock(), f"{_place(trial)} {trial.id}: begins on bay {trial.bay}")

    @hookimpl
    def trial_ended(self, trial: TrialInfo, outcome: Outcome) -> None:
        self._state.trial_ended(self._clock(), trial, outcome)
        reason = f": {outcome.reason}" if outcome.reason else ""
        text = f"{_place(trial)} {trial.id}: {_SAID.get(outcome.status, outcome.status)}"
        self._say(self._clock(), f"{text}, {seconds(outcome.seconds)}{reason}", _STYLE.get(outcome.status, ""))

    @hookimpl
    def observed(self, observation: Observation) -> None:
        text = self._state.observed(observation)
        if observation.name == "warning":
            self._say(observation.at, f"warning: {observation.data.get('text', '')}", "yellow")
        elif text and not self._live:
            self._say(observation.at, text)

    @hookimpl
    def run_ended(self, run: str, result: Result) -> None:
        self.close()

    def close(self) -> None:
        """End the display and leave the cursor as it was."""
        if self._live:
            self._live.stop()
            self._live = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _say(self, at: float, text: str, style: str = "") -> None:
        stamp = time.strftime("%H:%M:%S", time.localtime(at))
        self._console.print(Text(f"{stamp} ", "dim").append_text(Text(clean(text), style)))

    def __rich__(self) -> Group:
        lines = self._state.lines(self._clock())
        return Group(*(Text(clean(text), style, no_wrap=True, overflow="ellipsis") for text, style in lines))


def _place(trial: TrialInfo) -> str:
    return f"[{trial.position}/{trial.of}]"


class _State:
    """What is known of the run; written by the hooks, read by the display's own thread."""

    def __init__(self) -> None:
        self.began = self.last_end = self.budget = 0.0
        self.order: list[str] = []
        self.done: set[str] = set()
        self.counts: dict[str, int] = {}
        self.walls: dict[str, list[float]] = defaultdict(list)
        self.trial: TrialInfo | None = None
        self.trial_began = 0.0
        self.phase: tuple[str, float, float] | None = None  # name, began, limit
        self.bays: dict[str, tuple[str, float, float]] = {}  # bay → what it is at, since when, asked for when

    def begin(self, at: float, order: list[str], budget: float = 0.0) -> None:
        self.began = self.last_end = at
        self.budget = budget  # seconds; 0: none
        self.order = order

    def trial_started(self, at: float, trial: TrialInfo) -> None:
        self.trial, self.trial_began, self.phase = trial, at, None

    def trial_ended(self, at: float, trial: TrialInfo, outcome: Outcome) -> None:
        self.trial = self.phase = None
        self.done.add(trial.id)
        self.counts[outcome.status] = self.counts.get(outcome.status, 0) + 1
        # From end to end: what the trial's bay took to come up belongs to what is still to be waited for.
        self.walls[_kind(trial.id)].append(at - self.last_end)
        self.last_end = at

    def observed(self, o: Observation) -> str:
        """Take a fact in; returns the line that it is worth, empty if none."""
        data = o.data
        if o.name.startswith("bay."):
            step = o.name.removeprefix("bay.").replace("_", " ")
            before, _, asked = self.bays.get(o.trial, ("", o.at, o.at))
            if step == "deleted":
                self.bays.pop(o.trial, None)
                return f"bay {o.trial}: gone"
            if before == "ready" or step in ("creating", "deleting"):
                asked = o.at  # what comes after is no part of the time to be ready
            self.bays[o.trial] = (step, o.at, asked)
            return f"bay {o.trial}: {step}" + (f" after {seconds(o.at - asked)}" if o.at > asked else "")
        if o.name == "phase.begin":
            self.phase = (str(data.get("phase", "")), o.at, _number(data.get("timeout")))
            return ""
        if o.name == "phase.end":
            self.phase = None
            return f"{o.trial}: {data.get('phase', '')} took {seconds(_number(data.get('seconds')))}"
        if o.name == "phase.timeout":
            waiting = f" (waiting for {data['waiting_for']})" if data.get("waiting_for") else ""
            return f"{o.trial}: {data.get('phase', '')} not within {seconds(_number(data.get('seconds')))}{waiting}"
        return ""

    def left(self, at: float) -> float | None:
        """Seconds that the rest of the plan, or of its budget, will take, as far as it can be told from what is done; None before
        that."""
        walls = {kind: list(w) for kind, w in list(self.walls.items())}
        every = [w for ws in walls.values() for w in ws]
        if not every or not self.order:
            return None
        mean = sum(every) / len(every)
        todo = [i for i in self.order if i not in self.done]
        rest = sum(sum(ws) / len(ws) if (ws := walls.get(_kind(i))) else mean for i in todo)
        left = max(0.0, rest - (at - self.last_end)) if todo else 0.0
        return min(left, max(0.0, self.began + self.budget - at)) if self.budget else left

    def lines(self, at: float) -> list[tuple[str, str]]:
        trial, phase = self.trial, self.phase
        if trial:
            now_at = f"{_place(trial)} {trial.subject} {trial.scenario}, block {trial.block}"
            if phase:
                name, began, limit = phase
                of = f" of at most {seconds(limit)}" if limit else ""
                now_at += f" · {name} {seconds(at - began)}{of}"
            else:
                now_at += f" · {seconds(at - self.trial_began)}"
        else:
            now_at = f"[{len(self.done)}/{len(self.order)}] between trials"
        lines = [(now_at, "bold")]
        for name, (step, since, asked) in list(self.bays.items()):
            took = seconds(since - asked) if step == "ready" else seconds(at - asked)
            lines.append((f"bay {name}: {step}" + (f" in {took}" if step == "ready" else f", {took}"), ""))
        counts = [f"{n} {_SAID.get(status, status)}" for status, n in list(self.counts.items())]
        times = [f"{seconds(at - self.began)} gone"]
        if (left := self.left(at)) is not None:
            times.append(f"about {seconds(left)} left")
        lines.append((" · ".join(counts + times), "dim"))
        return lines


def _kind(trial: str) -> str:
    """A trial's id without its block."""
    return trial.partition(".")[2] or trial


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
