"""`coebench loadgen coordinator`, as it is typed."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import Agent, NullServer, Server, free_port, requests_of

from coebench.cli.loadgen import app
from coebench.contract import BadInput


@pytest.fixture(scope="module")
def binary(coeload: Path) -> Path:
    return coeload


def test_two_generators_by_address_and_two_behind_a_relay(binary: Path) -> None:
    plan = ["--rate", "400", "--connections", "4", "--duration", "0.6", "--warmup", "0"]
    known = {"COEBENCH_SECRET": "sixteen-or-more-characters"}
    with NullServer(binary) as null:
        port = free_port()
        called = [Agent(binary, env=known), Agent(binary, env=known)]
        joined = [Agent(binary, "--join", f"127.0.0.1:{port}", "--name", name, env=known) for name in ("one", "two")]
        try:
            addresses = [word for a in called for word in ("--generator", f"127.0.0.1:{a.port}")]
            text = CliRunner().invoke(app, ["coordinator", null.url, *addresses, *plan], env=known)
            words = ["coordinator", null.url, "--listen", str(port), "--expect", "2", *plan, "--json"]
            told = CliRunner().invoke(app, words, env=known)
        finally:
            for agent in (*called, *joined):
                agent.end()
    assert text.exit_code == 0, text.output
    assert "2 of 2 generators" in text.stdout
    assert "measured: planned" in text.stderr
    result = json.loads(told.stdout)
    assert {a["name"] for a in result["accounts"]} == {"one", "two"}
    assert result["ok"] == result["planned"] > 150
    assert result["flags"] == []


def test_one_that_is_missing_is_printed_and_is_the_exit_code(binary: Path, tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    with NullServer(binary) as null:
        agent = Agent(binary)
        try:
            words = ["--generator", f"127.0.0.1:{agent.port}", "--generator", f"127.0.0.1:{free_port()}", "--patience", "0.3"]
            timing = ["--closed", "--duration", "0.4", "--warmup", "0", "--checkpoint", str(file)]
            p = CliRunner().invoke(app, ["coordinator", null.url, *words, *timing])
        finally:
            agent.end()
    assert p.exit_code == 1
    assert "1 of 2 generators" in p.stdout
    assert "never came" in p.stdout


def test_generators_send_and_expect_what_they_are_told(binary: Path) -> None:
    """Method, headers and body arrive from each of them; answers that are not as expected are errors by kind."""
    said: dict[int, bytes] = {}

    def serve(connection: socket.socket) -> None:
        for request in requests_of(connection):
            said[connection.getpeername()[1]] = request
            connection.sendall(b"HTTP/1.1 201 ok\r\nContent-Length: 5\r\nX-Coebench-Version: v2\r\n\r\nhallo")

    plan = ["--rate", "100", "--connections", "2", "--duration", "0.5", "--warmup", "0", "--json"]
    asked = ["--body", "a b=c&ü", "--header", "X-One: 1 and more", "--header", "X-Two: %25", "--expect-version", "v2"]
    with Server(serve) as server:
        agents = [Agent(binary), Agent(binary)]
        addresses = [word for a in agents for word in ("--generator", f"127.0.0.1:{a.port}")]
        url = f"http://127.0.0.1:{server.port}/x?y=1"
        try:
            good = CliRunner().invoke(app, ["coordinator", url, *addresses, *plan, *asked, "--expect-body", "hallo"])
            wrong = CliRunner().invoke(app, ["coordinator", url, *addresses, *plan, "--expect-body", "tschüs"])
            status = CliRunner().invoke(app, ["coordinator", url, *addresses, *plan, "--expect-status", "200"])
        finally:
            for agent in agents:
                agent.end()
    results = [json.loads(r.stdout) for r in (good, wrong, status)]
    assert results[0]["ok"] == results[0]["planned"] > 20
    assert results[1]["errors"] == {"wrong_body": results[1]["sent"]}
    assert results[2]["errors"] == {"bad_status": results[2]["sent"]}
    posts = [r for r in said.values() if r.startswith(b"POST /x?y=1 HTTP/1.1\r\n")]
    assert len(posts) == 2  # a connection of each generator
    for request in posts:
        assert b"\r\nX-One: 1 and more\r\n" in request
        assert b"\r\nX-Two: %25\r\n" in request
        assert request.endswith("\r\n\r\na b=c&ü".encode())


HTTP, ONE = "http://127.0.0.1:1/", ["--generator", "127.0.0.1:1"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([HTTP, *ONE], "either --rate R or --closed"),
        ([HTTP, *ONE, "--closed", "--rate", "5"], "either --rate R or --closed"),
        ([HTTP, "--closed"], "name the generators"),
        ([HTTP, "--closed", *ONE, "--relay", "127.0.0.1:2"], "name the generators"),
        ([HTTP, "--closed", "--relay", "127.0.0.1:2"], "--expect N"),
        ([HTTP, "--closed", *ONE, "--expect", "1"], "--expect N"),
        ([*ONE, "--closed"], "at least one URL"),
        (["https://x/", *ONE, "--closed"], "TLS"),
        (["ftp://x/", *ONE, "--closed"], "is not http://"),
        ([HTTP, "http://127.0.0.1:2/b", *ONE, "--closed"], "same path"),
        ([HTTP, "--generator", "nowhere", "--closed"], "is not HOST:PORT"),
        ([HTTP, *ONE, *ONE, "--closed"], "two generators are called"),
        ([HTTP, *ONE, "--closed", "--connections", "0"], "can't be spread"),
        ([HTTP, *ONE, "--rate", "-5"], "more than 0"),
        ([HTTP, *ONE, "--rate", "5", "--arrivals", "ramp"], "constant or poisson"),
        ([HTTP, *ONE, "--closed", "--header", "no colon"], "is not 'Name: value'"),
        ([HTTP, *ONE, "--closed", "--header", "a: b\r\nc: d"], "is not 'Name: value'"),
        ([HTTP, *ONE, "--closed", "--header", "a: b\n"], "is not 'Name: value'"),
        ([HTTP, *ONE, "--closed", "--expect-status", "6xx"], "one such as 404"),
        (["--resume"], "--checkpoint FILE"),
        (["--resume", "--checkpoint", "/nowhere/at/all"], "can't read the checkpoint"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(words: list[str], says: str) -> None:
    p = CliRunner().invoke(app, ["coordinator", *words])
    assert isinstance(p.exception, BadInput), p.output
    assert says in str(p.exception)
    assert "\n" not in str(p.exception)
