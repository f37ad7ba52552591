"""The native agent: its control protocol, what a watch sees, what a load counts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import (
    Agent,
    Control,
    NoCompiler,
    Server,
    answering,
    argv,
    build,
    free_port,
    identity,
    requests_of,
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
