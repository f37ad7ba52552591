"""How soon is a burst of instances placed, running and serving; how evenly; and what changes when a node was away?"""

from __future__ import annotations

import contextlib
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..contract import BadInput, Better, Capability, EngineError, Metric, Observation, Room, Sample, ServiceSpec, Trial
from . import checks, facts
from .crowd import Crowd, Followed, gone, said, saying

SHARES = (10, 50, 90, 100)
AGAIN = 0.2  # seconds until a node that was not taken back is given back again
GONE = ("stopping", "lost")  # listed, and counted on no more
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"instances": [6], "node_returns": True, "settle": 2, "timeout": 60},
    "default": {"instances": [20], "node_returns": True, "settle": 5, "timeout": 120},
    "full": {"instances": [50], "node_returns": True, "settle": 5, "timeout": 300},
}


def _curve(name: str, title: str, definition: str, claim_of: str = "") -> Metric:
    return Metric(name=name, unit="s", better=Better.LOWER, title=title, definition=definition, claim_of=claim_of)


class Placement:
    """A service of N instances is asked for at once. When all serve, a node is drained and given back; then the service is
    scaled up by half."""

    name: ClassVar[str] = "placement"
    question: ClassVar[str] = "How soon is a burst of instances placed, running and serving, and how evenly is it spread?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    metrics: ClassVar[tuple[Metric, ...]] = (
        _curve("accepted", "request accepted", "From sending the request until the engine's API has answered it."),
        _curve(
            "serving",
            "so many serve",
            "From sending the request until the prober has had a good answer of that share of the N instances.",
        ),
        _curve(
            "scheduled",
            "engine says: have a node",
            "From sending the request until the engine's own stream had named a node for that share of the N instances.",
            "serving",
        ),
        _curve(
            "running",
            "engine says: run",
            "From sending the request until the engine's own stream had called that share of the N instances running or ready.",
            "serving",
        ),
        Metric(
            name="rate",
            unit="1/s",
            better=Better.HIGHER,
            title="instances a second",
            definition="N divided by the time from sending the request until all N instances answer.",
        ),
        Metric(
            name="overshoot",
            unit="1",
            better=Better.LOWER,
            title="overshoot",
            definition="The most instances beyond N that the engine's stream counted on at one time (none that is stopping, "
            "ended or lost).",
        ),
        Metric(
            name="lost",
            unit="1",
            better=Better.LOWER,
            title="lost",
            definition="Instances of the burst that ended, vanished or fell silent before anything else was asked of the "
            "service.",
        ),
        Metric(
            name="imbalance",
            unit="1",
            better=Better.LOWER,
            title="imbalance",
            definition="Instances on the node that has most, divided by what each node would have if all had the same; 1 is "
            "even. placed: after the burst; node back: after one node was drained and given back; grown: after the service "
            "was then scaled up by half.",
        ),
        _curve(
            "moved",
            "drained: all serve elsewhere",
            "From asking for the drain of the node that has most instances until N instances on other nodes answer, and none of "
            "that node's does.",
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        checks.numbers(self.name, settings, "instances", 1, 10_000)
        checks.number(self.name, settings, "settle", 0, 3600)
        checks.number(self.name, settings, "timeout", 1, 86400)
        if not isinstance(settings["node_returns"], bool):
            raise BadInput(f"placement: 'node_returns' is true or false, not {settings['node_returns']!r}")
        if settings["node_returns"] and bay_nodes < 2:
            raise BadInput("placement: a bay of one node has none to drain: more --nodes, or --set placement.node_returns=false")

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        most = max(settings["instances"])
        return (Room(instances=_grown(most) if settings["node_returns"] else most, cpu=spec.cpu, memory=spec.memory),)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return float(len(settings["instances"]) * settings["settle"] * (1 + settings["node_returns"]))

    def run(self, trial: Trial) -> None:
        rng = random.Random(trial.seed)
        for count in trial.settings["instances"]:
            self._burst(trial, rng, count)

    def _burst(self, trial: Trial, rng: random.Random, count: int) -> None:
        s, driver = trial.settings, trial.driver
        name = f"placement-{count}"
        spec = msgspec.structs.replace(trial.workload.service(name, count, trial.workload.versions[0]), health=None)
        with Crowd(trial) as crowd:
            crowd.follow(name)
            f = crowd.services[name]
            with trial.phase(f"burst {count}", s["timeout"]) as deadline:
                trial.observe("burst", service=name, instances=count)
                driver.deploy(spec)
                trial.observe("burst.accepted", service=name)
                crowd.until(lambda: len(f.speaking) >= count and len(f.ready) >= count, deadline, saying(f), [name])
            crowd.rest(s["settle"])  # an instance too many, or one that does not stay, shows itself in this time
            self._spread(trial, name, "placed")
            if s["node_returns"] and (node := self._busiest(trial, f)):
                self._away(trial, crowd, f, node, count)
            crowd.rest(rng.random())
            with trial.phase(f"remove {count}", s["timeout"]) as deadline:
                trial.observe("removing", service=name)
                driver.remove(name)
                crowd.until(gone(f), deadline, saying(f))

    def _away(self, trial: Trial, crowd: Crowd, f: Followed, node: str, count: int) -> None:
        """A node is drained, given back, and then the service grows."""
        s, driver = trial.settings, trial.driver
        with trial.phase(f"drain {count}", s["timeout"]) as deadline:
            trial.observe("draining", service=f.name, node=node)
            driver.drain(node)

            def moved() -> bool:
                elsewhere = {k for k, i in f.instances.items() if i.node != node}
                return len(f.ready & elsewhere) >= count <= len(f.speaking) and f.speaking.keys() <= elsewhere

            try:
                crowd.until(moved, deadline, lambda: f"{node} is drained; {said(f)}")
            except BaseException:
                with contextlib.suppress(EngineError):  # what happened is the news
                    driver.undrain(node)
                raise
            while not _given_back(trial, node):
                deadline.waiting_for(f"{node} is drained, and the engine does not take it back yet")
                crowd.rest(min(AGAIN, deadline.left()))
            crowd.until(lambda: _usable(trial, node), deadline, lambda: f"{node} is given back, and can't be used yet")
        crowd.rest(s["settle"])  # time for an engine that evens out by itself
        self._spread(trial, f.name, "node back")
        grown = _grown(count)
        with trial.phase(f"grow {count}", s["timeout"]) as deadline:
            driver.scale(f.name, grown)
            crowd.until(lambda: len(f.ready) >= grown and len(f.speaking) >= grown, deadline, saying(f), [f.name])
        self._spread(trial, f.name, "grown")

    def _busiest(self, trial: Trial, f: Followed) -> str:
        """The node with most instances that the prober is not on; empty where no node can be drained."""
        support = trial.driver.capabilities()[Capability.DRAIN]
        if not support.ok:
            trial.observe("warning", text=f"placement: no node is drained and given back: {support.reason}")
            return ""
        eyes = set(trial.prober.generators())
        taken = {i.node for n in trial.driver.services() for i in trial.driver.instances(n) if i.id in eyes}
        counts = Counter(i.node for i in f.listed.values() if i.node and i.node not in taken)
        if not counts:
            trial.observe("warning", text="placement: no node is drained and given back: the prober is on the only one in use")
            return ""
        return min(counts, key=lambda n: (-counts[n], n))

    def _spread(self, trial: Trial, service: str, when: str) -> None:
        nodes = sorted(n.name for n in trial.driver.nodes() if n.ready and n.schedulable)
        on = Counter(i.node for i in trial.driver.instances(service) if i.live)
        trial.observe("spread", service=service, when=when, nodes={n: on.get(n, 0) for n in nodes})

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        limits = facts.limits(observations)
        for story in facts.by_service(observations).values():
            asked = next((o for o in story if o.name == "burst"), None)
            if asked:
                yield from _story(story, asked, limits)


def _story(story: Sequence[Observation], asked: Observation, limits: Mapping[str, float]) -> Iterable[Sample]:
    count = asked.data["instances"]
    factors = {"instances": count}
    for o in story:
        if o.name == "burst.accepted":
            yield Sample(metric="accepted", value=o.at - asked.at, factors=factors)
    end = next((o.at for o in story if o.name in ("draining", "removing")), math.inf)
    burst = [o for o in story if o.at < end]
    curves: dict[str, dict[str, float]] = {"scheduled": {}, "running": {}, "serving": {}}
    for o in burst:
        if o.name == "instance":
            if o.data.get("node"):
                curves["scheduled"].setdefault(o.data["id"], o.at)
            if o.data["state"] in ("running", "ready"):
                curves["running"].setdefault(o.data["id"], o.at)
        elif o.name == "answer" and o.data["kind"] in ("up", "changed"):
            curves["serving"].setdefault(o.data["instance"], o.at)
    limit = limits.get(f"burst {count}")
    for name, reached in curves.items():
        times = sorted(reached.values())
        for share in SHARES:
            needed = math.ceil(count * share / 100)
            cell = {**factors, "share": f"{share} %"}
            if len(times) >= needed:
                yield Sample(metric=name, value=times[needed - 1] - asked.at, factors=cell)
            elif limit is not None:
                yield Sample(metric=name, value=limit, censored=True, factors=cell)
    serving = sorted(curves["serving"].values())
    if len(serving) >= count:
        yield Sample(metric="rate", value=count / (serving[count - 1] - asked.at), factors=factors)
        most, lost = 0, set()
        for o, state in facts.replay(burst):
            most = max(most, sum(s not in GONE for s in state.listed.values()))
            ended = o.name == "gone" or (o.name == "instance" and o.data["state"] in ("ended", *GONE))
            if ended:
                lost.add(o.data["id"])
            elif o.name == "answer" and o.data["kind"] == "down":
                lost.add(o.data["instance"])
        yield Sample(metric="overshoot", value=max(0, most - count), factors=factors)
        yield Sample(metric="lost", value=len(lost), factors=factors)
    for o in story:
        if o.name == "spread" and (on := o.data["nodes"]) and sum(on.values()):
            value = max(on.values()) * len(on) / sum(on.values())
            yield Sample(metric="imbalance", value=value, factors={**factors, "when": o.data["when"]})
    drained = next((o for o in story if o.name == "draining"), None)
    if drained:
        node = drained.data["node"]

        def elsewhere(s: facts.State) -> bool:
            return len(s.speaking) >= count and all(s.nodes.get(i) != node for i in s.speaking)

        at = facts.first(story, drained.at, math.inf, elsewhere)
        limit = limits.get(f"drain {count}")
        if at is not None:
            yield Sample(metric="moved", value=at - drained.at, factors=factors)
        elif limit is not None:
            yield Sample(metric="moved", value=limit, censored=True, factors=factors)


def _grown(count: int) -> int:
    return count + max(1, count // 2)


def _usable(trial: Trial, node: str) -> bool:
    return any(n.name == node and n.ready and n.schedulable for n in trial.driver.nodes())


def _given_back(trial: Trial, node: str) -> bool:
    """Give a drained node back; False where the engine refuses that until the last instance has left it (Mesos does)."""
    try:
        trial.driver.undrain(node)
    except EngineError:
        return False
    return True
