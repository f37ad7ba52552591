"""How much goes through the ways by which clients reach instances, and how long does it take?"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..contract import (
    Better,
    Capability,
    EngineError,
    Instance,
    LoadPlan,
    Metric,
    Observation,
    Room,
    Routing,
    Sample,
    ServiceSpec,
    Target,
    Trial,
)
from . import reaching
from .eyes import check_numbers, prober_nodes
from .following import Following, until_answering
from .stretch import metric

HTTP, BULK = "network-http", "network-bulk"
BULK_PORT = 5201
BULK_MEMORY = 64 << 20
DEPLOY = 60.0  # seconds until a deployment, and a removal, is given up
PATIENCE = 20.0  # seconds until an iperf3 server that its engine calls ready must answer
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"instances": 3, "seconds": 1, "warmup": 0.5, "connections": 16},
    "default": {"instances": 3, "seconds": 3, "warmup": 1, "connections": 16},
    "full": {"instances": 3, "seconds": 5, "warmup": 1, "connections": 16},
}


class Network:
    """The prober is the client. It asks an instance on its own node and one on another, each at the address that the engine
    gave it and at the port of its host, then the service's native address and the proxy, if there are such."""

    name: ClassVar[str] = "network"
    question: ClassVar[str] = "How much goes through each way to an instance, and how long does it take?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    metrics: ClassVar[tuple[Metric, ...]] = (
        metric(
            "throughput",
            "Gbit/s",
            Better.HIGHER,
            "one TCP stream",
            "What iperf3 received of one TCP stream from the prober's place to an instance, warm-up left out. Not over a virtual "
            "address or the proxy: iperf3's two connections could meet different instances.",
        ),
        metric(
            "round_trip",
            "ms",
            Better.LOWER,
            "round trip of a request",
            "Median time from sending a request for one line of text over a kept connection until its answer is there, one "
            "request at a time.",
        ),
        metric(
            "round_trip_p99",
            "ms",
            Better.LOWER,
            "round trip, p99",
            "The 99th percentile of the same.",
        ),
        metric(
            "requests",
            "1/s",
            Better.HIGHER,
            "requests a second",
            "Good answers a second in a closed loop over several kept connections. Of one instance for a way that leads to one, "
            "of all for one that leads to all.",
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def longest(self, settings: Mapping[str, Any]) -> float:
        """Seconds that a trial with these settings takes at most."""
        each = settings["seconds"] + settings["warmup"] + PATIENCE
        return float(6 * DEPLOY + (4 + 2 * 6) * each)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return float(3 * (settings["seconds"] + settings["warmup"]))

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        """The service that answers requests, then that of iperf3, whose processor time is its image's to say."""
        count = settings["instances"]
        return (
            Room(instances=count, cpu=spec.cpu, memory=spec.memory),
            Room(instances=count, cpu=0.0, memory=BULK_MEMORY),
        )

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        limits = (("instances", 1, 250), ("seconds", 1, 600), ("warmup", 0, 60), ("connections", 1, 1000))
        check_numbers(self.name, settings, limits)

    def run(self, trial: Trial) -> None:
        self._http(trial)
        self._bulk(trial)

    def _http(self, trial: Trial) -> None:
        count = trial.settings["instances"]
        spec = msgspec.structs.replace(trial.workload.service(HTTP, count, trial.workload.versions[0]), health=None, publish=True)
        with trial.phase("deploy http", DEPLOY) as deadline, Following(trial, HTTP) as following:
            trial.driver.deploy(spec)
            until_answering(following, count, deadline)
        for way, place, target in _ways(trial, trial.driver.instances(HTTP)):
            self._ask(trial, (Target(*target),), way=way, place=place)
        for routing in (Routing.NATIVE, Routing.PROXY):
            reach = reaching.reach(trial, HTTP, routing, alone=False)
            if reach is not None:
                self._ask(trial, tuple(Target(*t) for t in reach.targets), way=routing.value, place="any")
                reaching.leave(trial, HTTP, routing)
        with trial.phase("remove http", DEPLOY):
            trial.remove(HTTP)

    def _ask(self, trial: Trial, targets: tuple[Target, ...], **where: Any) -> None:
        s = trial.settings
        plan = LoadPlan(targets=targets, path="/id", duration=float(s["seconds"]), warmup=float(s["warmup"]))
        for what, connections in (("round trip", len(targets)), ("requests", max(s["connections"], len(targets)))):
            with trial.phase(f"{what} {where['way']} {where['place']}", s["seconds"] + s["warmup"] + PATIENCE):
                result = trial.prober.load(msgspec.structs.replace(plan, connections=connections))
            trial.observe("network.asked", what=what, **where, **msgspec.to_builtins(result))
            if result.saturated and what == "requests":
                trial.observe("load.saturated", reason=result.saturated, factors=where, metrics=["requests"])

    def _bulk(self, trial: Trial) -> None:
        count = trial.settings["instances"]
        spec = msgspec.structs.replace(
            trial.tools.service(BULK, count, trial.tools.versions[0]),
            command=("/bin/sh", "-c", 'exec iperf3 -s -p "$COEBENCH_PORT"'),
            port=BULK_PORT,
            health=None,
            memory=BULK_MEMORY,
            publish=True,
        )
        with trial.phase("deploy bulk", DEPLOY) as deadline:
            trial.driver.deploy(spec)
            while True:
                found = trial.driver.instances(BULK)
                if sum(i.state.value == "ready" for i in found) >= count:
                    break
                deadline.waiting_for(f"{len(found)} of {count} iperf3 servers are listed")
                deadline.left()
                time.sleep(0.1)
        for way, place, (address, port) in _ways(trial, found):
            self._stream(trial, address, port, way=way, place=place)
        with trial.phase("remove bulk", DEPLOY):
            trial.remove(BULK)

    def _stream(self, trial: Trial, address: str, port: int, **where: Any) -> None:
        s = trial.settings
        seconds, omit = max(1, round(s["seconds"])), max(0, round(s["warmup"]))
        argv = ("iperf3", "-c", address, "-p", str(port), "-t", str(seconds), "-O", str(omit), "-J", "--connect-timeout", "1000")
        with trial.phase(f"stream {where['way']} {where['place']}", PATIENCE + seconds + omit) as deadline:
            while True:
                ran = trial.prober.execute(argv, timeout=seconds + omit + 10.0)
                told = json.loads(ran.out) if ran.out.strip().startswith("{") else {}
                if not ran.code and "end" in told and "sum_received" in told["end"]:
                    break
                said = told.get("error") or ran.err or ran.out
                if deadline.left() < seconds + omit:
                    raise EngineError(f"iperf3 to {address}:{port}", str(said))
                time.sleep(0.2)  # it is ready for its engine, and does not listen yet, or still ends the last test
        end = told["end"]
        sent = end["streams"][0]["sender"]
        trial.observe(
            "network.streamed",
            **where,
            bits=end["sum_received"]["bits_per_second"],
            retransmits=end["sum_sent"].get("retransmits"),
            mean_rtt_us=sent.get("mean_rtt"),
            cpu=end.get("cpu_utilization_percent"),
        )

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        for o in observations:
            factors = {"way": str(o.data.get("way")), "place": str(o.data.get("place"))}
            if o.name == "network.streamed":
                yield Sample(metric="throughput", value=o.data["bits"] / 1e9, factors=factors)
            elif o.name == "network.asked" and o.data["what"] == "requests":
                yield Sample(metric="requests", value=o.data["achieved_rps"], factors=factors)
            elif o.name == "network.asked":
                for name, percentile in (("round_trip", "p50"), ("round_trip_p99", "p99")):
                    if percentile in o.data["latency_ms"]:
                        yield Sample(metric=name, value=o.data["latency_ms"][percentile], factors=factors)


def _ways(trial: Trial, instances: Sequence[Instance]) -> Iterator[tuple[str, str, tuple[str, int]]]:
    """Way, place and address: of an instance on the prober's node and of one elsewhere, its own and its host's. What can't be
    is told: no instance there, or no address of its own."""
    home = prober_nodes(trial)
    ready = [i for i in instances if i.state.value == "ready" and i.address and i.port]
    there = sorted(ready, key=lambda i: (str(i.node), i.id))
    sides = {"same node": [i for i in there if i.node in home], "cross node": [i for i in there if i.node not in home]}
    for place, mine in sides.items():
        if not mine:
            trial.observe(
                "warning", text=f"network: no instance is where '{place}' could be measured from the prober's: left out"
            )
            continue
        one = mine[0]
        assert one.address and one.port
        yield "endpoints", place, (one.address, one.port)
        if one.published and one.published != (one.address, one.port):
            yield "host port", place, one.published
