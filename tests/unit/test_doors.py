"""Ports of the load generator: who does not know the secret has nothing done."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import Agent, NoCompiler, argv, build, free_port

from coebench.contract import EngineError, LoadPlan, ServiceSpec, Target
from coebench.load import agent as client
from coebench.load import secret
from coebench.load.coordinator import Coordinator

SECRET = "0123456789abcdef-_ABCD"
VERBS = ("hello", "ping id=1", "watch id=w addr=127.0.0.1 port=9 path=/", "exec id=e argv=id", "stop id=e", "attach id=e")


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("coeload"))
    except NoCompiler as e:
        pytest.skip(str(e))


@pytest.fixture
def agent(binary: Path) -> Iterator[Agent]:
    running = Agent(binary, "--allow-exec", env={"COEBENCH_SECRET": SECRET})
    yield running
    running.end()


def said(port: int, *lines: bytes) -> list[dict[str, object]]:
    """What is answered until the other side ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as caller:
        caller.sendall(b"".join(line + b"\n" for line in lines))
        return [json.loads(line) for line in caller.makefile("rb")]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("before", [(), (b"auth",), (b"auth secret=",), (b"auth secret=" + SECRET[:-1].encode(),), (b"\xff%",)])
def test_no_verb_is_obeyed_without_it(agent: Agent, verb: str, before: tuple[bytes, ...]) -> None:
    answers = said(agent.port, *before, verb.encode(), f"auth secret={SECRET}".encode(), b"hello")
    assert [a["event"] for a in answers] == ["error"], "one complaint, and the connection ends"
    assert SECRET not in str(answers)


def test_a_web_page_gives_no_orders(agent: Agent) -> None:
    """A form of another site posts text; its first line is no secret, and it may guess as often as it likes."""
    body = f"auth secret={SECRET}\nexec id=e argv=id\n"
    head = f"POST / HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\nContent-Length: {len(body)}\r\n\r\n"
    assert [a["event"] for a in said(agent.port, (head + body).encode())] == ["error"]


def test_with_it_all_is_as_before_and_programs_are_nobody_s(agent: Agent) -> None:
    with agent.connect() as control:
        control.send("auth", secret=SECRET)
        control.send("exec", id="e", argv=argv("sh", "-c", "id -u; env; cat /proc/self/environ"))
        _, before = control.until("exit", id="e", code=0)
    told = "".join(str(e.get("data", "")) for e in before)
    assert SECRET not in told and "COEBENCH" not in told
    if os.geteuid() == 0:
        assert told.startswith("65534\n")
    connection = client.Agent("127.0.0.1", agent.port, secret=SECRET)
    assert connection.hello["exec"] is True
    connection.close()
    with pytest.raises(EngineError, match=r"secret is missing or wrong|connection ended"):
        client.Agent("127.0.0.1", agent.port, secret="x" * 20)


@pytest.mark.parametrize("given", [{}, *({"COEBENCH_SECRET": word} for word in ("short", "x" * 200, "a b" * 9))])
@pytest.mark.parametrize("mode", ["agent", "relay"])
def test_a_port_is_not_opened_to_all_by_mistake(binary: Path, mode: str, given: dict[str, str]) -> None:
    p = subprocess.run([str(binary), mode, "--port", "0"], capture_output=True, text=True, timeout=5, env=given)
    assert p.returncode == 2 and "COEBENCH_SECRET" in p.stderr and len(p.stderr.splitlines()) == 1
    assert not given or next(iter(given.values())) not in p.stderr


def test_a_stranger_s_generator_is_not_measured(binary: Path) -> None:
    """Two register with a relay: one that was not asked, and first; one that knows the secret."""
    port = free_port()
    env = {**os.environ, "COEBENCH_SECRET": SECRET}
    relay = subprocess.Popen([str(binary), "relay", "--port", str(port)], stdout=subprocess.PIPE, text=True, env=env)
    assert relay.stdout and "listening" in relay.stdout.readline()
    agents = []
    server = Agent(binary, env={"COEBENCH_SECRET": SECRET})  # its health check answers any load
    try:
        for name, word in (("stranger", "w" * 20), ("mine", SECRET)):
            agents.append(Agent(binary, "--join", f"127.0.0.1:{port}", "--name", name, env={"COEBENCH_SECRET": word}))
        assert [a["event"] for a in said(port, b"generators")] == ["error"]
        plan = LoadPlan(targets=(Target("127.0.0.1", server.port),), path="/healthz", rate=50, duration=0.3, warmup=0.0)
        result = Coordinator(plan, relay=("127.0.0.1", port), expect=1, secret=SECRET).run()
        assert [a.name for a in result.accounts] == ["mine"]
        with pytest.raises(EngineError, match="secret"):
            Coordinator(plan, relay=("127.0.0.1", port), expect=1, secret="x" * 20, patience=0.5).run()
    finally:
        for one in (*agents, server):
            one.end()
        relay.send_signal(signal.SIGTERM)
        relay.wait(5)
        relay.stdout.close()


def test_the_command_wants_one_where_generators_register() -> None:
    command = [sys.executable, "-m", "coebench", "loadgen", "coordinator", "http://127.0.0.1:9/", "--listen", "7771"]
    for word, wanted in (("", "openssl rand"), ("too-short", "want 16 to 128")):
        env = {**os.environ, "COEBENCH_SECRET": word}
        p = subprocess.run([*command, "--expect", "1", "--rate", "5"], capture_output=True, text=True, timeout=30, env=env)
        assert p.returncode == 2 and wanted in p.stderr


def test_each_prober_has_one_of_its_own() -> None:
    words = {secret.draw() for _ in range(100)}
    assert len(words) == 100 and all(len(w) == 32 for w in words)
    spec = secret.told(ServiceSpec(name="s", image="i", instances=1), "w")
    assert spec.env == {"COEBENCH_SECRET": "w"}
    assert secret.told(spec, "w", executes=True).env["COEBENCH_ALLOW_EXEC"] == "1"
