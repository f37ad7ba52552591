"""The native agent: its control protocol, what a watch sees, what a load counts."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import (
    Agent,
    Control,
    Event,
    NoCompiler,
    NullServer,
    Server,
    answering,
    argv,
    build,
    free_port,
    identity,
    requests_of,
    run_json,
)

MS = 1_000_000


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once; COELOAD names one to use instead, such as the sanitizers' build."""
    if "COELOAD" in os.environ:
        return Path(os.environ["COELOAD"])
    try:
        return build(tmp_path_factory.mktemp("coeload"))
    except NoCompiler as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def agent(binary: Path) -> Iterator[Agent]:
    running = Agent(binary, "--allow-exec")
    yield running
    assert running.end() == 0


@pytest.fixture
def control(agent: Agent) -> Iterator[Control]:
    with agent.connect() as connection:
        yield connection


# ---- the protocol ----


def test_hello_tells_both_clocks(agent: Agent, control: Control) -> None:
    before = time.time_ns()
    control.send("hello")
    hello = control.next()
    after = time.time_ns()
    assert hello["event"] == "hello"
    assert hello["proto"] == 1
    assert hello["pid"] == agent.process.pid
    assert hello["cpus"] >= 1
    assert hello["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert before - MS <= hello["now"] <= after + MS
    assert abs(hello["mono"] - time.monotonic_ns()) < 1000 * MS


def test_pings_are_answered_one_for_one_and_at_once(control: Control) -> None:
    round_trips = []
    for number in range(50):
        sent = time.time_ns()
        control.send("ping", id=f"a b%{number}")
        pong = control.next()
        received = time.time_ns()
        assert pong["id"] == f"a b%{number}"
        assert sent - MS <= pong["now"] <= received + MS
        round_trips.append(received - sent)
    assert sorted(round_trips)[25] < 5 * MS


def test_several_requests_in_one_packet_and_one_in_several(control: Control) -> None:
    control.send_raw(b"ping id=1\nping id=2\r\n\nping i")
    assert [control.next()["id"], control.next()["id"]] == ["1", "2"]
    control.send_raw(b"d=3\n")
    assert control.next()["id"] == "3"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"dance\n", "unknown verb"),
        (b"watch\n", "needs id="),
        (b"watch id=w\n", "needs addr="),
        (b"watch id=w addr=127.0.0.1 port=0\n", "port=0"),
        (b"watch id=w addr=127.0.0.1 port=80 interval=5\n", "interval=5"),
        (b"watch id=w addr=127.0.0.1 port=80 interval=0ms\n", "interval=0ms"),
        (b"watch id=w addr=127.0.0.1 port=80 intervall=5ms\n", "intervall"),
        (b"watch id=w addr=127.0.0.1 port=80 path=/a%0d%0aX:1\n", "path"),
        (b"watch id=%zz addr=127.0.0.1 port=80\n", "escape"),
        (b"watch id=w 127.0.0.1\n", "key=value"),
        (b"unwatch id=nobody\n", "nobody"),
        (b"stop id=nobody\n", "nobody"),
        (b"ping id=1 when=now\n", "when"),
        (b"\xff\xfe\x00\x01\n", "unknown verb"),
        (b"x" * (2 << 20) + b"\n", "too long"),
    ],
)
def test_bad_requests_get_one_clear_line(agent: Agent, line: bytes, says: str) -> None:
    with agent.connect() as control:
        control.send_raw(line)
        event = control.next()
        assert event["event"] == "error"
        assert says in event["message"]
        assert "\n" not in event["message"]
    with agent.connect() as control:
        control.send("ping", id="alive")
        assert control.next()["event"] == "pong"


def test_no_request_however_broken_ends_the_agent(agent: Agent) -> None:
    chance = random.Random(1)
    words = (
        b"load watch exec id=%d targets=127.0.0.1:1, addr=::1 port=9 rate=1e3 stages=1:1s duration=1ms "
        b"mode=closed path=%25 header=a:b resolve=10ms = % \0 \xff \r"
    ).split(b" ")
    with agent.connect() as control:
        for number in range(300):
            line = b" ".join(chance.choices(words, k=chance.randint(1, 8))).replace(b"%d", b"%d" % number)
            control.send_raw(line + b"\n")
        control.send("ping", id="after")
        control.until("pong", id="after")


def test_health_checks_speak_http_on_the_same_port(agent: Agent) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{agent.port}/healthz", timeout=5) as answer:
        assert answer.status == 200
        assert answer.read() == b"ok\n"
    with socket.create_connection(("127.0.0.1", agent.port)) as raw:
        for piece in (b"GE", b"T /elsewhere HTT", b"P/1.0\r\n\r", b"\n"):
            raw.sendall(piece)
            time.sleep(0.01)
        assert raw.makefile("rb").read().startswith(b"HTTP/1.1 404")


