"""Generators of another make: what they are asked, and what is read from what they printed (outputs of Debian 12's)."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from coebench import plugins
from coebench.contract import Burst, EngineError, LoadPlan, Target, Unsupported
from coebench.lab.trees import host_tree
from coebench.load import native
from coebench.load.agent import Agent
from coebench.load.prober import BayProber

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))
import loadgen_harness as harness

WRK = """Running 1s test @ http://127.0.0.1:18099/
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   234.81us    0.88ms  10.72ms   96.79%
    Req/Sec    31.68k    13.98k   56.97k    54.55%
  Latency Distribution
     50%   63.00us
     75%  117.00us
     90%  246.00us
     99%    5.37ms
  34654 requests in 1.10s, 5.55MB read
  Socket errors: connect 0, read 2, write 0, timeout 1
  Non-2xx or 3xx responses: 54
Requests/sec:  31369.60
Transfer/sec:      5.03MB
"""
H2LOAD = """starting benchmark...
Application protocol: http/1.1

finished in 1.00s, 21108.00 req/s, 3.38MB/s
requests: 21109 total, 21112 started, 21109 done, 21108 succeeded, 1 failed, 0 errored, 1 timeout
status codes: 21108 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 3.38MB (3546144) total, 2.54MB (2659860) headers (space savings 0.00%), 61.85KB (63330) data
                     min         max         mean         sd        +/- sd
time for request:       18us     21.91ms       189us       338us    97.83%
time for connect:        7us        36us        25us        12us    75.00%
time to 1st byte:     1.09ms      1.11ms      1.10ms         8us    50.00%
req/s           :    5231.33     5331.04     5273.17       49.68    75.00%
"""
HEY = """
Summary:
  Total:	1.0075 secs
  Slowest:	0.0032 secs
  Fastest:	0.0001 secs
  Average:	0.0004 secs
  Requests/sec:	397.0086

Response time histogram:
  0.000 [1]	|
  0.001 [139]	|■■■■■■■■■■■■■■■■■■■■■■■

Latency distribution:
  50% in 0.0003 secs
  90% in 0.0006 secs
  99% in 0.0027 secs

Status code distribution:
  [200]	400 responses
  [503]	7 responses

Error distribution:
  [3]	Get "http://127.0.0.1:1/": dial tcp 127.0.0.1:1: connect: connection refused
