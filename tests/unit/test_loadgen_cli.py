"""`coebench loadgen` on its own, against its own null server on loopback."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import Server, requests_of

from coebench.load import native

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="the generator is built from C and there is no gcc")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_a_run_reports_what_the_issue_asks_for() -> None:
    port = free_port()
    server = subprocess.Popen([sys.executable, "-m", "coebench", "loadgen", "null", "--port", str(port)])
    try:
        deadline = time.monotonic() + 60  # the first use builds it
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                assert server.poll() is None
        command = [sys.executable, "-m", "coebench", "loadgen", "run", f"http://127.0.0.1:{port}/", "--rate", "500"]
        p = subprocess.run([*command, "--connections", "4", "--duration", "1s", "--json"], capture_output=True, text=True)
        assert p.returncode == 0, p.stderr
    finally:
        server.terminate()
        server.wait(10)
    told = json.loads(p.stdout)
    assert told["offered_rps"] == pytest.approx(500, rel=0.2)  # Poisson arrivals: 500 ± 22 is one deviation
    assert told["planned"] == told["sent"] + told["unsent"]
    assert told["sent"] == told["ok"] + sum(told["errors"].values()) + told["in_flight"]
    assert {"p50", "p90", "p99", "p99.9", "max"} <= set(told["latency_ms"]) & set(told["raw_latency_ms"])
    assert {"send_lag_ms", "cpu", "achieved_rps"} <= set(told)
    histogram = HdrHistogram.decode(told["latency"].encode())
    assert histogram.get_total_count() == told["ok"]
    assert base64.b64decode(told["raw"])


def test_bad_input_is_one_line() -> None:
    p = subprocess.run(
        [sys.executable, "-m", "coebench", "loadgen", "run", "https://127.0.0.1:1/"], capture_output=True, text=True
    )
    assert p.returncode == 2
    assert p.stdout == ""
    assert len(p.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"), [(["http://127.0.0.1:1/", "--rate"], "--rate wants a value"), ([], "run wants a URL")]
)
def test_what_is_missing_is_said_of_what_was_typed(words: list[str], says: str) -> None:
    p = subprocess.run([sys.executable, "-m", "coebench", "loadgen", "run", *words], capture_output=True, text=True)
    assert p.returncode == 2
    assert says in p.stderr


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "GET", "HEAD", "DELETE"])
def test_a_request_without_a_body_says_so_where_its_method_has_one(method: str) -> None:
    heads: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        for request in requests_of(connection):
            heads.append(request)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with Server(serve) as server:
        words = [f"http://127.0.0.1:{server.port}/", "--rate=20", "--duration=200ms", "--connections=1", "--method", method]
        p = subprocess.run([native.program(), "run", *words], capture_output=True, text=True, timeout=30)
    assert p.returncode == 0, p.stderr
    assert heads
    assert all((b"\r\nContent-Length: 0\r\n" in head) == (method in ("POST", "PUT", "PATCH")) for head in heads)


@pytest.mark.parametrize(
    ("option", "value"),
    [(o, v) for o in ("--rate", "--duration", "--timeout", "--drain", "--catchup") for v in ("nan", "inf", "-inf", "1e999")],
)
def test_what_is_no_number_is_refused_by_name(option: str, value: str) -> None:
    words = ["http://127.0.0.1:1/", *(() if option == "--rate" else ("--rate", "1")), f"{option}={value}"]
    p = subprocess.run([native.program(), "run", *words], capture_output=True, text=True, timeout=30)
    assert (p.returncode, p.stdout, len(p.stderr.strip().splitlines())) == (2, "", 1)
    assert f"{option.strip('-')}={value}: want" in p.stderr
