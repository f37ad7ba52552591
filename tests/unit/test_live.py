"""A run as it happens: the state that displays share, the terminal, the page, and what a Prometheus gets."""

from __future__ import annotations

import io
import json
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from rich.console import Console
from synthetic import Synthetic
from test_plots import HOSTILE, encoded

from coebench.contract import BadInput, Observation
from coebench.hooks import Outcome, TrialInfo
from coebench.report.live.metrics import MetricsServer
from coebench.report.live.state import BOUNDS, LiveState
from coebench.report.live.terminal import LiveTerminal, spark, table
from coebench.report.live.web import LiveWeb

T = 1000.0


def trial(subject: str, position: int = 1) -> TrialInfo:
    return TrialInfo(
        id=f"b1.{subject}.update",
        block=1,
        subject=subject,
        coe=subject,
        scenario="update",
        bay=f"bay-{subject}",
        position=position,
        of=2,
    )


class Story:
    """What a run tells its listeners, told to these."""

    def __init__(self, *listeners: Any, subjects: tuple[str, ...] = ("swarm", "mesos")) -> None:
        self.listeners, self.at, self.subjects = listeners, T, subjects
        manifest = {
            "order": [trial(s).id for s in subjects],
            "profile": "smoke",
            "seed": 7,
            "subjects": [{"name": s, "coe": s} for s in subjects],
        }
        self.tell("run_started", run="r1", folder="/r1", manifest=manifest)

    def tell(self, hook: str, **kw: Any) -> None:
        for listener in self.listeners:
            if hasattr(listener, hook):
                getattr(listener, hook)(**kw)

    def see(self, name: str, of: str, after: float = 0.1, **data: Any) -> None:
        self.at += after
        self.tell("observed", observation=Observation(at=self.at, name=name, trial=of, data=data))

    def begin(self, subject: str, version: str = "20.10") -> None:
        bay = f"bay-{subject}"
        self.see("bay.creating", bay, subject=subject, coe=subject)
        self.see("bay.ready", bay, subject=subject, bay={}, engine={"engine": f"Engine {subject}", "version": version})
        self.tell("trial_started", trial=trial(subject))

    def load(
        self, subject: str, seconds: int = 3, good: int = 100, bad: int = 0, loop: str = "open", phase: str = "measured"
    ) -> None:
        of = trial(subject).id
        for _ in range(seconds):
            data = {"seconds": 1.0, "phase": phase, "planned": good + bad, "ok": good, "errors": {"reset": bad} if bad else {}}
            self.see(
                "load.second", of, 1.0, loop=loop, rate=100.0, latency=encoded([2.0] * good), raw=encoded([1.0] * good), **data
            )

    def instances(self, subject: str, ready: int, starting: int = 0) -> None:
        of = trial(subject).id
        for i in range(ready + starting):
            self.see("instance", of, service="web", id=f"i{i}", state="ready" if i < ready else "starting", version="v1")
            if i < ready:
                self.see("answer", of, service="web", instance=f"i{i}", kind="up", version="v1")

    def end(self, subject: str, status: str = "ok", reason: str = "") -> None:
        self.tell("trial_ended", trial=trial(subject), outcome=Outcome(status=status, seconds=3.0, reason=reason))


def shown(state: LiveState, width: int = 120, **console: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=width, **console).print(table(state, width=width))
    return out.getvalue()


def test_the_table_shows_who_works_and_what_a_client_sees() -> None:
    state = LiveState(clock=lambda: T + 10)
    story = Story(state)
    story.begin("swarm")
    story.see("phase.begin", trial("swarm").id, phase="load open", timeout=30)
    story.instances("swarm", ready=3, starting=1)
    story.load("swarm", good=120, bad=2)
    text = shown(state)
    (row,) = [line for line in text.splitlines() if "swarm" in line]
    for word in ("update: load open", "3 ready, 1 starting", "120/s", "2 ms", "2/s"):
        assert word in row
    assert "waiting" in next(line for line in text.splitlines() if "mesos" in line)
    story.end("swarm", "failed", "no")
    assert "1 not well" in shown(state)


def test_gone_and_ended_instances_and_the_last_trial_s_are_not_counted() -> None:
    state = LiveState()
    story = Story(state)
    story.begin("swarm")
    story.instances("swarm", ready=3)
    story.see("gone", trial("swarm").id, service="web", id="i0")
    story.see("instance", trial("swarm").id, service="web", id="i1", state="ended")
    story.see("answer", trial("swarm").id, service="web", instance="i2", kind="down")
    column = state.columns["swarm"]
    assert dict(column.instances) == {"ready": 1}
    assert len(column.answering) == 2
    story.end("swarm")
    story.begin("swarm")
    assert not column.instances and not column.answering


