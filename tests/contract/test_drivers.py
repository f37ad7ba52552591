"""Every driver, on a real engine, does what the contract says: one test for each behaviour and COE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from coebench import plugins
from coebench.conformance import Behaviour, Bench, behaviours, check
from coebench.contract import Bay

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def bench(bay: tuple[Any, Bay], coe: str) -> Iterator[Bench]:
    """The suite's bench on the COE's bay; what it deployed is gone afterwards."""
    provisioner, made = bay
    driver = plugins.load("drivers", coe, "COE")
    http, loadgen = (plugins.load("workloads", name, "workload") for name in ("http", "loadgen"))
    made_bench = Bench(driver.connect, provisioner.access(made), http, loadgen)
    yield made_bench
    left = made_bench.close()
    assert not left, f"left behind: {left}"


@pytest.mark.parametrize("what", behaviours(), ids=lambda b: b.name)
def test_driver(bench: Bench, what: Behaviour) -> None:
    outcome = check(bench, what)
    if outcome.result == "not applicable":
        pytest.skip(f"not applicable: {outcome.reason}")
    assert outcome.result == "passed", f"{outcome.reason}\nIt is asked for because: {outcome.why}"