def test_ipv6_is_served_too(agent: Agent) -> None:
    try:
        connection = socket.create_connection(("::1", agent.port), timeout=5)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with connection:
        connection.sendall(b"ping id=six\n")
        assert b"six" in connection.recv(4096)


def test_the_port_comes_from_the_environment_and_bad_ones_are_refused(binary: Path) -> None:
    for env, arguments in (({"PORT0": "99999"}, []), ({}, ["--port", "x"]), ({}, ["--prot", "1"])):
        ended = subprocess.run(
            [str(binary), "agent", *arguments], env=env, capture_output=True, text=True, timeout=5, check=False
        )
        assert ended.returncode == 2
        assert len(ended.stderr.splitlines()) == 1


# ---- watches ----


def test_a_service_that_comes_changes_and_goes(control: Control) -> None:
    port = free_port()
    control.send("watch", id="w", addr="127.0.0.1", port=port, path="/id", interval="5ms", timeout="500ms")
    waiting, _ = control.until("waiting", id="w")
    assert waiting["error"] == "refused"
    assert waiting["tries"] > 100

    born = time.time_ns()
    version = ["v1"]

    def serve(connection: socket.socket) -> None:
        for request in requests_of(connection):
            assert request.startswith(b"GET /id HTTP/1.1\r\nHost: 127.0.0.1:")
            connection.sendall(identity(version=version[0]))

    server = Server(serve, port)
    up, before = control.until("change", id="w", up=True)
    assert [event for event in before if event["event"] == "failure"] == []
    assert up["addr"] == "127.0.0.1"
    assert (up["instance"], up["version"], up["started"], up["code"]) == ("one", "v1", "1700000000", 200)
    assert born < up["sent"] < up["at"] < time.time_ns() + MS
    assert up["at"] - born < 200 * MS
    assert 0 < up["connect_us"] <= up["total_us"] == pytest.approx((up["at"] - up["sent"]) / 1000, abs=0.1)
    assert up["tries"] > waiting["tries"]

    changed = time.time_ns()
    version[0] = "v2"
    change, _ = control.until("change", id="w", version="v2")
    assert change["up"] is True
    assert changed < change["at"] < changed + 200 * MS

    gone = time.time_ns()
    server.close()
    down, before = control.until("change", id="w", up=False)
    assert down["error"] in ("refused", "reset", "closed")
    assert gone < down["at"] < gone + 200 * MS
    failure, _ = control.until("failure", id="w")
    assert failure["at"] == down["at"]
    for _ in range(20):
        assert control.next()["event"] == "failure"

    with Server(serve, port):
        control.until("change", id="w", up=True)
        control.send("unwatch", id="w")
        end, _ = control.until("unwatched", id="w")
    assert end["probes"] == end["good"] + end["failed"] + end["abandoned"]
    assert end["good"] >= 3
    assert 20 * 5 <= end["max_gap_ms"] < 5000


@pytest.mark.parametrize(
    ("answer", "error", "code"),
    [
        (answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "bad_status", 503),
        (answering(b"SSH-2.0-OpenSSH_9.2\r\n"), "bad_http", None),
        (answering(b"\x15\x03\x01\x00\x02\x02\x50"), "bad_http", None),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", close=True), "closed", None),
        (answering(b"", close=True), "closed", None),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "timeout", None),
    ],
)
def test_what_is_wrong_with_an_answer(control: Control, answer, error: str, code: int | None) -> None:
    bad = [False]

    def serve(connection: socket.socket) -> None:
        (answer if bad[0] else answering(identity()))(connection)

    with Server(serve) as server:
        control.send("watch", id="w", addr="127.0.0.1", port=server.port, interval="2ms", timeout="50ms")
        control.until("change", id="w", up=True)
        bad[0] = True
        down, _ = control.until("change", id="w", up=False)
        assert (down["error"], down["code"]) == (error, code)
        bad[0] = False
        control.until("change", id="w", up=True)
        control.send("unwatch", id="w")
        end, _ = control.until("unwatched", id="w")
        assert end["failed"] >= 1


def test_only_so_many_probes_are_outstanding(control: Control) -> None:
    with Server(lambda connection: time.sleep(2)) as server:
        control.send("watch", id="w", addr="127.0.0.1", port=server.port, interval="2ms", timeout="1s", inflight=3)
        time.sleep(0.3)
        control.send("unwatch", id="w")
        end, _ = control.until("unwatched", id="w")
        assert server.connections == 3
        assert (end["probes"], end["abandoned"]) == (3, 3)
        assert end["skipped"] > 50


