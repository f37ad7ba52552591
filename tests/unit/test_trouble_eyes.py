"""Following a service while its engine goes away and comes back: by a driver whose word is made by hand."""

from __future__ import annotations

import queue
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from coebench.contract import Change, EngineError, Instance, InstanceState, Node
from coebench.load.prober import BayProber
from coebench.scenarios import eyes as seeing
from coebench.scenarios.eyes import Eyes


def instance(ident: str, port: int) -> Instance:
    return Instance(
        id=ident, service="web", version="v1", state=InstanceState.READY, engine_state="ready", node="n1", address="10.0.0.1",
        port=port, published=None,
    )  # fmt: skip


class Watch:
    fallback = ""

    def __init__(self, there: list[Instance]) -> None:
        self.told: queue.SimpleQueue[Change | EngineError] = queue.SimpleQueue()
        for i in there:
            self.told.put(Change("added", i, 0.0))

    def next(self, timeout: float) -> Change | None:
        try:
            item = self.told.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, EngineError):
            raise item
        return item

    def close(self) -> None: ...


class Driver:
    def __init__(self, *there: Instance) -> None:
        self.there = list(there)
        self.watches: list[Watch] = []
        self.hosts: tuple[Node, ...] = ()

    def watch(self, service: str) -> Watch:
        self.watches.append(Watch(self.there))
        return self.watches[-1]

    def instances(self, service: str) -> tuple[Instance, ...]:
        return tuple(self.there)

    def nodes(self) -> tuple[Node, ...]:
        return self.hosts


class Flow:
    def __init__(self) -> None:
        self.targets: tuple[Any, ...] = ()

    def retarget(self, targets: tuple[Any, ...]) -> None:
        self.targets = targets

    def stop(self) -> None: ...


class Prober:
    def watch(self, target: Any, *rest: Any, **more: Any) -> str:
        return f"{target.address}:{target.port}"

    def unwatch(self, watch: str) -> None: ...

    def next(self, timeout: float) -> None:
        time.sleep(min(timeout, 0.02))


class Trial:
    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.prober = Prober()
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def observe(self, name: str, *, at: float | None = None, **data: Any) -> None:
        self.seen.append((name, data))


def until(fact: Any) -> None:
    end = time.monotonic() + 5
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.timeout(30)
def test_an_instance_that_went_while_the_engine_was_away_gets_no_more_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeing, "AGAIN", 0.02)
    a, b, c = instance("a", 1), instance("b", 2), instance("c", 3)
    driver = Driver(a, b)
    trial: Any = Trial(driver)
    with Eyes(trial, "web") as eyes:
        until(lambda: len(eyes._ready) == 2)
        flow = eyes.flow = Flow()  # type: ignore[assignment]
        driver.there = [a, c]  # b went and c came, and nobody was told
        driver.watches[0].told.put(EngineError("following web", "connection refused"))
        until(lambda: {t.port for t in flow.targets} == {1, 3})  # type: ignore[attr-defined]
        eyes.pause(0.05)
        assert set(eyes.instances) == eyes.ready == {"a", "c"}
    assert [d["id"] for name, d in trial.seen if name == "gone"] == ["b"]
    assert [name for name, _ in trial.seen if name.startswith("engine.")] == ["engine.silent", "engine.back"]


def node(name: str) -> Node:
    return Node(name=name, address="10.0.0.1", ready=True, schedulable=True, engine_state="active", cpu=1, memory=1)


@pytest.mark.timeout(30)
def test_a_node_that_an_engine_has_forgotten_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """A master that comes back without its memory lists no node until they find it: all is not as it was before."""
    monkeypatch.setattr(seeing, "NODES", 0.02)
    driver = Driver()
    driver.hosts = (node("n1"), node("n2"))
    trial: Any = Trial(driver)
    with Eyes(trial, "web") as eyes:
        until(lambda: eyes.settled(0))
        driver.hosts = (node("n1"),)
        until(lambda: not eyes.settled(0))
        driver.hosts = (node("n1"), node("n2"))
        until(lambda: eyes.settled(0))
    states = [(d["host"], d["ready"], d["engine_state"]) for name, d in trial.seen if name == "node"]
    assert states == [("n1", True, "active"), ("n2", True, "active"), ("n2", False, "not listed"), ("n2", True, "active")]


@pytest.mark.timeout(30)
def test_what_was_seen_of_nodes_before_an_engine_went_away_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeing, "NODES", 0.02)
    monkeypatch.setattr(seeing, "AGAIN", 0.02)
    driver = Driver()
    driver.hosts = (node("n1"),)
    trial: Any = Trial(driver)
    with Eyes(trial, "web") as eyes:
        until(lambda: eyes.settled(0))
        asked = threading.Event()

        def slow() -> tuple[Node, ...]:
            asked.wait(5)
            return driver.hosts

        monkeypatch.setattr(driver, "nodes", slow)
        driver.watches[0].told.put(EngineError("following web", "connection refused"))
        until(lambda: ("engine.back", {"service": "web"}) in trial.seen)
        assert not eyes.away and not eyes.settled(0)
        asked.set()
        until(lambda: eyes.settled(0))


@pytest.mark.timeout(30)
def test_a_prober_that_is_gone_ends_the_trial_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is to watch an address over a connection that has ended; it is no matter of a thread of its own."""

    def gone(*_: Any, **__: Any) -> str:
        raise EngineError("agent 10.0.0.1:1", "Broken pipe")

    driver = Driver()
    trial: Any = Trial(driver)
    with Eyes(trial, "web") as eyes:
        monkeypatch.setattr(trial.prober, "watch", gone)
        driver.watches[0].told.put(Change("added", instance("a", 1), 0.0))
        with pytest.raises(EngineError, match="Broken pipe"):
            eyes.pause(5)


def test_a_prober_that_is_gone_says_so_though_it_watches_nothing() -> None:
    prober = BayProber(Driver(), SimpleNamespace(versions=("v1",)))  # type: ignore[arg-type]
    agent = prober._agents["one"] = SimpleNamespace(lost=False)  # type: ignore[assignment]
    assert prober.next(0.01) is None
    agent.lost = True
    with pytest.raises(EngineError, match="the prober: its connection ended"):
        prober.next(0.01)
