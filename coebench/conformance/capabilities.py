"""What a driver says of itself and of its engine."""

from __future__ import annotations

from collections.abc import Callable

from ..contract import VERSION, Capability, CoebenchError, Driver, Routing, Unsupported
from .bench import Bench
from .registry import Failed, behaviour, expect
from .stories import steady


@behaviour()
def names_itself(bench: Bench) -> None:
    """The command line and the tables need a name and a title, and a core must know which contract it talks to."""
    driver: Driver = bench.driver
    expect(isinstance(driver.coe, str) and driver.coe, "coe, the name on the command line, is empty")
    expect(isinstance(driver.title, str) and driver.title, "title, the name in a table, is empty")
    expect(driver.contract == VERSION, f"contract is {driver.contract!r}; this suite tests contract {VERSION}")


@behaviour()
def every_capability_is_answered(bench: Bench) -> None:
    """A scenario asks before it begins; what is missing goes into the table with its reason, never silently."""
    said = bench.driver.capabilities()
    for capability in Capability:
        expect(capability in said, f"capabilities() says nothing of {capability.value}")
        support = said[capability]
        expect(support.ok or support.reason.strip(), f"{capability.value} is missing, and no reason is given")


@behaviour()
def what_is_not_claimed_is_refused(bench: Bench) -> None:
    """A driver that lacks something and does it anyhow, or fails in another way, makes a table that contradicts itself."""
    service = bench.story(steady).spec.name
    instance = bench.story(steady).instances[0]
    calls: dict[Capability, Callable[[], object]] = {
        Capability.ENDPOINTS: lambda: bench.driver.reach(service, Routing.ENDPOINTS),
        Capability.NATIVE: lambda: bench.driver.reach(service, Routing.NATIVE),
        Capability.PROXY: lambda: bench.driver.reach(service, Routing.PROXY),
        Capability.KILL: lambda: bench.driver.kill(instance),
        Capability.LOGS: lambda: bench.driver.logs(instance),
    }
    for capability, call in calls.items():
        if bench.support(capability).ok:
            continue
        try:
            call()
        except Unsupported as e:
            expect(e.reason.strip(), f"{capability.value}: Unsupported without a reason")
            continue
        except CoebenchError as e:
            raise Failed(f"{capability.value} is not claimed: Unsupported was due, not {type(e).__name__}: {e}") from e
        raise Failed(f"{capability.value} is not claimed, and was done all the same")


@behaviour()
def watch_fallback_agrees_with_the_claim(bench: Bench) -> None:
    """Polling is allowed, but a figure that was polled must say so; a claim to be told by the engine must be true."""
    with bench.driver.watch(bench.name("none")) as watch:
        pushed = bench.support(Capability.WATCH).ok
        expect(pushed or watch.fallback, "WATCH is not claimed, but the watch does not say how it finds changes")
        expect(not (pushed and watch.fallback), f"WATCH is claimed, but the watch says: {watch.fallback}")


@behaviour()
def info_is_filled(bench: Bench) -> None:
    """A result without the engine's version can't be compared with another."""
    info = bench.driver.info()
    expect(info.engine, "info().engine is empty")
    expect(info.version[:1].isdigit(), f"info().version is {info.version!r}, not a version")
    expect(info.network, "info().network does not say how instances reach each other")
    expect(all(v for v in info.components.values()), f"a component has no version: {dict(info.components)}")
