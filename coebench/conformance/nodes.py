"""Nodes; last, since these behaviours disturb what runs on them."""

from __future__ import annotations

from collections.abc import Mapping

from ..contract import Capability, CoebenchError, EngineError, Instance, InstanceState
from .bench import Bench
from .registry import Failed, behaviour, expect


@behaviour()
def nodes_are_described(bench: Bench) -> None:
    """Placement and density are counted against what the engine says that its nodes have."""
    nodes = bench.driver.nodes()
    expect(nodes, "nodes() lists none")
    expect(len({n.name for n in nodes}) == len(nodes), f"two nodes have one name: {[n.name for n in nodes]}")
    for n in nodes:
        expect(n.name and n.address and n.engine_state, f"a node lacks its name, address or state: {n}")
        expect(0 < n.cpu < 4096, f"{n.name} has {n.cpu} cores")
        expect(16 << 20 < n.memory < 1 << 50, f"{n.name} has {n.memory} bytes of memory: another unit?")
        expect(n.ready and n.schedulable, f"{n.name} is not ready or not schedulable, in a bay that is ready")


@behaviour(Capability.DRAIN)
def drained_nodes_are_empty(bench: Bench) -> None:
    """Maintenance is a scenario: what was on the node goes elsewhere, nothing new comes, until the node is given back."""
    spec = bench.spec("drain", 4)
    with bench.diary(spec.name) as diary:
        bench.deploy(spec)
        placed = diary.wait_ready(4)
        node = next((i.node for i in placed if i.node != bench.eyes.instance.node), None)
        expect(node, "all instances are on the prober's node: none can be drained without it")
        assert node
        bench.driver.drain(node)
        try:

            def moved(current: Mapping[str, Instance]) -> bool:
                live = [i for i in current.values() if i.live]
                good = [i for i in live if i.state is InstanceState.READY and i.node != node]
                return len(live) == len(good) == 4

            diary.wait(moved, f"4 ready instances, none of them on {node}")
            _state(bench, node, False)
            bench.driver.scale(spec.name, 8)
            there = [i for i in diary.wait_ready(8) if i.node == node]
            expect(not there, f"{node} is drained, and was given {[i.id for i in there]}")
        finally:
            bench.driver.undrain(node)
        _state(bench, node, True)
        bench.driver.scale(spec.name, 0)
        diary.wait_ready(0)
        bench.driver.scale(spec.name, 8)
        back = diary.wait_ready(8)
        expect([i for i in back if i.node == node], f"{node} was given back, and of 8 new instances none is on it")
        expect(not diary.faults(), f"the watch contradicts itself: {diary.faults()[:3]}")
    bench.remove(spec.name)


def _state(bench: Bench, node: str, schedulable: bool) -> None:
    def fact() -> bool:
        return next(n for n in bench.driver.nodes() if n.name == node).schedulable is schedulable

    bench.until(fact, f"nodes() to say that {node} is {'' if schedulable else 'not '}schedulable", timeout=20)


@behaviour(Capability.DRAIN)
def unknown_nodes_are_errors(bench: Bench) -> None:
    """A node may have been taken away; draining nothing must not pass for draining."""
    for what, call in (("drain", bench.driver.drain), ("undrain", bench.driver.undrain)):
        try:
            call("no-such-node")
        except EngineError:
            continue
        except CoebenchError as e:
            raise Failed(f"{what} of an unknown node: EngineError was due, not {type(e).__name__}: {e}") from e
        raise Failed(f"{what} of an unknown node was accepted")


@behaviour()
def removal_leaves_the_bay_as_it_was(bench: Bench) -> None:
    """The next trial begins on this bay: nothing of the one before may be listed, count or run. (The last behaviour: the eyes
    are removed too.)"""
    mine = bench.driver.services()
    for service in mine:
        bench.driver.remove(service)
    for service in mine:
        bench.wait_gone(service)
    expect(bench.driver.services() == (), f"still listed: {bench.driver.services()}")