"""
PLAN = LoadPlan(targets=(Target("10.0.0.1", 80),), connections=4, threads=2, duration=3.0, path="/x")


def tool(name: str):
    return plugins.load("generators", name, "generator")()


def test_all_are_found_by_entry_point() -> None:
    assert set(plugins.names("generators")) >= {"wrk", "h2load", "hey"}


@pytest.mark.parametrize(
    ("name", "output", "seconds", "ok", "errors", "latency"),
    [
        (
            "wrk",
            WRK,
            1.1,
            34600,
            {"connect": 0, "read": 2, "write": 0, "timeout": 1, "bad_status": 54},
            {"p50": 0.063, "p90": 0.246, "p99": 5.37, "max": 10.72},
        ),
        ("h2load", H2LOAD, 1.0, 21108, {"timeout": 1}, {"mean": 0.189, "max": 21.91}),
        ("hey", HEY, 1.0075, 400, {"bad_status": 7, "failed": 3}, {"p50": 0.3, "p90": 0.6, "p99": 2.7, "max": 3.2}),
    ],
)
def test_what_they_print_is_read(name: str, output: str, seconds: float, ok: int, errors: dict, latency: dict) -> None:
    result = tool(name).result(PLAN, output)
    assert (result.tool, result.seconds, result.ok, dict(result.errors)) == (name, seconds, ok, errors)
    assert result.raw_ms == pytest.approx(latency)
    assert result.latency_ms == {}  # none of them counts from a planned time
    assert result.achieved_rps == pytest.approx(ok / seconds)
    with pytest.raises(EngineError, match=f"{name}.s output"):
        tool(name).result(PLAN, "Segmentation fault")


def test_commands_and_what_they_cannot_do() -> None:
    assert tool("wrk").command(PLAN) == ("wrk", "-t2", "-c4", "-d3s", "--timeout=5s", "--latency", "http://10.0.0.1:80/x")
    paced = LoadPlan(targets=PLAN.targets, connections=4, rate=1000.0)
    assert "--rps=250" in tool("h2load").command(paced)
    assert tool("hey").command(paced)[-3:] == ("-q", "250", "http://10.0.0.1:80/")
    with pytest.raises(Unsupported, match="rate"):
        tool("wrk").command(paced)
    for name in ("wrk", "h2load", "hey"):
        with pytest.raises(Unsupported, match="one address"):
            tool(name).command(LoadPlan(targets=(*PLAN.targets, Target("10.0.0.2", 80))))
        with pytest.raises(Unsupported, match="plain GETs"):
            tool(name).command(LoadPlan(targets=PLAN.targets, body="x", method="POST"))
    v6 = LoadPlan(targets=(Target("fd00::1", 80),))
    assert tool("wrk").command(v6)[-1] == "http://[fd00::1]:80/"


@pytest.fixture(scope="module")
def prober() -> Iterator[BayProber]:
    """The prober's own code with an agent of this machine's."""
    if not shutil.which("gcc"):
        pytest.skip("the generator is built from C and there is no gcc")
    running = harness.Agent(native.program(), "--allow-exec")
    bay_prober = BayProber(SimpleNamespace(), SimpleNamespace())  # type: ignore[arg-type]
    bay_prober._agents["here"] = Agent("127.0.0.1", running.port)
    yield bay_prober
    bay_prober.close()
    assert running.end() == 0


def test_programs_run_beside_the_generator(prober: BayProber) -> None:
    ran = prober.execute(["sh", "-c", "echo 'a,b  50%'; echo no >&2; exit 3"], 5)
    assert (ran.code, ran.out, ran.err) == (3, "a,b  50%\n", "no\n")
    assert prober.execute(["sh", "-c", "kill -9 $$"], 5).code == -9
    with pytest.raises(EngineError, match=r"did not end within 0\.2 s"):
        prober.execute(["sleep", "77"], 0.2)
    with pytest.raises(EngineError, match="/no/such"):
        prober.execute(["/no/such"], 5)


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
def test_a_load_by_wrk_is_told_as_ours_is(prober: BayProber) -> None:
    with harness.NullServer(native.program()) as server:
        plan = LoadPlan(targets=(Target("127.0.0.1", server.port),), connections=4, duration=1.0, warmup=0.0)
        bursts: list[Burst] = []
        theirs, ours = prober.load(plan, tool="wrk"), prober.load(plan, bursts.append)
    assert theirs.tool == "wrk"
    assert theirs.ok > 500
    assert theirs.errors == {}
    assert {"p50", "p99", "max"} <= set(theirs.raw_ms)
    assert sum(b.ok for b in bursts) == ours.ok
    assert {b.phase for b in bursts} <= {"measured", "drain"}
    assert sum(b.seconds for b in bursts if b.phase == "measured") == pytest.approx(1.0, abs=0.01)
    assert bursts[0].latency_ms["p50"] > 0


def test_the_benchmark_takes_the_peers_from_the_labs_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("peers", Path(__file__).parents[2] / "benchmarks" / "load" / "peers.py")
    assert spec and spec.loader
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    monkeypatch.setenv("COEBENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    options = {"coeload": "x", "nginx": None, "pairs": 1, "seconds": 1.0, "realtime": False, "peers": "wrk,hey"}
    options |= {"server_core": 0, "generator_core": 0}
    assert peers.lab_tree() is None
    without = peers.Bench(SimpleNamespace(**options, tree=None)).missing()
    assert without.startswith("wrk, hey, nginx: ")
    assert "coebench lab install" in without
    for name in ("bin/wrk", "bin/hey", "sbin/nginx"):
        file = host_tree().path / "usr" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o755)
    bench = peers.Bench(SimpleNamespace(**options, tree=peers.lab_tree()))
    assert bench.missing() == ""
    assert bench.tool("wrk") == str(host_tree().path / "usr/bin/wrk")
