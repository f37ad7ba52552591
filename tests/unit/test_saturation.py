"""Was it the generator? The lines that are drawn, and a server that is stopped or slow, which is not the generator's doing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coebench.contract import LoadPlan, LoadResult, Target
from coebench.load import alone, native, saturation
from coebench.load.agent import Agent
from coebench.load.prober import BayProber

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))
import loadgen_harness as harness

S = 1_000_000_000


def done(**changes: Any) -> dict[str, Any]:
    at_ease = {
        "measured_from": 0,
        "measured_to": 2 * S,
        "cpu_busiest": 0.3,
        "planned": 2000,
        "ok": 2000,
        "unsent": 0,
        "errors": {},
        "connections": 10,
        "send_lag_ms": {"p50": 0.02, "p99": 0.4, "max": 3.0},
        "raw_latency_ms": {"mean": 0.2, "max": 4.0},
    }
    return {**at_ease, **changes}


LATE = {"p50": 40.0, "p99": 90.0, "max": 95.0}
BUSY = {"mean": 9.5, "max": 30.0}  # 1000/s × 9.5 ms: 9.5 of the 10 connections wait


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (done(), ""),
        (done(cpu_busiest=0.9), "90% of a core"),
        (done(unsent=5), "5 of 2000"),
        (done(unsent=5, raw_latency_ms=BUSY), ""),
        (done(send_lag_ms=LATE), "half of the requests"),
        (done(send_lag_ms=LATE, raw_latency_ms=BUSY), ""),
        (done(send_lag_ms={"p50": 0.02, "p99": 30.0, "max": 40.0}), "while no answer took more than 4.0 ms"),
        (done(send_lag_ms={"p50": 0.02, "p99": 30.0, "max": 200.0}, raw_latency_ms={"mean": 0.2, "max": 200.0}), ""),
        (done(ok=0, unsent=1990, send_lag_ms={"p50": None}, raw_latency_ms={"mean": None, "max": None}), ""),
        (done(ok=1000, errors={"timeout": 300}, unsent=700), ""),
        (done(measured_to=0), ""),
    ],
)
def test_the_generator_is_blamed_for_what_is_its_own(event: dict[str, Any], says: str) -> None:
    said = saturation.reason(event, True)
    assert says in said
    assert bool(says) == bool(said)


def test_a_closed_loop_waits_for_the_service_alone() -> None:
    assert saturation.reason(done(send_lag_ms=LATE, unsent=5), False) == ""
    assert "core" in saturation.reason(done(cpu_busiest=0.95), False)


FACTS = """#!{python}
import os, sys
fd = next(w for w in sys.argv if w.startswith("--facts="))
os.write(int(fd.partition("=")[2]), {facts!r})
print("its own text")
sys.exit({code})
"""


@pytest.mark.parametrize(("busy", "code"), [(0.79, 0), (0.81, 0), (0.85, 1)])
def test_a_run_is_judged_by_the_same_lines(tmp_path: Path, capfd: pytest.CaptureFixture[str], busy: float, code: int) -> None:
    """The program tells facts, with whatever exit code; what they say is said here, in text and in JSON."""
    facts = done(cpu_busiest=busy, mode="closed", threads=1, achieved_rps=1000.0)
    program = tmp_path / "coeload"
    program.write_text(FACTS.format(python=sys.executable, facts=json.dumps(facts).encode(), code=code))
    program.chmod(0o755)
    reason = saturation.reason(facts, False)
    assert bool(reason) == (busy > saturation.BUSY)
    said: list[str] = []
    assert alone.run(program, ["http://x/", "--json"], said.append) == code
    assert json.loads(said[0]) == facts | {"saturated": reason}
    assert capfd.readouterr().out == ""
    said.clear()
    assert alone.run(program, ["http://x/"], said.append) == code
    assert capfd.readouterr().out == "its own text\n"
    assert [reason in line for line in said] == ([True] if reason else [])


def test_a_run_that_is_told_to_end_tells_its_figures() -> None:
    if not shutil.which("gcc"):
        pytest.skip("the generator is built from C and there is no gcc")
    with harness.Server(harness.answering(harness.identity())) as server:
        url = f"http://127.0.0.1:{server.port}/"
        command = [sys.executable, "-m", "coebench", "loadgen", "run", url, "--rate=200", "--duration=0", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while not server.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        process.terminate()
        told = json.loads(process.communicate(timeout=10)[0])
    assert process.returncode == 0
    assert told["stopped"]
    assert told["ok"] > 20


@pytest.fixture(scope="module")
def prober() -> Iterator[BayProber]:
    if not shutil.which("gcc"):
        pytest.skip("the generator is built from C and there is no gcc")
    running = harness.Agent(native.program())
    bay_prober = BayProber(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    bay_prober._agents["here"] = Agent("127.0.0.1", running.port)
    yield bay_prober
    bay_prober.close()
    running.end()


def test_a_service_that_is_too_slow_is_not_taken_for_a_slow_generator(prober: BayProber) -> None:
    """Two connections, 20 ms an answer: 100 requests a second is all there is, and 300 are offered."""

    def slow(connection: Any) -> None:
        for _ in harness.requests_of(connection):
            time.sleep(0.02)
            connection.sendall(harness.identity())

    with harness.Server(slow) as server:
        target = (Target("127.0.0.1", server.port),)
        result = prober.load(LoadPlan(targets=target, rate=300.0, connections=2, duration=2.0, warmup=0.0))
    assert result.achieved_rps < 110
    assert result.latency_ms["p99"] > 500
    assert result.saturated == ""


def test_a_generator_that_is_stopped_is_told_and_a_server_that_is_stopped_is_not(coeload: Path) -> None:
    """200 ms of 2 s at 200/s: a tenth of all requests is late either way, for another's fault or for one's own."""

    def load(stop_server: bool) -> LoadResult:
        running = harness.Agent(coeload)
        prober = BayProber(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
        prober._agents["here"] = Agent("127.0.0.1", running.port)
        stopped: list[Any] = []
        with harness.NullServer(coeload) as server:

            def second(burst: Any) -> None:
                if not stopped:
                    process = server.process if stop_server else running.process
                    stopped.append(process)
                    process.send_signal(signal.SIGSTOP)
                    time.sleep(0.2)
                    process.send_signal(signal.SIGCONT)

            target = (Target("127.0.0.1", server.port),)
            result = prober.load(LoadPlan(targets=target, rate=200.0, connections=8, duration=2.5, warmup=0.0), second)
        prober.close()
        running.end()
        return result

    theirs, ours = load(True), load(False)
    assert min(theirs.latency_ms["max"], ours.latency_ms["max"]) > 190
    assert "while no answer took" not in theirs.saturated
    assert "while no answer took" in ours.saturated or "half of the requests" in ours.saturated
