"""What the generator can do here, found, kept and compared with; and a load asked again by other generators."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from coebench.cli.loadgen import app
from coebench.contract import BadInput, EngineError, LoadPlan, Target
from coebench.load import calibrate, crosscheck, native
from coebench.load.agent import Agent
from coebench.load.coordinator import Coordinator
from coebench.load.crosscheck import Line
from coebench.load.flow import AgentFlow

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))
import loadgen_harness as harness
from test_peers import WRK

# A generator with known limits: 31,000/s in an open loop, 40,000/s in a closed one.
FAKE = """#!{python}
import json, sys, time
words = sys.argv[1:]
if words[0] == "null":
    print("coeload null listening on port 1", flush=True)
    time.sleep(60)
rate = float(words[words.index("--rate") + 1]) if "--rate" in words else 40000.0
achieved = min(rate, 31000.0) if "--rate" in words else rate
lag = {{"p50": 0.02, "p99": 0.4}}
print(json.dumps(dict(offered_rps=rate, achieved_rps=achieved, unsent=0, send_lag_ms=lag, raw_latency_ms={{"p50": 0.06}})))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "coeload-fake"
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path / "cache"))
    return program


def test_limits_are_found_kept_and_known_again(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    limits = calibrate.measure(fake, 0.2, told.append)
    assert limits.closed_rps == 40_000
    assert 31_000 / 1.06 < limits.open_rps <= 31_000 < (limits.open_high or 0)
    assert (limits.floor_ms, limits.lag_p50_ms, limits.lag_p99_ms) == (0.06, 0.02, 0.4)
    assert any("not held" in line for line in told)
    assert calibrate.recall(fake) is None
    calibrate.remember(limits, fake)
    assert calibrate.recall(fake) == limits
    assert calibrate.recall(fake.with_name("coeload-other")) is None  # of other sources
    monkeypatch.setattr(calibrate, "this_machine", lambda: "another machine")
    assert calibrate.recall(fake) is None
    calibrate.file(fake).write_text("{torn")
    assert calibrate.recall(fake) is None


@pytest.mark.parametrize("load", [0.1, 3.0])
def test_as_json_too_it_is_told_whether_limits_were_kept(fake: Path, monkeypatch: pytest.MonkeyPatch, load: float) -> None:
    limits = msgspec.structs.replace(LIMITS, load=load, machine=calibrate.this_machine())
    monkeypatch.setattr(calibrate, "measure", lambda program, seconds, say: limits)
    monkeypatch.setenv("COELOAD", str(fake))
    told = json.loads(CliRunner().invoke(app, ["calibrate", "--json"]).stdout)
    assert told["closed_rps"] == limits.closed_rps
    assert told["kept"] == (str(calibrate.file(fake)) if load < 1 else None)
    assert ("why" in told) == (load > 1)
    assert (calibrate.recall(fake) is not None) == (load < 1)


LIMITS = calibrate.Limits(
    machine="m",
    program="p",
    at=0.0,
    seconds=1.0,
    closed_rps=40_000.0,
    open_rps=30_000.0,
    open_low=30_000.0,
    open_high=31_000.0,
    lag_p50_ms=0.02,
    lag_p99_ms=0.4,
    floor_ms=0.06,
    cores=2,
    load=0.1,
)


def test_a_rate_near_the_limit_may_be_the_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = LIMITS
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert "96% of what the generator reaches" in calibrate.verdict(limits, 38_400.0, open_loop=False)
    assert calibrate.verdict(limits, 28_000.0, open_loop=False) == ""
    assert "93% of what the generator holds" in calibrate.verdict(limits, 28_000.0, open_loop=True)
    assert calibrate.verdict(limits, 28_000.0, open_loop=True, threads=2) == ""
    # Two cores do what two threads can, however many threads there are.
    assert "93% of what the generator holds" in calibrate.verdict(limits, 56_000.0, open_loop=True, threads=24)
    assert calibrate.verdict(msgspec.structs.replace(limits, open_rps=0.0), 1.0, open_loop=True) == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["http://h/a", "http://h/b"], "one URL"),
        (["--closed"], "one URL"),
        (["http://127.0.0.1/", "--body", "x"], "--body can't be cross-checked"),
        (["http://127.0.0.1/", "--stages=1:1s"], "--stages can't be cross-checked"),
        (["http://127.0.0.1/", "--duration", "5"], "no duration"),
        (["http://127.0.0.1:99999/"], "ort"),
        (["http://127.0.0.1/", "--connections", "many"], "many"),
    ],
)
def test_what_others_can_not_be_asked_is_refused(words: list[str], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        crosscheck.plan_of(words)


def test_a_load_is_read_as_the_others_need_it() -> None:
    plan = crosscheck.plan_of(["--rate=50", "http://127.0.0.1:81/x?y=1", "--connections", "4", "--duration", "1500ms", "--json"])
    assert (plan.rate, plan.connections, plan.duration, plan.path, plan.targets[0].port) == (50.0, 4, 1.5, "/x?y=1", 81)


def test_shares_are_of_our_own_two() -> None:
    lines = (
        Line("coeload", 90.0, {"p50": 1.0}),
        Line("wrk", 50.0, {"p50": 2.0}),
        Line("coeload", 110.0, {"p50": 1.0}),
        Line("hey", why="not so"),
    )
    said = crosscheck.text(lines)
    assert "0.500 of ours" in said
    assert "can't: not so" in said


OTHER = """#!{python}
import time
{body}
"""


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A wrk that does as it is told."""
    if not shutil.which("gcc"):
        pytest.skip("the generator is built from C and there is no gcc")

    def make(body: str) -> None:
        file = tmp_path / "bin" / "wrk"
        file.parent.mkdir()
        file.write_text(OTHER.format(python=sys.executable, body=body))
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")

    return make


def test_a_cross_check_as_json_has_all_that_a_run_has(other: Callable[[str], None]) -> None:
    other(f"print({WRK!r})")
    with harness.NullServer(native.program()) as server:
        words = [server.url, "--closed", "--connections", "4", "--duration", "1s"]
        told = json.loads(crosscheck.encoded(crosscheck.run(native.program(), words, ["wrk"], lambda text: None)))
    promised = {
        "offered_rps",
        "achieved_rps",
        "errors",
        "latency_ms",
        "raw_latency_ms",
        "send_lag_ms",
        "cpu",
        "latency",
        "raw",
        "lag",
    }
    assert promised <= told.keys()
    assert "saturated" in told
    assert [x["tool"] for x in told["cross_check"]] == ["coeload", "wrk", "coeload"]
    assert told["cross_check"][0]["achieved_rps"] == told["achieved_rps"]
    assert told["cross_check"][1]["errors"]["bad_status"] == 54


def test_another_generator_that_does_not_end_is_told_in_a_line(
    other: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    other("time.sleep(60)")
    monkeypatch.setattr(crosscheck, "BEYOND", 0.2)
    with harness.NullServer(native.program()) as server:
        words = [server.url, "--closed", "--connections", "4", "--duration", "1s"]
        with pytest.raises(EngineError, match=r"wrk.*did not end within 1\.2 s"):
            crosscheck.run(native.program(), words, ["wrk"], lambda text: None)


@pytest.mark.skipif(not shutil.which("wrk") or not shutil.which("gcc"), reason="wrk and gcc are needed")
def test_wrk_is_asked_between_two_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with harness.NullServer(native.program()) as server:
        words = [server.url, "--closed", "--connections", "4", "--duration", "1s"]
        lines = crosscheck.run(native.program(), words, ["wrk"], lambda text: None)
        assert [line.tool for line in lines] == ["coeload", "wrk", "coeload"]
        assert all(line.rps > 100 and not line.errors and {"p50", "p99", "max"} <= set(line.raw_ms) for line in lines)
        assert "of ours" in crosscheck.text(lines)
        with pytest.raises(BadInput, match="generator"):
            crosscheck.run(native.program(), words, ["ab"], lambda text: None)
        monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
        with pytest.raises(BadInput, match="apt-get install wrk"):
            crosscheck.run(native.program(), words, ["wrk"], lambda text: None)


@pytest.fixture
def slow_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The generator, on a machine on which it was seen to hold 100 requests a second."""
    if not shutil.which("gcc"):
        pytest.skip("the generator is built from C and there is no gcc")
    program = native.program()
    monkeypatch.setenv("COELOAD", str(program))
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path))
    limits = msgspec.structs.replace(LIMITS, machine=calibrate.this_machine(), open_rps=100.0)
    calibrate.remember(limits, program)
    return program


