"""A Mesos bay of the lab, as users get it, for the tests of the Marathon-compatible API: a control host and two nodes.

The tests ask it for its ``url``, to be ``inside`` its network, and to stop and start engine processes. A dead agent is
known after 5 s here; by Mesos' own timeouts it takes 75.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import coebench_mesos  # noqa: F401  # makes PyPI's marathon run on this Python
import pytest

from coebench.contract import BaySpec
from coebench.lab import bay as bays
from coebench.lab import install, plan

CONTROL = plan.address("c1")
NODES = ("n1", "n2")


class MesosBay:
    def __init__(self, bay: bays.LabBay) -> None:
        self.lab = bay
        self.url = f"http://{CONTROL}:8080"

    def kill_agent(self, node: str) -> None:
        """The agent alone: its executors and tasks go on."""
        self.lab.host(node).stop_engine("mesos-agent")

    def start_agent(self, node: str) -> None:
        self.lab.host(node).start_engine("mesos-agent")

    def kill_marathon(self) -> None:
        self.lab.host("c1").stop_engine("marathon")

    def start_marathon(self) -> None:
        self.lab.host("c1").start_engine("marathon")
        self.wait(lambda: self._get(8080, "/v2/info"), "the API")

    def restart_master(self) -> None:
        self.lab.host("c1").stop_engine("mesos-master")
        self.lab.host("c1").start_engine("mesos-master")

    # looking

    def inside(self) -> contextlib.AbstractContextManager[None]:
        return self.lab.network()

    @staticmethod
    def wait(condition: Callable[[], Any], what: str, seconds: float = 15) -> Any:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.01)
        raise AssertionError(f"waited {seconds} s for {what}")

    def agents(self) -> int:
        """How many agents the master counts as active."""
        return int(self._get(5050, "/metrics/snapshot").get("master/slaves_active", 0))

    def _get(self, port: int, path: str) -> dict[str, Any]:
        with self.inside(), contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(CONTROL, port, timeout=2)
            connection.request("GET", path)
            with contextlib.closing(connection), connection.getresponse() as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        return {}


@pytest.fixture(scope="module")
def mesos_bay(lab_installed: object) -> Iterator[MesosBay]:
    layers, images = install.layers("mesos", print), install.image_folder("mesos", print)
    spec = BaySpec(coe="mesos", nodes=len(NODES), options={"ping-timeout": "1secs"})
    try:
        yield MesosBay(bays.LabBay.create("t-marathon", spec, layers, images, print))
    finally:
        bays.erase("t-marathon")
