"""What do a service's users feel when something breaks, and how soon is it whole again?"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from ..contract import (
    BadInput,
    Capability,
    Deadline,
    EngineError,
    Instance,
    LoadPlan,
    LoadResult,
    Metric,
    NodeFault,
    Observation,
    PhaseTimeout,
    Role,
    Room,
    Sample,
    ServiceSpec,
    Target,
    Trial,
    Unsupported,
    now,
)
from . import heal_figures
from .eyes import Eyes, check_numbers, deployed, on_node, prober_nodes

# What can be struck. Of one instance; of one node with all that is on it; of an engine, which leaves the instances alone.
INSTANCE = ("kill", "unhealthy")
NODE = ("crash", "cut", "drain")
ENGINE = ("agent", "control")
FAULTS = ("kill", "unhealthy", "cut", "drain", "agent", "control", "crash")
HOW = {"crash": NodeFault.CRASH, "cut": NodeFault.CUT, "agent": NodeFault.AGENT, "control": NodeFault.CONTROL}

COMMON: Mapping[str, Any] = {"instances": 3, "slow_ms": 100, "request_timeout": 1, "before": 2}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"faults": ["kill", "unhealthy", "cut"], "rate": 100, "window": 45, "hold": 5, "settle": 45, **COMMON},
    "default": {"faults": list(FAULTS), "rate": 200, "window": 60, "hold": 15, "settle": 90, **COMMON},
    "full": {"faults": list(FAULTS), "rate": 200, "window": 150, "hold": 15, "settle": 90, **COMMON},
}
DEPLOY = 60.0  # seconds until a deployment, and a removal, is given up
AGAIN = 0.2  # seconds between two tries to give a node back
LATER = 3.0  # seconds that an engine's own word may come after what is seen
MAKING = 30.0  # seconds that making a fault, and undoing it, may take


def longest(settings: Mapping[str, Any]) -> float:
    """Seconds that one trial takes at most, if every fault is waited for to the end of its window."""
    each = {f: settings["hold"] if f in ENGINE else settings["window"] for f in settings["faults"]}
    around = 2 * DEPLOY + 2 * MAKING + settings["before"] + settings["settle"]
    return float(sum(each.values()) + len(each) * around)


class Heal:
    """For each fault: a new service, load on the instances that the engine calls ready, the fault, what is seen until the
    service is whole again or the window is over; then, if it was a host's, its return, and what is seen until all is as it
    was."""

    name: ClassVar[str] = "heal"
    question: ClassVar[str] = "What do users feel when something breaks, and how soon is the service whole again?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS, Capability.HEALTH})
    spoils: ClassVar[bool] = True  # nodes and engines have died and come back
    metrics: ClassVar[tuple[Metric, ...]] = heal_figures.METRICS
    short: ClassVar[Mapping[str, str]] = heal_figures.SHORT

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def longest(self, settings: Mapping[str, Any]) -> float:
        """Seconds that a trial with these settings takes at most."""
        return longest(settings)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return float(sum(settings["before"] + (settings["hold"] if f in ENGINE else 0) for f in settings["faults"]))

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        return (Room(instances=settings["instances"], cpu=spec.cpu, memory=spec.memory),)

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        faults = settings["faults"]
        if not isinstance(faults, list) or not faults or not all(f in FAULTS for f in faults) or len(set(faults)) < len(faults):
            raise BadInput(f"heal: 'faults' is a list of some of {', '.join(FAULTS)}, each once, not {faults!r}")
        limits = (("instances", 1, 1000), ("rate", 1, 100_000), ("window", 1, 3600), ("hold", 1, 3600), ("settle", 1, 3600))
        check_numbers("heal", settings, (*limits, ("slow_ms", 1, 60_000), ("request_timeout", 0.05, 60), ("before", 0, 600)))
        if bay_nodes < 2 and any(f in (*NODE, "agent") for f in faults):
            raise BadInput("heal: faults of nodes need two nodes at least: the prober's own is spared; use --nodes 2 or more")

    def run(self, trial: Trial) -> None:
        failed: dict[str, EngineError] = {}
        for fault in trial.settings["faults"]:
            try:
                self._fault(trial, fault)
            except Unsupported as e:
                trial.observe("fault.refused", fault=fault, reason=str(e))
                trial.observe("warning", text=f"heal, fault {fault}: {e}")
            except EngineError as e:  # one fault's trouble is not the next one's, if the service can be made anew
                trial.observe("fault.failed", fault=fault, service=_service(fault), reason=str(e))
                failed[fault] = e
            else:
                continue
            try:
                with trial.phase(f"remove {fault}", DEPLOY):
                    trial.remove(_service(fault))
            except EngineError as e:  # the engine is still away: there is nothing to do to a service that can't be made
                failed.setdefault(fault, e)
                break
        if failed:
            told = "; ".join(f"{fault}: {e}" for fault, e in failed.items())
            raise EngineError(f"{len(failed)} of {len(trial.settings['faults'])} faults", told)

    def _fault(self, trial: Trial, fault: str) -> None:
        s = trial.settings
        service, wanted = _service(fault), s["instances"]
        with Eyes(trial, service) as eyes:
            with trial.phase(f"deploy {fault}", DEPLOY) as deadline:
                trial.driver.deploy(_spec(trial, service, wanted))
                deployed(eyes, wanted, deadline)
            eyes.begin(float(s["rate"]), wanted, float(s["request_timeout"]), s["slow_ms"] / 1000)
            with trial.phase(f"before {fault}", s["before"] + 10) as deadline:
                eyes.watch_for(s["before"], deadline)
            self._strike(trial, eyes, fault, wanted)
            self._settle(trial, eyes, fault, wanted)
            result = eyes.end()
            if result.saturated:
                names = ["failed", "failed_at_return", "slow", "last_error", "good_rate", "latency_p99", "latency_ratio"]
                trial.observe("load.saturated", reason=result.saturated, factors={"fault": fault}, metrics=names)
        with trial.phase(f"remove {fault}", DEPLOY):
            trial.remove(service)

    def _settle(self, trial: Trial, eyes: Eyes, fault: str, wanted: int) -> None:
        """Until all is as it was. If that is not reached it is a finding, not the trial's end: it is censored, and said."""
        limit = float(trial.settings["settle"])
        try:
            with trial.phase(f"settle {fault}", limit) as deadline:
                eyes.until_settled(wanted, deadline)
        except PhaseTimeout as e:
            trial.observe("fault.unsettled", fault=fault, service=eyes.service, seconds=limit)
            trial.observe("warning", text=f"heal: {e}")
        else:
            trial.observe("fault.settled", fault=fault, service=eyes.service)

    def _strike(self, trial: Trial, eyes: Eyes, fault: str, wanted: int) -> None:
        """Make the fault, wait for the service to be whole, undo it."""
        s = trial.settings
        struck, host = _victims(trial, eyes, fault)
        about: dict[str, Any] = {"fault": fault, "service": eyes.service, "instances": wanted, "host": host}
        ids = {i.id for i in struck}
        limit = float(s["hold"] if fault in ENGINE else s["window"])
        with trial.phase(f"fault {fault}", limit + MAKING) as deadline:
            trial.observe("fault.making", **about)
            begun = now()
            try:
                at, how = self._make(trial, fault, struck, host)
                targets = [f"{i.address}:{i.port}" for i in struck]
                trial.observe("fault.made", at=at, **about, how=how, struck=sorted(ids), targets=targets, took=now() - begun)
                whole = _Whole(eyes, ids, wanted, fault in ENGINE)
                while now() - begun < limit and not whole.reached():
                    deadline.waiting_for("the end of the window")
                    eyes.step(deadline)
                trial.observe("fault.window", **about, seconds=now() - at, over=not whole.reached())
            finally:
                if fault in HOW or fault == "drain":
                    trial.observe("fault.healing", **about)
                    if fault == "drain":
                        _undrain(trial, host, deadline)
                    else:
                        trial.heal(host)
                    trial.observe("fault.healed", **about)

    def _make(self, trial: Trial, fault: str, struck: Sequence[Instance], host: str) -> tuple[float, str]:
        """Returns when it was so, as well as is known, and how it was made."""
        at = now()
        if fault == "kill":
            return trial.end(struck[0])
        if fault == "unhealthy":
            i = struck[0]
            assert i.address and i.port
            result = _once(trial, "DELETE", "/healthz", Target(i.address, i.port))
            if not result.ok:
                raise EngineError(f"turning {i.id} unhealthy", f"DELETE /healthz was not done: {result.errors}")
            return at, "DELETE of its health path"
        if fault == "drain":
            trial.driver.drain(host)
            return at, trial.driver.capabilities()[Capability.DRAIN].reason or "drained by the engine"
        trial.fail(host, HOW[fault])
        return at, str(HOW[fault].value)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        return heal_figures.derive(observations)