def test_keepalive_watches_reuse_their_connection(control: Control) -> None:
    with Server(answering(identity())) as server:
        control.send("watch", id="w", addr="127.0.0.1", port=server.port, interval="2ms", keepalive=1)
        control.until("change", id="w", up=True)
        time.sleep(0.2)
        control.send("unwatch", id="w")
        end, _ = control.until("unwatched", id="w")
    assert end["good"] > 40
    assert server.connections <= 4


def test_a_name_is_resolved_and_its_addresses_are_asked(control: Control) -> None:
    with Server(answering(identity())) as server:
        control.send("watch", id="w", addr="localhost", port=server.port, interval="5ms", resolve="50ms", timeout="1s")
        resolved, _ = control.until("resolved", id="w")
        assert "127.0.0.1" in resolved["addrs"]
        change, _ = control.until("change", id="w", up=True)
        assert change["addr"] == "127.0.0.1"
        control.send("unwatch", id="w")
        control.until("unwatched", id="w")
    control.send("watch", id="x", addr="no-such-name.invalid", port=80, resolve="50ms")
    waiting, _ = control.until("waiting", id="x")
    assert waiting["error"] == "unresolved"


def test_watches_end_with_their_connection_unless_kept(agent: Agent) -> None:
    with Server(answering(identity())) as server, agent.connect() as other:
        with agent.connect() as control:
            control.send("watch", id="mine", addr="127.0.0.1", port=server.port)
            control.send("watch", id="kept", addr="127.0.0.1", port=server.port, keep=1)
            control.until("change", id="kept", up=True)
            other.send("watch", id="kept", addr="127.0.0.1", port=server.port)
            assert "in use" in other.next()["message"]
        time.sleep(0.1)
        other.send("unwatch", id="mine")
        assert other.next()["event"] == "error"
        other.send("attach", id="kept")
        assert other.next() == {"event": "attached", "id": "kept", "job": "watch"}
        other.send("unwatch", id="kept")
        assert other.next()["event"] == "unwatched"


# ---- peer tools ----


def test_exec_streams_output_and_tells_the_end(control: Control) -> None:
    script = "printf 'caf\\303\\251 \\377'; echo oops >&2; exit 7"
    control.send("exec", id="e", argv=argv("sh", "-c", script))
    end, before = control.until("exit", id="e")
    assert (end["code"], end["signal"]) == (7, None)
    assert end["cpu_s"] >= 0
    said = {"stdout": "", "stderr": ""}
    for event in before:
        if event["event"] == "output":
            said[event["stream"]] += event["data"]
    assert said == {"stdout": "caf\u00e9 \ufffd", "stderr": "oops\n"}


def test_exec_takes_commas_and_stops_whole_groups(control: Control) -> None:
    control.send("exec", id="e", argv=argv("echo", "a,b", "100%"))
    end, before = control.until("exit", id="e")
    assert [event["data"] for event in before if event["event"] == "output"] == ["a,b 100%\n"]
    control.send("exec", id="s", argv=argv("sh", "-c", "sleep 77 & sleep 77"))
    control.until("accepted", id="s")
    time.sleep(0.1)
    control.send("stop", id="s")
    end, _ = control.until("exit", id="s", timeout=3)
    assert end["signal"] == 15
    control.send("exec", id="n", argv="/no/such/tool")
    error, _ = control.until("error", id="n")
    assert "/no/such/tool" in error["message"]


def test_exec_must_be_allowed(binary: Path) -> None:
    strict = Agent(binary)
    with strict.connect() as control:
        control.send("exec", id="e", argv="true")
        assert "--allow-exec" in control.next()["message"]
    assert strict.end() == 0


# ---- the end ----


def test_sigterm_tells_every_job_its_end(binary: Path) -> None:
    agent = Agent(binary, env={"COEBENCH_ALLOW_EXEC": "1"})
    with Server(answering(identity())) as server, agent.connect() as control:
        control.send("watch", id="w", addr="127.0.0.1", port=server.port)
        control.send("exec", id="e", argv="sleep,60")
        control.until("change", id="w", up=True)
        agent.process.terminate()
        control.until("unwatched", id="w")
        end, _ = control.until("exit", id="e")
        assert end["signal"] == 15
        with pytest.raises(EOFError):
            control.next()
    assert agent.end() == 0


# ---- loads ----


@pytest.fixture(scope="module")
def null(binary: Path) -> Iterator[NullServer]:
    with NullServer(binary) as server:
        yield server