@pytest.mark.parametrize(("rate", "near"), [(20.0, False), (190.0, True)])
def test_limits_are_compared_with_wherever_the_generator_runs_here(slow_machine: Path, rate: float, near: bool) -> None:
    """`loadgen run`; two agents as one, which are compared together; a load that goes on meanwhile."""

    def assert_said(saturated: str) -> None:
        # On a busy machine another line may be crossed before this one.
        assert saturated if near else "of what the generator holds on this machine" not in saturated

    with harness.NullServer(slow_machine) as server:
        command = [sys.executable, "-m", "coebench", "loadgen", "run", server.url, "--duration=500ms", f"--rate={rate:g}"]
        told = subprocess.run([*command, "--threads=2", "--json"], capture_output=True, text=True, check=True).stdout
        assert_said(json.loads(told)["saturated"])
        text = subprocess.run([*command, "--threads=2"], capture_output=True, text=True, check=True).stdout
        assert ("so the figures are lower bounds" in text) == near
        target = (Target("127.0.0.1", server.port),)
        plan = LoadPlan(targets=target, rate=rate, arrivals="constant", connections=4, duration=1.0, warmup=0.0)
        agents = [harness.Agent(slow_machine), harness.Agent(slow_machine)]
        try:
            result = Coordinator(plan, [(str(a.port), ("127.0.0.1", a.port)) for a in agents]).run()
            assert_said(result.saturated)
            flow = AgentFlow(Agent("127.0.0.1", agents[0].port), plan, lambda burst: None)
            time.sleep(0.6)
            assert_said(flow.stop().saturated)
        finally:
            for agent in agents:
                agent.end()
