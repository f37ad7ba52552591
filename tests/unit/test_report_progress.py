"""The progress of a run: lines, or a live display."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from synthetic import Synthetic

from coebench.report import progress
from coebench.report.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def watched(tmp_path, **options):
    run = Synthetic(tmp_path, blocks=4)
    out = io.StringIO()
    plugin = Progress(out, clock=lambda: run.at, **options)
    run.hooks.register(plugin)
    return run, plugin, out


def test_lines(tmp_path):
    run, _, out = watched(tmp_path)
    run.write()
    lines = out.getvalue().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d \S", line) for line in lines)
    text = "\n".join(lines)
    assert "run 20260102-030405-quiet-heron: 24 trials" in text
    assert "bay cb-k8s-1: ready after 2.3 s" in text and "bay cb-k8s-1: gone" in text
    assert "[1/24] b1.k8s.deploy: begins on bay cb-k8s-1" in text
    assert "[19/24] b4.k8s.deploy: failed, 3.2 s: kubelet ended: out of memory" in text
    assert "answers not within 60 s (waiting for 29 of 30)" in text
    assert "warning: the machine's load" in text
    assert "\x1b" not in text


def test_nothing_goes_to_standard_output(tmp_path, capsys):
    run = Synthetic(tmp_path, blocks=1)
    run.hooks.register(Progress())
    run.write()
    captured = capsys.readouterr()
    assert captured.out == "" and "b1.k8s.deploy" in captured.err


def test_what_the_display_shows(tmp_path):
    run, plugin, _ = watched(tmp_path)
    frames = []
    original = run.observe

    def observe(*args, **kwargs):
        original(*args, **kwargs)
        out = io.StringIO()
        Console(file=out, width=60).print(plugin)
        frames.append(out.getvalue())

    run.observe = observe
    run.write()
    every = "\n".join(frames)
    assert "[3/24] swarm deploy, block 1 · ask 0.0 s of at most 60 s" in every
    assert "bay cb-swarm-1: ready in 2.3 s" in every
    assert "bay cb-swarm-1: hosts, 0.3 s" in every
    assert re.search(r"2 ok · [\d.]+ s gone · about \d+ s left", every)
    assert "1 timed out" in every
    assert max(len(line) for line in every.splitlines()) <= 60
    left = [int(s) for s in re.findall(r"about (\d+) s left", every)]
    assert left[0] > left[len(left) // 2] > 0


def test_live_gives_the_terminal_back(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    run = Synthetic(tmp_path, blocks=1, trouble=False)
    out = Terminal()
    with Progress(out, clock=lambda: run.at) as plugin:
        run.hooks.register(plugin)
        run.write(stop_after=3)  # the run ends without saying so
        assert "\x1b[?25l" in out.getvalue() and not out.getvalue().endswith("\x1b[?25h")
    assert "\x1b[?25h" in out.getvalue()
    assert "b1.k8s.deploy: ok" in out.getvalue()
    plugin.close()


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_dumb_terminals_get_lines(tmp_path, monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    run = Synthetic(tmp_path, blocks=1, trouble=False)
    out = Terminal()
    run.hooks.register(Progress(out, clock=lambda: run.at))
    run.write()
    assert "\x1b[?25l" not in out.getvalue() and "begins on bay" in out.getvalue()


def test_texts_of_a_run_can_not_steer_the_terminal(tmp_path):
    run, _, out = watched(tmp_path)
    run.observe("warning", text="[red]x\x1b[2J\n\rnext")
    assert out.getvalue().endswith("warning: [red]x [2J next\n")


def test_steps_of_a_warm_bay_are_timed_from_their_own_beginning():
    state = progress._State()

    def told(at, name):
        return state.observed(progress.Observation(at=at, name=name, trial="cb"))

    assert told(1.0, "bay.creating") == "bay cb: creating"
    assert told(3.0, "bay.ready") == "bay cb: ready after 2.0 s"
    assert told(90.0, "bay.resized") == "bay cb: resized"
    assert told(99.0, "bay.deleting") == "bay cb: deleting"
    assert told(99.6, "bay.deleted") == "bay cb: gone"
    assert state.bays == {}


def test_estimate_knows_the_kinds_of_trials():
    state = progress._State()
    state.begin(0.0, ["b1.a.x", "b1.a.y", "b2.a.x", "b2.a.y"])
    assert state.left(0.0) is None
    for at, trial in ((10.0, "b1.a.x"), (12.0, "b1.a.y")):
        info = progress.TrialInfo(id=trial, block=1, subject="a", coe="a", scenario="x", bay="", position=1, of=4)
        state.trial_ended(at, info, progress.Outcome(status="ok", seconds=1))
    assert state.left(12.0) == 12.0
    assert state.left(15.0) == 9.0


def test_what_is_left_is_never_more_than_the_budget():
    state = progress._State()
    state.begin(0.0, [f"b{n}.a.x" for n in range(1, 101)], budget=60.0)
    info = progress.TrialInfo(id="b1.a.x", block=1, subject="a", coe="a", scenario="x", bay="", position=1, of=100)
    state.trial_ended(10.0, info, progress.Outcome(status="ok", seconds=10.0))
    assert state.left(10.0) == 50.0
    assert state.left(70.0) == 0.0
