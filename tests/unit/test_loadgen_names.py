"""A load on a name follows what the name server says: a real one, on loopback, that only the agent's mount namespace knows."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import Agent, Server, answering, identity

from coebench.load import crosscheck, native

SERVER = "127.9.9.9"
IN_ITS_OWN = """#!/bin/sh
exec unshare -m sh -c 'mount --bind "$0" /etc/resolv.conf && exec "$@"' {conf} {program} "$@"
"""


class NameServer:
    """Says of every name that it has `addresses`; of none that it does not exist."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((SERVER, 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, client = self._socket.recvfrom(512)
                if not query:
                    return
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        question, kind = query[12:end], query[end - 4 : end - 2]
        found = [socket.inet_aton(a) for a in self.addresses] if kind == b"\0\1" else []  # IPv6 it has none
        self.asked += kind == b"\0\1"
        head = query[:2] + (b"\x81\x80" if self.addresses else b"\x81\x83") + b"\0\1" + len(found).to_bytes(2, "big") + b"\0" * 4
        return head + question + b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + a for a in found)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendto(b"", (SERVER, 53))
        self._thread.join(5)
        self._socket.close()


@pytest.fixture
def names() -> Iterator[NameServer]:
    if not shutil.which("gcc") and "COELOAD" not in os.environ:
        pytest.skip("the generator is built from C and there is no gcc")
    if os.geteuid() or not Path("/etc/resolv.conf").exists():
        pytest.skip("a mount namespace of the agent's own needs root, and a resolv.conf to cover there")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    try:
        server = NameServer()
    except OSError as e:
        pytest.skip(f"{SERVER}:53: {e}")
    yield server
    server.close()


@pytest.fixture
def agent(tmp_path: Path, names: NameServer) -> Iterator[Agent]:
    conf, program = tmp_path / "resolv.conf", tmp_path / "coeload"
    conf.write_text(f"nameserver {SERVER}\noptions timeout:1 attempts:1\n")
    program.write_text(IN_ITS_OWN.format(conf=conf, program=native.program()))
    program.chmod(0o755)
    running = Agent(program)
    yield running
    assert running.end() == 0


def until(fact: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_connections_follow_a_name_whose_addresses_change(names: NameServer, agent: Agent) -> None:
    def asked_again() -> None:
        before = names.asked
        until(lambda: names.asked > before + 2)

    answer = answering(identity())
    with (
        Server(answer, host="127.0.0.2") as one,
        Server(answer, one.port, "127.0.0.3") as two,
        Server(answer, one.port, "127.0.0.4") as three,
        agent.connect() as control,
    ):
        names.addresses = ["127.0.0.2"]
        wanted = {"targets": f"app.coebench.test:{one.port}", "rate": 300, "duration": 0, "connections": 6, "resolve": "50ms"}
        control.send("load", id="L", **wanted)
        control.until("started", id="L")
        until(lambda: one.connections == 6)
        names.addresses = ["127.0.0.2", "127.0.0.3"]
        until(lambda: two.connections == 3)
        names.addresses = ["127.0.0.3", "127.0.0.2"]  # the same, by turns: nobody moves
        asked_again()
        assert (one.connections, two.connections) == (6, 3)
        names.addresses = ["127.0.0.3"]
        until(lambda: two.connections == 6)
        names.addresses = []  # a name server that knows nothing any more ends no load
        asked_again()
        names.addresses = ["127.0.0.4"]
        until(lambda: three.connections == 6)
        control.until("second", id="L")
        control.send("stop", id="L")
        done, _ = control.until("done", id="L")
    assert (one.connections, two.connections, three.connections) == (6, 6, 6)  # as few moves as an even spread takes
    assert done["errors"] == {}
    assert done["sent"] == done["ok"] + done["in_flight"]
    assert {t: n["ok"] > 0 for t, n in done["targets"].items()} == {f"127.0.0.{i}:{one.port}": True for i in (2, 3, 4)}


@pytest.fixture
def hosts(tmp_path: Path) -> list[str]:
    """A command's beginning: for it alone localhost is both families, as on Debian, and `app` has two addresses of one."""
    if not shutil.which("gcc") and "COELOAD" not in os.environ:
        pytest.skip("the generator is built from C and there is no gcc")
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("a mount namespace of one's own needs root")
    file = tmp_path / "hosts"
    file.write_text("127.0.0.1 localhost\n::1 localhost\n127.0.0.2 app.coebench.test\n127.0.0.3 app.coebench.test\n")
    return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(file), str(native.program())]


def sent(hosts: list[str], url: str) -> tuple[int, dict[str, Any]]:
    command = [*hosts, "run", url, "--rate", "200", "--duration", "1s", "--connections", "4", "--json"]
    p = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return p.returncode, json.loads(p.stdout)


@pytest.mark.parametrize(
    ("host", "name", "other"),
    [
        ("127.0.0.1", "localhost", "[::1]"),
        ("::1", "localhost", "127.0.0.1"),
        ("127.0.0.3", "app.coebench.test", "127.0.0.2"),
    ],
)
def test_a_load_goes_to_the_addresses_of_a_name_that_serve(hosts: list[str], host: str, name: str, other: str) -> None:
    try:
        server = Server(answering(identity()), host=host)
    except OSError as e:
        pytest.skip(f"{host}: {e}")
    with server:
        code, done = sent(hosts, f"http://{name}:{server.port}/")
    assert (code, done["errors"]) == (0, {})
    assert done["ok"] == done["sent"] > 100
    assert done["not_serving"] == {f"{other}:{server.port}": "refused"}


def test_an_address_that_says_nothing_is_left_out_as_well(hosts: list[str]) -> None:
    with Server(answering(identity()), host="127.0.0.2") as server, socket.socket() as silent:
        silent.bind(("127.0.0.3", server.port))
        silent.listen(0)
        with socket.create_connection(("127.0.0.3", server.port)):  # its queue is full: the kernel drops what comes now
            code, done = sent(hosts, f"http://app.coebench.test:{server.port}/")
    assert (code, done["errors"], done["not_serving"]) == (0, {}, {f"127.0.0.3:{server.port}": "timeout"})


def test_a_load_is_spread_over_all_addresses_that_serve(hosts: list[str]) -> None:
    answer = answering(identity())
    with Server(answer, host="127.0.0.2") as one, Server(answer, one.port, "127.0.0.3"):
        code, done = sent(hosts, f"http://app.coebench.test:{one.port}/")
    assert (code, done["errors"], done["not_serving"]) == (0, {}, {})
    assert len(done["targets"]) == 2
    assert all(t["ok"] > 50 for t in done["targets"].values())


def test_where_no_address_serves_every_request_is_an_error(hosts: list[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        code, done = sent(hosts, f"http://localhost:{closed.getsockname()[1]}/")
    assert code == 2
    assert done["errors"] == {"refused": done["sent"]}


def test_other_generators_are_sent_to_an_address_that_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(answering(identity()), host="127.0.0.3") as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", server.port)) for n in (2, 3)]
        real = socket.getaddrinfo
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda host, *a, **k: found if host == "app.coebench.test" else real(host, *a, **k)
        )
        plan = crosscheck.plan_of([f"http://app.coebench.test:{server.port}/", "--rate", "10"])
    assert plan.targets[0].address == "127.0.0.3"
