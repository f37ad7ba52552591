"""`coebench loadgen coordinator`, as it is typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "loadgen"))

from loadgen_harness import Agent, NullServer, free_port

from coebench.cli.loadgen import app
from coebench.contract import BadInput
from coebench.load import native


@pytest.fixture(scope="module")
def binary() -> Path:
    return native.program()


def test_two_generators_by_address_and_two_behind_a_relay(binary: Path) -> None:
    plan = ["--rate", "400", "--connections", "4", "--duration", "0.6", "--warmup", "0"]
    with NullServer(binary) as null:
        port = free_port()
        called = [Agent(binary), Agent(binary)]
        joined = [Agent(binary, "--join", f"127.0.0.1:{port}", "--name", name) for name in ("one", "two")]
        try:
            addresses = [word for a in called for word in ("--generator", f"127.0.0.1:{a.port}")]
            text = CliRunner().invoke(app, ["coordinator", null.url, *addresses, *plan])
            told = CliRunner().invoke(app, ["coordinator", null.url, "--listen", str(port), "--expect", "2", *plan, "--json"])
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
        (["--resume"], "--checkpoint FILE"),
        (["--resume", "--checkpoint", "/nowhere/at/all"], "can't read the checkpoint"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(words: list[str], says: str) -> None:
    p = CliRunner().invoke(app, ["coordinator", *words])
    assert isinstance(p.exception, BadInput), p.output
    assert says in str(p.exception)
    assert "\n" not in str(p.exception)