def test_it_fits_a_narrow_terminal_without_colours_and_without_utf8() -> None:
    state = LiveState()
    story = Story(state)
    story.begin("swarm")
    story.load("swarm")
    text = shown(state, width=60, no_color=True)
    assert all(len(line) <= 60 for line in text.splitlines()) and "\x1b" not in text
    assert spark([1.0, 4.0, 8.0, 0.0], "_.:-=+*#") == ".=#_"
    assert spark([]) == "" and spark([0.0, 0.0]) == "▁▁"


def test_without_a_terminal_each_second_is_a_line() -> None:
    out = io.StringIO()
    state = LiveState()
    story = Story(state, LiveTerminal(state, out))
    story.begin("swarm")
    story.load("swarm", seconds=2, good=50, bad=1)
    story.end("swarm")
    lines = [line for line in out.getvalue().splitlines() if "50/s" in line]
    assert len(lines) == 2 and all("p99 2 ms, 1 bad/s" in line for line in lines)
    assert "\x1b" not in out.getvalue()


def test_in_a_terminal_the_table_is_redrawn_and_goes_at_the_end() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

        @property
        def encoding(self) -> str:  # type: ignore[override]
            return "utf-8"

    out = Terminal()
    state = LiveState()
    with LiveTerminal(state, out, live=True) as display:
        story = Story(state, display)
        story.begin("swarm")
        story.load("swarm", good=77)
        display._live.refresh()  # type: ignore[union-attr]
        assert "77/s" in out.getvalue()
    assert out.getvalue().rstrip().endswith("\x1b[?25h") or "\x1b[?25h" in out.getvalue(), "the cursor is back"


@pytest.fixture
def metrics() -> Iterator[tuple[LiveState, MetricsServer]]:
    state = LiveState(clock=lambda: T + 5)
    server = MetricsServer(state, 0)
    yield state, server
    server.close()