def histogram(encoded: str) -> HdrHistogram:
    decoded = HdrHistogram.decode(encoded)
    assert decoded is not None
    return decoded


def reconcile(done: Event) -> None:
    """The sums that must hold whatever happened."""
    for part in (done, done["warmup"]):
        errors = sum(part["errors"].values())
        assert part["planned"] == part["sent"] + part["unsent"]
        assert part["sent"] == part["ok"] + errors + part["in_flight"]
        assert histogram(part["raw"]).total_count == part["ok"]
        assert histogram(part["latency"]).total_count == part["ok"]
    targets = done["targets"].values()
    assert sum(target["sent"] for target in targets) == done["sent"]
    assert sum(target["ok"] for target in targets) == done["ok"]
    assert sum(target["in_flight"] for target in targets) == done["in_flight"]
    assert sum(histogram(target["latency"]).total_count for target in targets) == done["ok"]


def reconcile_seconds(seconds: list[Event], done: Event) -> None:
    assert [second["seq"] for second in seconds] == list(range(done["seconds"]))
    for key in ("planned", "sent", "ok", "unsent", "bytes"):
        assert sum(second[key] for second in seconds) == done[key] + done["warmup"][key], key
    counted = sum(histogram(second["raw"]).total_count for second in seconds)
    assert counted == done["ok"] + done["warmup"]["ok"]


@pytest.mark.parametrize(
    ("options", "planned"),
    [
        (["--rate", "2000"], 1000),
        (["--rate", "333", "--threads", "3", "--connections", "7"], 167),
        (["--rate", "100", "--arrivals", "ramp", "--rate-to", "3900"], 1000),
        (["--stages", "1000:200ms,3000:100ms,500:200ms", "--duration=x"], None),
    ],
)
def test_open_loads_send_exactly_what_was_planned(
    binary: Path, null: NullServer, options: list[str], planned: int | None
) -> None:
    if planned is None:
        done = run_json(binary, null.url, *options[:-1])
        planned = 600
    else:
        done = run_json(binary, null.url, "--duration", "500ms", *options)
    reconcile(done)
    assert done["planned"] == done["ok"] == planned
    assert done["errors"] == {}
    assert done["offered_rps"] == pytest.approx(planned / 0.5)
    # nothing of it may come late by more than the machine's own hiccups
    assert done["send_lag_ms"]["p50"] < 5


def test_poisson_arrivals_are_random_and_repeatable(binary: Path, null: NullServer) -> None:
    poisson = ["--rate", "4000", "--arrivals", "poisson", "--duration", "500ms", "--threads", "2"]
    first, again, other = (run_json(binary, null.url, *poisson, "--seed", seed) for seed in ("1", "1", "2"))
    for done in (first, again, other):
        reconcile(done)
        assert abs(done["planned"] - 2000) < 6 * 2000**0.5
    assert first["planned"] == again["planned"] != other["planned"]


def test_the_agent_streams_seconds_that_add_up(control: Control, null: NullServer) -> None:
    control.send(
        "load",
        id="L",
        targets=null.target,
        rate=3000,
        connections=8,
        threads=2,
        warmup="500ms",
        duration="1500ms",
        expect_version="0.1.0",
    )
    done, before = control.until("done", id="L")
    assert [event["event"] for event in before[:2]] == ["accepted", "started"]
    seconds = [event for event in before if event["event"] == "second"]
    assert [second["phase"] for second in seconds[:3]] == ["warmup", "measured", "measured"]
    assert [second["planned"] for second in seconds[:3]] == [1500, 3000, 1500]
    reconcile(done)
    reconcile_seconds(seconds, done)
    assert (done["planned"], done["warmup"]["planned"], done["ok"]) == (4500, 1500, 4500)
    assert done["connections"] == 8
    assert 0 < done["cpu_busiest"] <= done["cpu"] <= done["cpu_process"] + 0.05


def test_a_common_start_is_kept_and_a_missed_one_is_told(control: Control, null: NullServer) -> None:
    start = time.time_ns() + 300 * MS
    control.send("load", id="on-time", targets=null.target, rate=100, duration="100ms", start=start)
    started, _ = control.until("started", id="on-time")
    assert (started["at"], started["late_ms"]) == (start, 0)
    done, _ = control.until("done", id="on-time")
    assert done["start"] == start
    assert time.time_ns() > start + 100 * MS
    control.send("load", id="late", targets=null.target, rate=100, duration="100ms", start=start)
    started, _ = control.until("started", id="late")
    assert started["late_ms"] > 100
    done, _ = control.until("done", id="late")
    assert done["ok"] == 10


