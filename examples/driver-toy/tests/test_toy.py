"""The toy driver on a toy bay, by the contract alone. Needs no root, no lab and no installation."""

from __future__ import annotations

import contextlib
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coebench.contract import (
    Access,
    BadInput,
    BayFailed,
    BaySpec,
    Capability,
    Conflict,
    EngineError,
    InstanceState,
    MissingService,
    Resource,
    Routing,
    ServiceSpec,
    Strategy,
    Unsupported,
)
from coebench.contract.driver import changes

sys.path.insert(0, str(Path(__file__).parents[1]))

from coebench_toy import ToyDriver, ToyProvisioner
from coebench_toy import provisioner as provisioning

WEB = ServiceSpec(name="web", image="coebench-http:v1", instances=3, memory=32 << 20)


class Journal:
    """Remembers what was written down and is not gone."""

    def __init__(self) -> None:
        self.open: list[str] = []

    def creating(self, resource: Resource) -> None:
        self.open.append(resource.id)

    def gone(self, resource: Resource) -> None:
        self.open.remove(resource.id)


def observe(name: str, **_: Any) -> None: ...


@pytest.fixture
def bay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path))
    provisioner, journal = ToyProvisioner(), Journal()
    made = provisioner.create("t", BaySpec(coe="toy", nodes=2, memory=256 << 20), journal, observe)
    yield made
    provisioner.delete(made, journal, observe)
    assert journal.open == []
    assert provisioner.leftovers() == ()


@pytest.fixture
def driver(bay: Any) -> Iterator[ToyDriver]:
    with contextlib.closing(ToyDriver.connect(ToyProvisioner().access(bay))) as connected:
        yield connected


def until(fact: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := fact()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return value


def ready(driver: ToyDriver, service: str, count: int) -> bool:
    return [i.state for i in driver.instances(service)] == [InstanceState.READY] * count


def get(address: str, port: int) -> tuple[str, str]:
    """Who answers: instance and version. Waits until somebody does."""

    def ask() -> Any:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://{address}:{port}/id", timeout=2).headers

    headers = until(ask)
    return headers["X-Coebench-Instance"], headers["X-Coebench-Version"]


def test_every_capability_is_answered_for(driver: ToyDriver) -> None:
    told = driver.capabilities()
    assert set(told) == set(Capability)
    assert all(s.ok or s.reason for s in told.values())


def test_instances_answer_with_their_own_id(driver: ToyDriver) -> None:
    driver.deploy(WEB)
    until(lambda: ready(driver, "web", 3))
    answering = {get(i.address, i.port) for i in driver.instances("web") if i.address and i.port}
    assert answering == {(i.id, "v1") for i in driver.instances("web")}
    assert driver.services() == ("web",)
    assert driver.progress("web").done
    assert len(driver.reach("web", Routing.ENDPOINTS).targets) == 3


def test_a_watch_tells_of_a_service_from_before_it_is_there_to_after_it_is_gone(driver: ToyDriver) -> None:
    with driver.watch("web") as watch:
        assert watch.next(0.3) is None
        driver.deploy(WEB)
        until(lambda: ready(driver, "web", 3))
        told = list(changes(watch, 1.0))  # on a busy machine the watch looks later than we do: wait for it
        driver.remove("web")
        until(lambda: not driver.instances("web"))
        told += changes(watch, 1.0)
    added, removed = ([c.instance.id for c in told if c.kind == kind] for kind in ("added", "removed"))
    assert len(set(added)) == len(added) == 3
    assert set(removed) == set(added)
    begun = time.monotonic()
    driver.watch("web").close()
    assert time.monotonic() - begun < 1


def test_scaling_and_removing(driver: ToyDriver) -> None:
    driver.deploy(WEB)
    driver.scale("web", 1)
    until(lambda: ready(driver, "web", 1))
    driver.scale("web", 0)
    until(lambda: not driver.instances("web"))
    assert driver.progress("web").wanted == 0
    driver.remove("web")
    driver.remove("web")
    assert driver.services() == ()


def test_a_killed_instance_is_replaced_by_another(driver: ToyDriver) -> None:
    driver.deploy(msgspec.structs.replace(WEB, instances=1))
    until(lambda: ready(driver, "web", 1))
    (first,) = driver.instances("web")
    driver.kill(first)
    until(lambda: first.id not in [i.id for i in driver.instances("web")])
    until(lambda: ready(driver, "web", 1))


def test_what_a_node_has_no_room_for_is_told(driver: ToyDriver) -> None:
    driver.deploy(msgspec.structs.replace(WEB, instances=2, memory=200 << 20))
    until(lambda: ready(driver, "web", 2))
    driver.scale("web", 3)
    assert until(lambda: driver.progress("web").blocked) == "no node has 0.1 cores and 200 MiB left"
    driver.deploy(msgspec.structs.replace(WEB, name="wide", cpu=1000.0))
    assert "no node has 1000 cores" in driver.progress("wide").blocked


def test_a_drained_node_is_empty(driver: ToyDriver) -> None:
    driver.deploy(WEB)
    driver.drain("n1")
    until(lambda: ready(driver, "web", 3) and {i.node for i in driver.instances("web")} == {"n2"})
    assert [n.schedulable for n in driver.nodes()] == [False, True]
    driver.undrain("n1")
    assert all(n.schedulable for n in driver.nodes())


def test_what_an_instance_wrote_can_be_read(driver: ToyDriver) -> None:
    driver.deploy(msgspec.structs.replace(WEB, instances=1))
    until(lambda: ready(driver, "web", 1))
    assert until(lambda: driver.logs(driver.instances("web")[0])).startswith("listening on ")


def test_errors_are_the_contracts(driver: ToyDriver) -> None:
    assert driver.instances("none") == ()
    with pytest.raises(MissingService):
        driver.scale("none", 1)
    with pytest.raises(MissingService):
        driver.progress("none")
    driver.deploy(WEB)
    with pytest.raises(Conflict, match="there is a service web"):
        driver.deploy(WEB)
    for name in ("", "../web", "a/b", "Web", "x" * 41):
        assert driver.instances(name) == ()
        driver.remove(name)
        with pytest.raises(BadInput):
            driver.deploy(msgspec.structs.replace(WEB, name=name))
    assert driver.services() == ("web",)
    with pytest.raises(EngineError, match="no command"):
        driver.deploy(msgspec.structs.replace(WEB, name="other", command=("rm", "-r", "/tmp/x")))
    with pytest.raises(Unsupported, match="no rolling update"):
        driver.update(WEB, Strategy())
    with pytest.raises(Unsupported, match="no virtual addresses"):
        driver.reach("web", Routing.NATIVE)
    with pytest.raises(BadInput):
        ToyDriver.connect(Access(coe="toy"))
    with pytest.raises(EngineError):
        ToyDriver.connect(Access(coe="toy", url="http://127.0.0.1:9"))
    driver.close()
    with pytest.raises(EngineError, match="closed"):
        driver.services()


def test_an_engine_that_ended_is_seen(bay: Any) -> None:
    provisioner = ToyProvisioner()
    provisioner.describe(bay)
    for process in provisioning.psutil.Process().children():
        process.kill()
        process.wait()
    with pytest.raises(BayFailed):
        provisioner.describe(bay)
