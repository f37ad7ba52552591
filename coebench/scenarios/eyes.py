"""Following a service through trouble: what `Following` does, and more, while engines are away and addresses come back.

Beside the observations of `following`, there are:

    engine.silent {service, error}   the engine can't be asked any more
    engine.back   {service}          it can again
    node {host, ready, schedulable, engine_state}   a node as the engine describes it, or "not listed", when that changes
    targets {service, targets}       where the load goes from now on: the instances that the engine calls ready
    load.second {…, mishaps}         a second of the load; each failed and each slow request in it

Nothing that is known of an address is forgotten while the service is followed: one that was down and answers again is seen.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..contract import (
    Answer,
    BadInput,
    Burst,
    Change,
    Deadline,
    EngineError,
    Flow,
    Instance,
    InstanceState,
    LoadPlan,
    LoadResult,
    Node,
    Target,
    Trial,
    now,
)
from .following import Following, until_answering

PROBE_TIMEOUT = 1.0  # seconds: what packets that vanish cost until "down" is known; its time is that of the request's sending
AGAIN = 0.2  # seconds between two tries to ask an engine that is away
NODES = 0.25  # seconds between two looks at the nodes
CONNECTIONS_EACH = 8  # of the load, for each instance, at least
MOST_CONNECTIONS = 3000  # of the load; an nginx of the workload takes 4096
REST = 0.5  # seconds that a state must last to be called settled


class Eyes(Following):
    """A context, as `Following`, with a load that goes to the instances that the engine calls ready, as they change."""

    def __init__(self, trial: Trial, service: str) -> None:
        super().__init__(trial, service)
        self.nodes: dict[str, Node] = {}
        self.away = False  # whether the engine can't be asked at the moment
        self._looked = False  # whether the nodes were looked at since it can
        self.flow: Flow | None = None
        self._pointed: tuple[Target, ...] = ()
        self._watched: dict[str, Target] = {}  # the prober's watch → its target
        self._ready: dict[str, Target] = {}
        self._known: dict[str, Instance] = {}  # all that the stream has told of and not taken back
        self._lock = threading.Lock()
        self._node_thread = threading.Thread(target=self._look_at_nodes, daemon=True)
        self._threads.append(self._node_thread)

    def __enter__(self) -> Eyes:
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(EngineError):
            if self.flow:
                self.flow.stop()
        super().__exit__(*error)

    # the engine's eyes

    def _engine(self) -> None:
        while not self._stop.is_set():
            try:
                change = self._watch.next(0.2)
                self._poll_told()
            except EngineError as e:
                self._reopen(str(e))
                continue
            if change is not None:
                try:
                    self._tell(change)
                except EngineError as e:  # the prober's
                    self._events.put(e)
                    return

    def _tell(self, change: Change) -> None:
        if change.kind == "removed":
            self._known.pop(change.instance.id, None)
        else:
            self._known[change.instance.id] = change.instance
        self._point(change)
        self._events.put(change)

    def _reopen(self, error: str) -> None:
        """The stream has ended: follow anew, as soon as the engine can be asked. The new stream begins with all that there is; of
        what went while the engine was away it says nothing, so that is told here. Nothing is lost but the time until then."""
        self._silent(error)
        while not self._stop.wait(AGAIN):
            try:
                self._watch.close()
                self._watch = self.trial.driver.watch(self.service)
                if self._stop.is_set():  # `__exit__` has closed the old one
                    self._watch.close()
                    return
                listed = {i.id for i in self.trial.driver.instances(self.service)}
            except EngineError:
                continue
            for gone in [i for ident, i in self._known.items() if ident not in listed]:
                self._tell(Change("removed", gone, now()))  # asks the prober for nothing
            self._back()
            return

    def _silent(self, error: str) -> None:
        with self._lock:
            if not self.away and not self._stop.is_set():
                self.away, self._looked = True, False
                self.trial.observe("engine.silent", service=self.service, error=error)

    def _back(self) -> None:
        with self._lock:
            if self.away:
                self.away = False
                self.trial.observe("engine.back", service=self.service)

    def _point(self, change: Change) -> None:
        """Probe a new address; send load to those that are ready."""
        i = change.instance
        if change.kind != "removed" and i.live and i.address and i.port and i.id not in self._probes:
            target = Target(i.address, i.port)
            probe = self.trial.prober.watch(target, self.path, timeout=PROBE_TIMEOUT)
            self._probes[i.id] = probe
            self._watched[probe] = target
        with self._lock:
            if change.kind != "removed" and i.state is InstanceState.READY and i.address and i.port:
                self._ready[i.id] = Target(i.address, i.port)
            else:
                self._ready.pop(i.id, None)
            self._retarget()

    def _retarget(self) -> None:
        targets = tuple(sorted(self._ready.values(), key=lambda t: (t.address, t.port)))
        if self.flow and targets and targets != self._pointed:
            self._pointed = targets
            self.flow.retarget(targets)
            self.trial.observe("targets", service=self.service, targets=[_word(t) for t in targets])

    def _look_at_nodes(self) -> None:
        while not self._stop.wait(NODES):
            try:
                listed = self.trial.driver.nodes()
            except EngineError as e:
                self._silent(str(e))
                continue
            self._back()
            # An engine that has lost its memory lists no node at first: one that is not listed is not ready.
            there = {n.name for n in listed}
            forgotten = [
                msgspec.structs.replace(n, ready=False, schedulable=False, engine_state="not listed")
                for n in self.nodes.values()
                if n.name not in there
            ]
            for node in (*listed, *forgotten):
                if self.nodes.get(node.name) != node:
                    self.nodes[node.name] = node
                    self.trial.observe(
                        "node",
                        host=node.name,
                        ready=node.ready,
                        schedulable=node.schedulable,
                        engine_state=node.engine_state,
                    )
            self._looked = True

    # the prober's

    def _saw(self, answer: Answer) -> None:
        if answer.kind == "failure":
            return  # one for each request to whatever is down; the change has been told
        super()._saw(answer)
        self.trial.observe(
            "target", at=answer.sent if answer.kind == "down" else answer.at, service=self.service,
            target=_word(answer.target), up=answer.kind != "down", instance=answer.instance, version=answer.version,
        )  # fmt: skip

    # the load

    def begin(self, rate: float, instances: int, timeout: float, slow: float, path: str = "/") -> None:
        """Begin to send, to the instances that are ready now and then to those that are at each time."""
        with self._lock:
            self._pointed = tuple(sorted(self._ready.values(), key=lambda t: (t.address, t.port)))
            if not self._pointed:
                raise EngineError("sending load", f"the engine calls no instance of {self.service} ready")
            plan = LoadPlan(
                targets=self._pointed,
                rate=rate,
                connections=connections(rate, instances, timeout),
                duration=0.0,
                warmup=0.0,
                path=path,
                timeout=timeout,
                slow=slow,
            )
            self.flow = self.trial.prober.begin(plan, self._second)
            self.trial.observe("targets", service=self.service, targets=[_word(t) for t in self._pointed])

    def _second(self, burst: Burst) -> None:
        facts = msgspec.to_builtins(burst)
        at = facts.pop("at")
        facts["mishaps"] = [[m.planned, m.sent, m.ended, m.kind, m.target] for m in burst.mishaps]
        self.trial.observe("load.second", at=at, service=self.service, **facts)

    def end(self) -> LoadResult:
        """End the load; it is observed as `load`."""
        assert self.flow
        result = self.flow.stop()
        self.trial.observe("load", service=self.service, **msgspec.to_builtins(result))
        return result

    # facts

    @property
    def answering(self) -> int:
        """How many instances answer."""
        return len(self.answered) - len(self.silent)

    def settled(self, wanted: int) -> bool:
        """Exactly `wanted` instances are listed, ready, and answer; every node is ready and takes instances."""
        live = {i.id for i in self.instances.values() if i.state is not InstanceState.ENDED}
        return (
            not self.away
            and self._looked
            and live == self.ready
            and len(live) == wanted
            and set(self.answered) - self.silent == live
            and all(n.ready and n.schedulable for n in self.nodes.values())
        )

    def until(self, fact: Callable[[], bool], deadline: Deadline, what: str) -> None:
        """Take in what happens until a fact is so. Raises PhaseTimeout."""
        while not fact():
            deadline.waiting_for(f"{what}; {self.missing()}")
            self.step(deadline)

    def watch_for(self, seconds: float, deadline: Deadline) -> None:
        """Take in what happens for a while."""
        end = deadline.left() - seconds
        while (left := deadline.left() - end) > 0:
            self.step(_Least(left, deadline))

    def until_settled(self, wanted: int, deadline: Deadline) -> None:
        """Until `settled` has been so for a moment."""
        while True:
            self.until(lambda: self.settled(wanted), deadline, f"not settled at {wanted} instances yet")
            self.watch_for(REST, deadline)
            if self.settled(wanted):
                return


class _Least:
    """A deadline that ends quietly, inside another."""

    def __init__(self, seconds: float, outer: Deadline) -> None:
        self._seconds = seconds
        self._outer = outer

    def left(self) -> float:
        return min(self._seconds, self._outer.left())

    def waiting_for(self, what: str) -> None:
        self._outer.waiting_for(what)


def connections(rate: float, instances: int, timeout: float) -> int:
    """Connections of the load: enough that requests to a part of the service that swallows them, each of which holds a
    connection until its time is out, leave others to be sent when they are due. Twice what a whole silent service takes, as
    far as few instances of the workload carry that many."""
    return max(CONNECTIONS_EACH * instances, min(MOST_CONNECTIONS, round(2 * rate * timeout)))


def deployed(eyes: Eyes, wanted: int, deadline: Deadline) -> None:
    """Until a new service stands whole, by both pairs of eyes, and the nodes have been looked at."""
    until_answering(eyes, wanted, deadline)
    eyes.until(lambda: bool(eyes.nodes), deadline, "the nodes have not been listed yet")
    eyes.until_settled(wanted, deadline)


def prober_nodes(trial: Trial) -> set[str]:
    """Where the generators are: a fault must not strike them."""
    mine = set(trial.prober.generators())
    listed = [i for s in trial.driver.services() for i in trial.driver.instances(s)]
    return {i.node for i in listed if i.id in mine and i.node}


def check_numbers(scenario: str, settings: Any, limits: Sequence[tuple[str, float, float]]) -> None:
    """Raise BadInput for a setting that is no number between its limits."""
    for name, least, most in limits:
        value = settings[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise BadInput(f"{scenario}: '{name}' is a number from {least:g} to {most:g}, not {value!r}")


def on_node(instances: Sequence[Instance], node: str) -> list[Instance]:
    return [i for i in instances if i.node == node]


def _word(target: Target) -> str:
    return f"{target.address}:{target.port}"
