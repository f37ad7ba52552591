"""`serve` with all that can be asked of it, on two real engines: curve, objective, cross-check, a routing that one lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coebench import machine

pytestmark = pytest.mark.lab
SLO = "p99<2000ms,errors<50%"


@pytest.fixture(scope="module")
def run(lab_installed: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    runs = tmp_path_factory.mktemp("runs")
    settings = {
        "routing": '["endpoints","native","proxy"]',
        "instances": "2",
        "connections": "8",
        "rate": "300",
        "seconds": "2",
        "warmup": "1",
        "steps": "[300,600]",
        "step_seconds": "1",
        "repeats": "1",
    }
    command = [sys.executable, "-m", "coebench", "compare", "k8s", "swarm", "--profile", "smoke", "--scenarios", "serve"]
    for name, value in settings.items():
        command += ["--set", f"serve.{name}={value}"]
    command += ["--slo", SLO, "--cross-check", "wrk", "--json", "--runs", str(runs)]
    p = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert p.returncode == 0, p.stderr
    return json.loads(p.stdout), next(runs.iterdir())


def rows(result: dict[str, Any], metric: str, subject: str) -> dict[tuple[Any, ...], float]:
    """Factors' values → median."""
    found = {}
    for m in result["metrics"]:
        value = m["values"].get(subject)
        if m["name"] == metric and value and value["n"]:
            found[tuple(m["factors"].values())] = value["median"]
    return found


@pytest.mark.timeout(500)
def test_the_curve_and_the_objective_are_in_the_table(run: tuple[dict[str, Any], Path]) -> None:
    result, _ = run
    for coe in ("k8s", "swarm"):
        assert set(rows(result, "curve_achieved", coe)) >= {("endpoints", 300), ("endpoints", 600)}
        # An objective that any service meets: the search ends at its highest rate, and says that it is a bound.
        assert rows(result, "slo_rate", coe)["endpoints", SLO] == 600
        (cell,) = [
            m["values"][coe] for m in result["metrics"] if m["name"] == "slo_rate" and m["factors"]["routing"] == "endpoints"
        ]
        assert "no rate missed" in cell["lower_bound"]
        assert rows(result, "saturation", coe)["endpoints",] > 600
        assert 0.1 < rows(result, "cross_rate", coe)["endpoints", "wrk"] < 10


def test_a_routing_is_measured_where_it_is_and_refused_with_the_reason_where_not(run: tuple[dict[str, Any], Path]) -> None:
    result, _ = run
    assert ("native",) in rows(result, "saturation", "k8s")
    if machine.ip_vs():
        assert ("native",) in rows(result, "saturation", "swarm")
    else:
        assert ("native",) not in rows(result, "saturation", "swarm")
        assert any("Docker Swarm: routing native was not measured" in w and "ip_vs" in w for w in result["warnings"])


def test_the_same_proxy_stands_before_each(run: tuple[dict[str, Any], Path]) -> None:
    result, folder = run
    for coe in ("k8s", "swarm"):
        through = rows(result, "curve_achieved", coe)
        assert through["proxy", 300] > 0 and through["proxy", 600] > 0
        assert 0 < rows(result, "saturation", coe)["proxy",] < 2 * rows(result, "saturation", coe)["endpoints",]
    seen = [json.loads(line) for line in (folder / "observations.jsonl").read_text().splitlines()]
    ways = [o["data"] for o in seen if o["name"] == "reach" and o["data"]["routing"] == "proxy"]
    assert [w["how"] for w in ways] == ["haproxy in front of 2 instances, one thread"] * 2
    assert all(len(w["targets"]) == 1 for w in ways)


def test_every_load_has_its_seconds_and_its_warm_up(run: tuple[dict[str, Any], Path]) -> None:
    _, folder = run
    seen = [json.loads(line) for line in (folder / "observations.jsonl").read_text().splitlines()]
    loads = [o["data"] for o in seen if o["name"] == "load"]
    assert len([o for o in loads if not o.get("discarded")]) >= 4 + 4 + 4
    assert all(o["steady"]["seconds"] >= 2 for o in loads)
    assert {o["data"]["phase"] for o in seen if o["name"] == "load.second"} >= {"warmup", "measured"}