def scrape(server: MetricsServer) -> dict[str, Any]:
    request = urllib.request.Request(server.url, headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        return {f.name: f for f in text_string_to_metric_families(answer.read().decode())}


def test_openmetrics_are_what_prometheus_own_parser_reads(metrics: tuple[LiveState, MetricsServer]) -> None:
    state, server = metrics
    assert server.url.startswith("http://127.0.0.1:")
    scrape(server)  # before the run has begun
    story = Story(state)
    story.begin("swarm")
    story.instances("swarm", ready=2)
    story.load("swarm", seconds=1, good=9, phase="warmup")
    story.load("swarm", seconds=2, good=100, bad=3)
    found = scrape(server)
    requests = {s.labels["result"]: s.value for s in found["coebench_requests"].samples if s.name.endswith("_total")}
    assert requests == {"good": 200, "bad": 6, "unsent": 0}, "the warm-up is left out"
    buckets = {s.labels["le"]: s.value for s in found["coebench_latency_seconds"].samples if s.name.endswith("_bucket")}
    assert len(buckets) == len(BOUNDS) + 1
    assert (buckets["0.001"], buckets["0.005"], buckets["+Inf"]) == (0, 200, 200)
    (total,) = [s.value for s in found["coebench_latency_seconds"].samples if s.name.endswith("_sum")]
    assert total == pytest.approx(0.4, rel=0.01)
    assert [(s.labels["state"], s.value) for s in found["coebench_instances"].samples] == [("ready", 2)]
    assert [s.labels["subject"] for s in found["coebench_trial_running"].samples] == ["swarm"]
    story.end("swarm")
    found = scrape(server)
    assert not found["coebench_trial_running"].samples
    (ended,) = [s for s in found["coebench_trials"].samples if s.name.endswith("_total")]
    assert (ended.labels["status"], ended.value) == ("ok", 1)


def test_hostile_names_do_not_break_the_exposition(metrics: tuple[LiveState, MetricsServer]) -> None:
    state, server = metrics
    Story(state, subjects=('a"b\\c\nd', HOSTILE)).begin(HOSTILE)
    assert [s.labels["subject"] for s in scrape(server)["coebench_trial_running"].samples] == [HOSTILE]


@pytest.mark.parametrize("server", [MetricsServer, LiveWeb])
def test_a_taken_port_is_one_clear_line(server: Any) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(BadInput, match=f"{port}: the port is in use; choose another"):
            server(LiveState(), port)
    with pytest.raises(BadInput, match="choose a port from 1024 to 65535"):
        server(LiveState(), 70000)


def get(url: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return str(answer.read().decode())


def test_the_page_is_for_this_machine_and_names_stay_text() -> None:
    state = LiveState()
    web = LiveWeb(state, 0)
    try:
        story = Story(state, subjects=(HOSTILE, "mesos"))
        story.begin(HOSTILE)
        story.load(HOSTILE, seconds=4)
        story.see("warning", "", text=HOSTILE)
        page = get(web.url)
        assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
        assert page.count("<script") == 1 and "100/s" in page and "<svg" in page
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(web.url, Host="evil.example")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(web.url + "../etc/passwd")
    finally:
        web.close()


def follow(web: LiveWeb) -> str:
    """The page's plots, as drawn now."""
    web._plots_due = 0.0
    return web.parts()["plots"]


def test_it_has_the_report_s_plots_of_what_was_observed() -> None:
    state = LiveState()
    web = LiveWeb(state, 0)
    try:
        story = Story(state)
        story.begin("swarm")
        of = trial("swarm").id
        story.see("requested", of, service="web", instances=3)
        story.instances("swarm", ready=3)
        assert "how 3 instances come up" in follow(web) and "latency by percentile" not in follow(web)
        assert "Bays: from asking for one until it is ready" in follow(web)
        story.load("swarm", seconds=4)
        assert "second by second" in follow(web)
        for rate in (1000.0, 1600.0, 2560.0):
            data = {"planned": 100, "ok": 100, "seconds": 1.0, "achieved_rps": rate, "histogram": encoded([2.0] * 100)}
            story.see("load", of, loop="open", rate=rate, **data, **({"step": "curve"} if rate > 1000 else {}))
        page = follow(web)
        assert "latency by percentile" in page and "latency and answers by what is offered" in page
        story.see("life.begin", of, label="x", step="create", have=0)
        story.see("bay.nodes", of, label="x", ready=3)
        assert "nodes created and deleted" in follow(web)
    finally:
        web.close()


def test_plots_are_drawn_every_two_seconds_at_most_and_once_more_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    state = LiveState()
    web = LiveWeb(state, 0)
    drawn = []
    monkeypatch.setattr("coebench.report.plots.PLOTS", (lambda source: drawn.append(1) or iter(()),))
    try:
        story = Story(state)
        story.begin("swarm")
        for _ in range(3):
            story.load("swarm", seconds=1)
            web.parts()
        assert len(drawn) == 1
        follow(web)
        assert len(drawn) == 2
        follow(web)
        assert len(drawn) == 2, "nothing has changed"
    finally:
        web.close()


def test_what_can_not_be_drawn_is_said_and_costs_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("by <b>nought</b>")

    state = LiveState()
    web = LiveWeb(state, 0)
    from coebench.report import plots

    monkeypatch.setattr(plots, "PLOTS", (broken, *plots.PLOTS))
    try:
        story = Story(state)
        story.begin("swarm")
        story.load("swarm", seconds=4)
        parts = web.parts()
        assert "Not drawn: test_live: ZeroDivisionError: by &lt;b&gt;nought&lt;/b&gt;" in parts["plots"]
        assert "second by second" in parts["plots"] and "100/s" in parts["cards"]
        monkeypatch.setattr("coebench.report.live.web._card", broken)
        parts = web.parts()
        assert "Not drawn: cards: ZeroDivisionError" in parts["cards"] and "of 2 trials" in parts["status"]
    finally:
        web.close()


def test_events_send_what_changed_and_say_when_it_is_over() -> None:
    state = LiveState()
    web = LiveWeb(state, 0)
    story = Story(state)
    story.begin("swarm")
    try:
        with urllib.request.urlopen(web.url + "events", timeout=10) as stream:

            def event() -> str:
                text = ""
                while not text.endswith("\n\n"):
                    text += stream.readline().decode()
                return text

            first = json.loads(event().removeprefix("data: "))
            assert set(first) == {"status", "cards", "plots"}
            story.load("swarm", good=321, seconds=3)
            changed: dict[str, str] = {}
            while "321/s" not in changed.get("cards", ""):
                if (text := event()).startswith("data: "):
                    changed |= json.loads(text.removeprefix("data: "))
            story.end("swarm")
            story.tell("run_ended", run="r1", result=None)
            web.close()
            rest = stream.read().decode()
            assert "The run has ended" in rest and rest.endswith("event: over\ndata: {}\n\n")
    finally:
        web.close()


def test_a_whole_run_goes_through(tmp_path: Path) -> None:
    run = Synthetic(tmp_path)
    state = LiveState()
    run.hooks.register(state)
    run.write()
    assert state.ended and len(state.done) == 30
    text = shown(state)
    assert re.search(r"Kubernetes .*1 not well", text) and "Docker Swarm" in text


def test_counts_are_those_of_the_histograms() -> None:
    values = [0.05, 0.15, 3.0, 700.0, 20_000.0]
    h = HdrHistogram(64, 60_000_000_000, 3)
    for v in values:
        h.record_value(int(v * 1e6))
    state = LiveState()
    story = Story(state)
    story.begin("swarm")
    data = {"seconds": 1.0, "phase": "measured", "planned": 5, "ok": 5, "errors": {}, "latency": h.encode().decode()}
    story.see("load.second", trial("swarm").id, loop="open", rate=5.0, **data)
    counted = state.totals["swarm", "update", "open"].latency
    expected = [sum(low < v / 1e3 <= high for v in values) for low, high in zip((0, *BOUNDS), (*BOUNDS, 1e9), strict=True)]
    assert list(counted) == expected
