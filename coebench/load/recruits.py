"""Generators of a bay's own, beside the prober: deployed by the driver under test, like any service.

Two ways, because bays differ. Called: each generator publishes its port and the harness calls it. Relayed: the nodes can't
call out and only one port leads in; a relay is deployed and published, and the generators register with it from inside.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec.structs import replace

from ..contract import Driver, EngineError, Instance, InstanceState, LoadPlan, PhaseTimeout, ServiceSpec, Workload
from . import secret
from .coordinator import Coordinator

GENERATORS = "coebench-generators"
RELAY = "coebench-relay"
STUCK = 2  # s without any event after which the engine is asked whether it can go on
PATIENCE = 20.0  # s for generators that the engine calls live to answer or to register


class Recruits:
    """`names` are the services that were deployed for them; whoever has them removed has dismissed them."""

    def __init__(
        self, names: tuple[str, ...], count: int, called: dict[str, tuple[str, int]], relay: tuple[str, int] | None, word: str
    ):
        self._secret = word
        self.names = names
        self.count = count
        self._called = called
        self._relay = relay

    def coordinator(self, plan: LoadPlan) -> Coordinator:
        """Of one load on all of them. Raises EngineError if they are not as many as it wants."""
        if plan.generators != self.count:
            raise EngineError("the generators", f"{plan.generators} are asked for, {self.count} were recruited")
        if self._relay:
            return Coordinator(plan, relay=self._relay, expect=self.count, patience=PATIENCE, secret=self._secret)
        return Coordinator(plan, list(self._called.items()), patience=PATIENCE, secret=self._secret)


def recruit(driver: Driver, workload: Workload, count: int, inside: bool, timeout: float, word: str) -> Recruits:
    """Deploy `count` generators that know a secret, behind a relay if `inside`. Raises PhaseTimeout, EngineError."""
    deadline = time.monotonic() + timeout
    spec = secret.told(workload.service(GENERATORS, count, workload.versions[0]), word)
    if not inside:
        live = _live(driver, spec, lambda i: i.published is not None, deadline, timeout)
        return Recruits((GENERATORS,), count, {i.id: i.published for i in live if i.published}, None, word)
    relay = replace(secret.told(workload.service(RELAY, 1, workload.versions[0]), word), command=("/bin/coeload", "relay"))
    at = _live(driver, relay, lambda i: bool(i.published and i.address and i.port), deadline, timeout)[0]
    target = f"[{at.address}]:{at.port}" if ":" in (at.address or "") else f"{at.address}:{at.port}"
    _live(driver, replace(spec, publish=False, env={**spec.env, "COEBENCH_JOIN": target}), lambda i: True, deadline, timeout)
    return Recruits((GENERATORS, RELAY), count, {}, at.published, word)


def _live(
    driver: Driver, spec: ServiceSpec, usable: Callable[[Instance], bool], deadline: float, timeout: float
) -> list[Instance]:
    """Deploy and wait until as many instances as asked for are live and usable. Raises EngineError, with the engine's words, as
    soon as it says that they can't be made."""
    found: dict[str, Instance] = {}
    quiet = 0
    last = "no instance of it was ever listed"
    with driver.watch(spec.name) as watch:
        driver.deploy(spec)
        while len(found) < spec.instances:
            left = deadline - time.monotonic()
            if left <= 0:
                raise PhaseTimeout(f"starting {spec.name}", timeout, f"{len(found)} of {spec.instances}; {last}")
            change = watch.next(min(left, 1.0))
            if change is None:
                quiet += 1
                if quiet >= STUCK and (blocked := driver.progress(spec.name).blocked):
                    raise EngineError(f"starting {spec.name}", blocked)
                continue
            quiet = 0
            i = change.instance
            last = f"{i.id}: {i.engine_state} {i.reason}".strip()
            if change.kind == "removed" or not i.live:
                found.pop(i.id, None)
            elif i.state in (InstanceState.RUNNING, InstanceState.READY) and usable(i):  # else nobody listens there yet
                found[i.id] = i
    return list(found.values())