def test_closed_loops_keep_every_connection_busy(binary: Path, null: NullServer) -> None:
    done = run_json(binary, null.url, "--closed", "--connections", "4", "--threads", "2", "--duration", "300ms")
    reconcile(done)
    assert done["mode"] == "closed"
    assert done["unsent"] == 0
    assert done["ok"] > 1000
    assert done["latency_ms"] == done["raw_latency_ms"]
    assert done["achieved_rps"] == pytest.approx(done["ok"] / 0.3, rel=0.02)


def test_percentiles_are_those_of_the_encoded_histogram(binary: Path, null: NullServer) -> None:
    done = run_json(binary, null.url, "--rate", "5000", "--duration", "500ms")
    for told, encoded in (("latency_ms", "latency"), ("raw_latency_ms", "raw"), ("send_lag_ms", "lag")):
        decoded = histogram(done[encoded])
        for name, percentile in (("p50", 50), ("p90", 90), ("p99", 99), ("p99.9", 99.9), ("max", 100)):
            ours = done[told][name] * 1e6
            assert decoded.get_value_at_percentile(percentile) == pytest.approx(ours, rel=0.002, abs=128)


def test_connections_are_spread_and_respread(control: Control, binary: Path, null: NullServer) -> None:
    with NullServer(binary) as second, NullServer(binary) as third:
        control.send("load", id="L", targets=f"{null.target},{second.target}", rate=2000, duration=0, connections=9, threads=2)
        control.until("second", id="L")
        control.send("retarget", id="L", targets=f"{second.target},{third.target}")
        control.until("retargeted")
        control.until("second", id="L")
        control.until("second", id="L")
        control.send("stop", id="L")
        done, _ = control.until("done", id="L")
    reconcile(done)
    assert done["stopped"] is True
    assert done["errors"] == {}
    shares = [done["targets"][target.target]["sent"] for target in (null, second, third)]
    assert len(done["targets"]) == 3
    assert all(share > 500 for share in shares)
    assert shares[1] == pytest.approx(shares[0] + shares[2], rel=0.4)


def test_targets_take_turns_also_within_moments(control: Control, binary: Path, null: NullServer) -> None:
    """Of sixty requests over 400 connections each target has its third, also the one that refuses all, or is new: else what
    fails in a moment would be a matter of whose connections come next."""
    with NullServer(binary) as second, NullServer(binary) as third:
        refusing = f"127.0.0.1:{free_port()}"
        for targets in ((null.target, second.target, third.target), (null.target, refusing, third.target)):
            words = {"rate": 200, "arrivals": "constant", "duration": "300ms", "connections": 400, "mishaps": 1}
            control.send("load", id="M", targets=",".join(targets), **words)
            done, _ = control.until("done", id="M")
            assert [done["targets"][t]["sent"] for t in targets] == [20, 20, 20]
        control.send("load", id="N", targets=null.target, rate=200, duration=0, connections=400, mishaps=1)
        control.until("second", id="N")
        control.send("retarget", id="N", targets=f"{null.target},{refusing}")
        control.until("retargeted")
        control.until("second", id="N")
        told, _ = control.until("second", id="N")
        control.send("stop", id="N")
        control.until("done", id="N")
    planned = sorted(m[0] for m in told["mishaps"])
    assert len(planned) == pytest.approx(100, abs=40)  # half of what Poisson arrivals have in a second
    assert max(b - a for a, b in itertools.pairwise(planned)) < 0.2e9  # 20 requests' time on end


def test_a_target_that_dies_is_counted_and_the_rest_goes_on(control: Control, binary: Path, null: NullServer) -> None:
    with NullServer(binary) as dying:
        control.send("load", id="L", targets=f"{null.target},{dying.target}", rate=1000, duration="2s", connections=4)
        control.until("second", id="L")
    done, _ = control.until("done", id="L")
    reconcile(done)
    errors = done["targets"][dying.target]["errors"]
    assert errors["refused"] > 300
    assert done["targets"][null.target]["errors"] == {}
    assert done["targets"][null.target]["ok"] == pytest.approx(1000, abs=50)