class _Whole:
    """When a service is whole again: N instances answer and the engine calls N ready, those that were struck not counted
    until each pair of eyes has seen them fall. Never, where only the engine was struck: that lasts as long as it was to.

    An engine may put an instance right so quickly that it never calls it anything but ready: its word is waited for `LATER`
    seconds beyond what is seen, no longer.
    """

    def __init__(self, eyes: Eyes, struck: set[str], wanted: int, never: bool) -> None:
        self._eyes = eyes
        self._seen, self._told = set(struck), set(struck)
        self._wanted = wanted
        self._never = never
        self._since = 0.0

    def reached(self) -> bool:
        e = self._eyes
        self._seen -= e.silent
        self._told -= {i for i in self._told if i not in e.ready}
        answering = set(e.answered) - e.silent - self._seen
        if len(answering) < self._wanted:
            self._since = 0.0
            return False
        self._since = self._since or now()
        if now() - self._since > LATER:
            self._told.clear()
        return not self._never and len(e.ready - self._told) >= self._wanted


def _victims(trial: Trial, eyes: Eyes, fault: str) -> tuple[list[Instance], str]:
    """The instances that are struck and the host, never one of the prober's. Of several, the first by name: with the same
    spread, the same ones each time."""
    if fault == "control":
        control = next((h.name for h in trial.bay.hosts if h.role is Role.CONTROL), "")
        if not control:
            raise Unsupported("losing the control plane", "this bay has no host of its own for it")
        return [], control
    spared = prober_nodes(trial)
    there = sorted((i for i in eyes.instances.values() if i.id in eyes.ready and i.node), key=lambda i: (str(i.node), i.id))
    nodes = [i.node for i in there if i.node and i.node not in spared]
    if fault in INSTANCE:
        first = next((i for i in there if i.node in nodes), there[0])
        return [first], first.node or ""
    if not nodes:
        raise EngineError(f"fault {fault}", "all instances are on the prober's own node, which is spared")
    mine = on_node(there, nodes[0])
    return (mine if fault in NODE else []), nodes[0]


def _undrain(trial: Trial, host: str, deadline: Deadline) -> None:
    """Give a node back. An engine may refuse that until the last instance is gone from it (Mesos: DRAINING)."""
    while True:
        try:
            trial.driver.undrain(host)
            return
        except EngineError as e:
            deadline.waiting_for(str(e))
            if deadline.left() < AGAIN:
                raise
            time.sleep(AGAIN)


def _spec(trial: Trial, service: str, wanted: int) -> ServiceSpec:
    return trial.workload.service(service, wanted, trial.workload.versions[0])


def _once(trial: Trial, method: str, path: str, target: Target) -> LoadResult:
    """One request: an open load of one arrival, which waits for its connection however long that takes to open."""
    plan = LoadPlan(
        targets=(target,),
        path=path,
        method=method,
        rate=20.0,
        arrivals="constant",
        connections=1,
        duration=0.05,
        warmup=0.0,
        timeout=2.0,
    )
    told = threading.Event()
    flow = trial.prober.begin(plan, lambda _: told.set())
    told.wait(plan.timeout)  # its first second, all that there is of it
    return flow.stop()


def _service(fault: str) -> str:
    return f"heal-{fault}"
