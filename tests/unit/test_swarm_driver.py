"""What the Swarm driver asks Docker for, as far as that is settled without one."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from coebench_swarm import specs
from coebench_swarm.driver import SwarmDriver

from coebench import plugins
from coebench.contract import Access, BadInput, BaySpec, Strategy
from coebench.lab import plan
from coebench.lab.engines import engine


def test_when_a_task_is_replaced_is_dockers_own_unless_the_bay_says() -> None:
    """Stock is stock: a policy of ours, however harmless, is not the engine's."""
    spec = plugins.load("workloads", "http", "workload").service("web", 1, "v1")
    assert "RestartPolicy" not in specs.task_template(spec)
    assert "RestartPolicy" not in specs.service(spec, Strategy(), False)["TaskTemplate"]
    for template in (specs.task_template(spec, 0), specs.service(spec, Strategy(), False, 0)["TaskTemplate"]):
        assert template["RestartPolicy"]["Delay"] == 0
    assert specs.task_template(spec, 1.5)["RestartPolicy"]["Delay"] == 1_500_000_000


@pytest.mark.parametrize(("profile", "told", "printed"), [("stock", None, "5s"), ("harmonised", "0", "0s")])
def test_the_lab_tells_the_driver_and_prints_it(profile: str, told: str | None, printed: str) -> None:
    swarm = engine("swarm")(BaySpec(coe="swarm", timeouts=profile), plan.Layout.of(1, 1))
    assert swarm.timeouts()["service --restart-delay"] == printed
    assert swarm.options_for_driver().get("restart_delay") == told


@pytest.mark.parametrize("given", ["soon", "-1", "nan"])
def test_a_delay_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(BadInput, match="restart_delay is a number of seconds"):
        SwarmDriver.connect(Access(coe="swarm", url="unix:///nowhere", options={"restart_delay": given}))


@pytest.mark.parametrize(
    ("nodes", "said", "interval"), [({}, "every 0.1 s", 0.1), ({"n1": "tcp://n1:2375"}, "refuses its events", 0.5)]
)
def test_a_watch_without_events_says_that_it_polls(nodes: dict[str, str], said: str, interval: float) -> None:
    class Daemon:
        def events(self, **_: Any) -> Any:
            return iter([{"message": "authorization denied by plugin"}])

        def nodes(self) -> list[Any]:
            return []

        def tasks(self, **_: Any) -> list[Any]:
            return []

    driver: Any = object.__new__(SwarmDriver)
    driver._nodes, driver._api, driver._access_url, driver._closed = nodes, Daemon(), "tcp://m:2375", False
    driver._lock = threading.Lock()
    driver._listener = lambda url: Daemon()
    with driver.watch("web") as watch:
        end = time.monotonic() + 2
        while not watch.fallback and time.monotonic() < end:
            time.sleep(0.02)
        assert said in watch.fallback and watch.interval == interval