def test_every_failed_and_every_slow_request_is_told_with_its_times(control: Control, binary: Path, null: NullServer) -> None:
    """As many mishaps as errors, each planned before it ended, and none of those that went well."""
    with NullServer(binary) as dying:
        words = {"rate": 1000, "duration": "2s", "connections": 4, "mishaps": 1, "timeout": "100ms"}
        control.send("load", id="L", targets=f"{null.target},{dying.target}", **words)
        control.until("second", id="L")
    done, before = control.until("done", id="L")
    reconcile(done)
    told = [m for e in before if e["event"] == "second" for m in e["mishaps"]]
    errors = done["errors"]
    assert {kind: sum(m[3] == kind for m in told) for kind in errors} == errors
    assert {m[4] for m in told} == {dying.target}
    assert all(planned <= begun <= ended for planned, begun, ended, _, _ in told)
    assert all(done["measured_from"] <= m[0] < done["measured_to"] for m in told)
    control.send("load", id="S", targets=null.target, rate=500, duration="1s", mishaps=1, slow="1us")
    done, before = control.until("done", id="S")
    told = [m for e in before if e["event"] == "second" for m in e["mishaps"]]
    assert len(told) == done["ok"] == 500
    assert {m[3] for m in told} == {"slow"}


@pytest.mark.parametrize(
    ("serve", "options", "error"),
    [
        (answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), [], "bad_status"),
        (answering(b"\0\1\2\3 not http\r\n\r\n"), [], "bad_http"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), [], "bad_http"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", close=True), [], "closed"),
        (answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), ["--timeout", "50ms"], "timeout"),
        (answering(identity(version="v1")), ["--expect-version", "v2"], "wrong_version"),
        (answering(identity()), ["--expect-body", "no"], "wrong_body"),
    ],
)
def test_errors_are_counted_by_kind(binary: Path, serve, options: list[str], error: str) -> None:
    with Server(serve) as server:
        done = run_json(binary, f"http://127.0.0.1:{server.port}/", "--rate", "100", "--duration", "200ms", *options, status=1)
    reconcile(done)
    assert done["errors"] == {error: 20}


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\nContent-Length: 3\r\n\r\n"
    b"4;name=value\r\nwi\r\n\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: yes\r\n\r\n"
)


@pytest.mark.parametrize(
    "serve",
    [
        answering(identity()),
        answering(identity(), close=True),
        answering(identity(extra="Connection: Keep-Alive, close\r\n"), close=True),
        answering(*[identity()[i : i + 1] for i in range(len(identity()))]),
        answering(CHUNKED),
        answering(*[CHUNKED[i : i + 3] for i in range(0, len(CHUNKED), 3)]),
        answering(b"HTTP/1.0 200 OK\n\nuntil the end", close=True),
        answering(b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n"),
        answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + identity()),
        answering(b"HTTP/1.1 200 OK\r\nX-Long: " + b"l" * 100_000 + b"\r\nContent-Length: 2\r\n\r\nok"),
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000),
    ],
    ids=[
        "plain",
        "closes-unannounced",
        "closes-announced",
        "byte-by-byte",
        "chunked",
        "chunked-in-pieces",
        "until-close",
        "no-content",
        "interim",
        "long-header",
        "larger-than-the-buffer",
    ],
)
def test_every_shape_of_good_answer(binary: Path, serve) -> None:
    with Server(serve) as server:
        done = run_json(binary, f"http://127.0.0.1:{server.port}/", "--rate", "40", "--duration", "250ms", "--connections", "2")
    reconcile(done)
    assert (done["ok"], done["errors"]) == (10, {})


def test_bodies_headers_and_matches(binary: Path) -> None:
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        for request in requests_of(connection):
            seen.append(request)
            connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\naab")
            time.sleep(0.002)
            connection.sendall(b"aabaab"[:6])

    with Server(serve) as server:
        done = run_json(
            binary,
            f"http://127.0.0.1:{server.port}/put?x=1#frag",
            *["--rate", "50", "--duration", "100ms", "--body", "a b", "--header", "X-Y: z:1", "--host", "example.org"],
            *["--expect-body", "aabaaba"],
        )
    reconcile(done)
    assert (done["ok"], done["errors"]) == (5, {})
    assert seen[0] == (b"POST /put?x=1 HTTP/1.1\r\nHost: example.org\r\nX-Y: z:1\r\nContent-Length: 3\r\n\r\na b")


def test_close_mode_connects_for_every_request(binary: Path, null: NullServer) -> None:
    done = run_json(binary, null.url, "--rate", "1000", "--duration", "300ms", "--close")
    reconcile(done)
    assert done["ok"] == 300
    assert done["connects"] >= 300 - 32


