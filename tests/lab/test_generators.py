"""Several generators in a bay of a real engine: called one by one, and behind a relay, with one that is killed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from coebench import plugins
from coebench.contract import Bay, Burst, Driver, LoadPlan, LoadResult, Routing, Target
from coebench.load.prober import BayProber
from coebench.load.recruits import GENERATORS, RELAY

pytestmark = pytest.mark.lab


def _answering(driver: Driver, prober: BayProber, count: int) -> tuple[Target, ...]:
    """Addresses of the service, when that many of them have answered."""
    up: set[Target] = set()
    watched: dict[Target, str] = {}
    with driver.watch("served") as watch:
        while len(up) < count:
            if change := watch.next(0.2):
                i = change.instance
                if i.address and i.port and i.live and (target := Target(i.address, i.port)) not in watched:
                    watched[target] = prober.watch(target)
            while answer := prober.next(0.01):
                if answer.kind == "up":
                    up.add(answer.target)
    for ident in watched.values():
        prober.unwatch(ident)
    reach = driver.reach("served", Routing.ENDPOINTS)
    return tuple(Target(*t) for t in reach.targets)


def _gone(driver: Driver, *services: str) -> None:
    for service in services:
        with driver.watch(service) as watch:
            while any(i.state.value not in ("ended", "lost") for i in driver.instances(service)):
                watch.next(0.5)


def _adds_up(result: LoadResult) -> None:
    for part in (result, *result.accounts):
        assert part.planned == part.sent + part.unsent
        assert part.sent == part.ok + sum(part.errors.values()) + part.inflight
    assert result.ok == sum(a.ok for a in result.accounts)
    assert all(a.ok > 0 for a in result.accounts if a.state == "done")


@pytest.mark.timeout(240)
def test_generators_of_a_bay_send_as_one(bay: tuple[Any, Bay], coe: str) -> None:
    provisioner, made = bay
    driver = plugins.load("drivers", coe, "COE").connect(provisioner.access(made))
    http = plugins.load("workloads", "http", "workload")
    prober = BayProber(driver, plugins.load("workloads", "loadgen", "workload"), executes=True)
    try:
        prober.start(90)
        driver.deploy(msgspec.structs.replace(http.service("served", 2, http.versions[0]), health=None))
        targets = _answering(driver, prober, 2)
        plan = LoadPlan(targets=targets, rate=300.0, connections=6, duration=1.0, warmup=0.5, generators=2)
        prober.recruit(2, inside=False, timeout=60)
        called = prober.load(plan)
        assert called.flags == ()
        _adds_up(called)
        prober.dismiss()
        _gone(driver, GENERATORS)

        prober.recruit(2, inside=True, timeout=60)
        killed: list[str] = []

        def kill(burst: Burst) -> None:
            if burst.generators == 2 and not killed:
                victim = next(i for i in driver.instances(GENERATORS) if i.live)
                killed.append(victim.id)
                driver.kill(victim)

        relayed = prober.load(msgspec.structs.replace(plan, duration=4.0), kill)
        _adds_up(relayed)
        assert killed
        # Some engines end an instance gently: then its last word comes through the relay, else it is lost. Named it is.
        assert any(killed[0] in flag and ("was lost" in flag or "was stopped" in flag) for flag in relayed.flags), relayed.flags
        assert {a.state for a in relayed.accounts if a.name != killed[0]} == {"done"}
        prober.dismiss()
        _gone(driver, GENERATORS, RELAY)
    finally:
        prober.stop()
        for service in ("served", GENERATORS, RELAY):
            driver.remove(service)
        _gone(driver, "served", GENERATORS, RELAY)
        driver.close()