def test_a_refusing_target_fails_fast_and_calmly(binary: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/"
    done = run_json(binary, url, "--rate", "500", "--duration", "200ms", status=2)
    reconcile(done)
    assert done["errors"] == {"refused": 100}
    done = run_json(binary, url, "--closed", "--connections", "2", "--duration", "200ms", status=2)
    reconcile(done)
    assert 2 <= done["errors"]["refused"] < 100
    assert done["cpu_process"] < 0.3


def test_a_full_backlog_is_told_as_unsent(binary: Path) -> None:
    with Server(lambda connection: time.sleep(5)) as server:
        done = run_json(
            binary,
            f"http://127.0.0.1:{server.port}/",
            *["--rate", "1000", "--duration", "300ms", "--connections", "3", "--backlog", "50", "--drain", "50ms"],
        )
    reconcile(done)
    assert (done["planned"], done["sent"], done["in_flight"], done["unsent"]) == (300, 3, 3, 297)


RATE, SECONDS, CATCHUP, STOP = 10_000, 10, 4, 0.2
OTHERS = 1.5e6  # ns that anything else may have kept the server from running in one go


def _stopped_once(binary: Path) -> tuple[Event, float, float]:
    """One run against a server that is stopped for 200 ms; how long it really stood still, and for how long next to that, in
    ms, as the server itself saw it."""
    with NullServer(binary, tell_pauses=True) as server:
        command = [str(binary), "run", server.url, "--json", "--rate", str(RATE), "--duration", f"{SECONDS}s"]
        process = subprocess.Popen([*command, "--catchup", str(CATCHUP)], stdout=subprocess.PIPE)
        time.sleep(SECONDS / 2)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(STOP)
        server.process.send_signal(signal.SIGCONT)
        done = json.loads(process.communicate(timeout=2 * SECONDS)[0])
        pauses = server.pauses()
    lengths = sorted((to - since for since, to in pauses if done["measured_from"] < to <= done["measured_to"]), reverse=True)
    return done, lengths[0] / 1e6, lengths[1] / 1e6


@pytest.mark.timeout(120)
def test_a_stopped_server_shows_in_the_corrected_latency_alone(binary: Path) -> None:
    """By arithmetic to 2 %, from how long the server itself says that it stood still. What else keeps one of the two from
    running only adds to that, so of three runs one must be right; where the server was disturbed in all, nothing is shown."""
    told = []
    for _ in range(3):
        done, stopped, other = _stopped_once(binary)
        reconcile(done)
        corrected, raw = done["latency_ms"], done["raw_latency_ms"]
        assert stopped > STOP * 1e3 * 0.95
        assert corrected["max"] >= stopped * 0.98  # disturbed or not, nobody's waiting is lost
        # Who is due during the stop waits for its end, and then for those before him: the
        # backlog shrinks at (catchup - 1) times the rate, so waiting falls linearly to none.
        waiting = RATE * stopped / 1e3 * CATCHUP / (CATCHUP - 1)
        p99 = stopped * (1 - RATE * SECONDS * 0.01 / waiting)
        right = corrected["max"] == pytest.approx(stopped, rel=0.02) and corrected["p99"] == pytest.approx(p99, rel=0.02)
        # Of the raw latencies, only those that were on their way know of it.
        if right and raw["p99"] < 20 and raw["max"] == pytest.approx(stopped, rel=0.02):
            assert done["ok"] == RATE * SECONDS
            return
        said = f"p99 {corrected['p99']:.1f} of {p99:.1f} ms, max {corrected['max']:.1f} of {stopped:.1f} ms"
        told.append((other * 1e6 > OTHERS, f"{said}; the server stood still for {other:.1f} ms besides"))
    if all(disturbed for disturbed, _ in told):
        pytest.skip(f"the machine is too busy for the arithmetic: {told[-1][1]}")
    pytest.fail("; ".join(text for _, text in told))


def test_sigterm_ends_loads_with_their_figures(binary: Path, null: NullServer) -> None:
    agent = Agent(binary)
    with agent.connect() as control:
        control.send("load", id="L", targets=null.target, rate=1000, duration=0, warmup="200ms")
        control.send("load", id="M", targets=null.target, mode="closed", connections=2, duration="1h")
        control.until("second", id="L", phase="measured")
        agent.process.terminate()
        first, _ = control.until("done")
        second, _ = control.until("done")
    assert agent.end() == 0
    assert {first["id"], second["id"]} == {"L", "M"}
    for done in (first, second):
        reconcile(done)
        assert done["stopped"] is True
        assert done["ok"] > 500


def test_a_kept_load_survives_its_coordinator(agent: Agent, null: NullServer) -> None:
    with agent.connect() as control:
        control.send("load", id="kept", targets=null.target, rate=500, duration="1300ms", keep=1)
        control.until("second", id="kept", seq=0)
    time.sleep(0.6)
    with agent.connect() as control:
        control.send("attach", id="kept", since=1)
        done, before = control.until("done", id="kept")
        assert before[0]["event"] == "attached"
        assert [event["seq"] for event in before[1:]] == list(range(1, done["seconds"]))
        reconcile(done)
        control.send("attach", id="kept")
        assert control.next()["event"] == "error"


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ({}, "targets="),
        ({"targets": "nowhere"}, "nowhere"),
        ({"targets": "127.0.0.1:99999"}, "port"),
        ({"targets": "::1:80"}, "brackets"),
        ({"rate": None}, "rate="),
        ({"rate": 0}, "rate=0"),
        ({"rate": "1e12"}, "rate=1e12"),
        ({"rate": "-5"}, "rate=-5"),
        ({"rate": "nan"}, "rate=nan"),
        ({"duration": "5"}, "duration=5"),
        ({"connections": 0}, "connections=0"),
        ({"connections": 500000}, "ulimit -Hn"),
        ({"threads": 64}, "threads=64"),
        ({"arrivals": "ramp"}, "rate_to"),
        ({"mode": "closed"}, "rate"),
        ({"stages": "1000"}, "stages"),
        ({"path": "nothing"}, "path"),
        ({"header": "no colon"}, "header"),
        ({"header": "Content-Length: 5"}, "Content-Length"),
        ({"catchup": "0.5"}, "catchup"),
        ({"wat": 1}, "wat"),
        ({"targets": "no-such-name.invalid:80"}, "cannot resolve"),
    ],
)
def test_bad_loads_are_refused_in_one_line(control: Control, pairs: dict[str, object], says: str) -> None:
    asked = {"targets": "127.0.0.1:1", "rate": 100, "duration": "1s", **pairs} if pairs else {}
    control.send("load", id="bad", **{key: value for key, value in asked.items() if value is not None})
    event, _ = control.until("error", id="bad")
    assert says in event["message"]
    assert "\n" not in event["message"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["https://127.0.0.1/", "--rate", "1"], "TLS"),
        (["ftp://127.0.0.1/", "--rate", "1"], "http://"),
        (["http://", "--rate", "1"], "host"),
        (["--rate", "1"], "URL"),
        (["http://127.0.0.1:1/"], "--rate"),
        (["http://127.0.0.1:1/", "--rate", "0"], "rate=0"),
        (["http://127.0.0.1:1/", "--rate"], "--rate wants a value"),
        (["http://127.0.0.1:1/", "--closed", "--rate", "5"], "closed"),
        (["http://127.0.0.1:1/a", "http://127.0.0.1:2/b", "--rate", "5"], "same path"),
        (["http://127.0.0.1:1/", "--rate", "5", "--dance"], "--dance"),
        (["http://no-such-name.invalid/", "--rate", "5"], "cannot resolve"),
        (["http://127.0.0.1:1/", "--rate", "5", "--connections", "400000"], "ulimit"),
    ],
)
def test_run_refuses_bad_input_with_one_line_and_two(binary: Path, arguments: list[str], says: str) -> None:
    ended = subprocess.run([str(binary), "run", *arguments], capture_output=True, text=True, timeout=10, check=False)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stdout == ""


def test_run_prints_a_report_and_answers_an_interrupt(binary: Path, null: NullServer) -> None:
    process = subprocess.Popen(
        [str(binary), "run", null.url, "--rate", "1000", "--duration", "0"], stdout=subprocess.PIPE, text=True
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=5)
    assert process.returncode == 0
    assert "(stopped)" in out
    assert "p99.9" in out


def test_descriptors_are_raised_to_the_hard_limit(binary: Path, null: NullServer) -> None:
    ended = subprocess.run(
        [
            "sh",
            "-c",
            f"ulimit -Sn 64; exec {binary} run {null.url} --rate 500 --duration 400ms --connections 300 --json",
        ],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    done = json.loads(ended.stdout)
    reconcile(done)
    assert (done["ok"], done["connects"]) == (200, 300) or done["warmup"]["connects"] == 300


def test_memory_does_not_grow_with_time(control: Control, agent: Agent, null: NullServer) -> None:
    def resident() -> int:
        pages = Path(f"/proc/{agent.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    control.send("load", id="L", targets=null.target, mode="closed", duration=0, connections=4)
    control.until("second", id="L", seq=0)
    before = resident()
    last, seconds = control.until("second", id="L", seq=2)
    grown = resident() - before
    control.send("stop", id="L")
    control.until("done", id="L")
    # Late answers may touch pages of the histograms that had none: some, and not again.
    requests = last["ok"] + sum(event["ok"] for event in seconds)
    assert grown < max(1_500_000, 8 * requests)
