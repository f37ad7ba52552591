"""How much goes through the ways by which clients reach instances, and how long does it take?"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from ..contract import (
    Better,
    Capability,
    EngineError,
    Instance,
    LoadPlan,
    Metric,
    Observation,
    Ran,
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

Told = TypeVar("Told")
HTTP, BULK, PING = "network-http", "network-bulk", "network-ping"
TOOL_MEMORY = 64 << 20
# The servers that an instance of the tools' image is started as: service → port and command.
TOOLS: Mapping[str, tuple[int, str]] = {
    BULK: (5201, 'exec iperf3 -s -p "$COEBENCH_PORT"'),
    PING: (11111, 'exec sockperf server --tcp -i 0.0.0.0 -p "$COEBENCH_PORT"'),
}
PING_BYTES = 64
# What sockperf says, in microseconds: "percentile 50.000 =    6.873".
PERCENTILE = re.compile(r"percentile (\d+\.\d+) = +(\d+\.\d+)")
DEPLOY = 60.0  # seconds until a deployment, and a removal, is given up
# sockperf leaves out 0.4 s at the beginning and 0.05 s at the end. Version 3.7 with --no-rdtsc multiplies both by the processor's
# GHz (findings/sockperf-no-rdtsc.sh): 1.2 s at 2.6 GHz, so that a test of one second has no valid message. Without the option it
# trusts the frequency in /proc/cpuinfo, which is not the counter's on a machine that saves power.
LEFT_OUT = 2  # seconds, up to 4.4 GHz
PATIENCE = 20.0  # seconds until a tool's server that its engine calls ready must answer
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
            "tcp_round_trip",
            "ms",
            Better.LOWER,
            "round trip of a TCP message",
            "Median time from sending 64 bytes over one TCP connection until they are back, one message at a time, as sockperf's "
            "ping-pong has it; both ends block in the kernel. Of one instance, or through the COE's own address; not through the "
            "proxy, which speaks HTTP.",
        ),
        metric(
            "tcp_round_trip_p99",
            "ms",
            Better.LOWER,
            "round trip of a TCP message, p99",
            "The 99th percentile of the same.",
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
        each = settings["seconds"] + settings["warmup"] + LEFT_OUT + PATIENCE
        return float(8 * DEPLOY + (4 + 5 + 2 * 6) * each)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return float(3 * (settings["seconds"] + settings["warmup"]) + settings["seconds"] + LEFT_OUT)

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        """The service that answers requests, then those of the tools, whose processor time is their image's to say."""
        count = settings["instances"]
        return (
            Room(instances=count, cpu=spec.cpu, memory=spec.memory),
            Room(instances=count, cpu=0.0, memory=TOOL_MEMORY),
        )

    def runs_tools(self, settings: Mapping[str, Any]) -> bool:
        return True

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        limits = (("instances", 1, 250), ("seconds", 1, 600), ("warmup", 0, 60), ("connections", 1, 1000))
        check_numbers(self.name, settings, limits)

    def run(self, trial: Trial) -> None:
        self._http(trial)
        with self._tool(trial, BULK) as found:
            for way, place, (address, port) in _ways(trial, found):
                self._stream(trial, address, port, way=way, place=place)
        with self._tool(trial, PING) as found:
            for way, place, (address, port) in _ways(trial, found):
                self._ping(trial, address, port, way=way, place=place)
            if trial.driver.capabilities()[Capability.NATIVE].ok:  # else it was refused, with the reason, a while ago
                for address, port in trial.driver.reach(PING, Routing.NATIVE).targets[:1]:
                    self._ping(trial, address, port, way=Routing.NATIVE.value, place="any")

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

    @contextlib.contextmanager
    def _tool(self, trial: Trial, service: str) -> Iterator[Sequence[Instance]]:
        """The instances of a service that is a tool's server, ready by the engine's word; gone afterwards, if all went well."""
        count, (port, command) = trial.settings["instances"], TOOLS[service]
        spec = msgspec.structs.replace(
            trial.tools.service(service, count, trial.tools.versions[0]),
            command=("/bin/sh", "-c", command),
            port=port,
            memory=TOOL_MEMORY,
            publish=True,
        )
        what = service.removeprefix("network-")
        with trial.phase(f"deploy {what}", DEPLOY) as deadline:
            trial.driver.deploy(spec)
            while True:
                found = trial.driver.instances(service)
                if sum(i.state.value == "ready" for i in found) >= count:
                    break
                deadline.waiting_for(f"{len(found)} of {count} {what} servers are listed")
                deadline.left()
                time.sleep(0.1)
        yield found
        with trial.phase(f"remove {what}", DEPLOY):
            trial.remove(service)

    def _asked(
        self, trial: Trial, phase: str, argv: Sequence[str], seconds: float, understood: Callable[[Ran], Told | None]
    ) -> Told:
        """What a tool in the prober's place says, once it says something that is understood. Raises EngineError with its words.

        Its server is ready for its engine, and may not listen yet, or still end the last test.
        """
        with trial.phase(phase, PATIENCE + seconds) as deadline:
            while True:
                ran = trial.prober.execute(argv, timeout=seconds + 10.0)
                if (told := understood(ran)) is not None:
                    return told
                if deadline.left() < seconds:
                    raise EngineError(phase, _complaint(ran))
                time.sleep(0.2)

    def _stream(self, trial: Trial, address: str, port: int, **where: Any) -> None:
        s = trial.settings
        seconds, omit = max(1, round(s["seconds"])), max(0, round(s["warmup"]))
        argv = ("iperf3", "-c", address, "-p", str(port), "-t", str(seconds), "-O", str(omit), "-J", "--connect-timeout", "1000")
        phase = f"stream {where['way']} {where['place']}"
        end = self._asked(trial, phase, argv, seconds + omit, streamed)
        trial.observe(
            "network.streamed",
            **where,
            bits=end["sum_received"]["bits_per_second"],
            retransmits=end["sum_sent"].get("retransmits"),
            mean_rtt_us=end["streams"][0]["sender"].get("mean_rtt"),
            cpu=end.get("cpu_utilization_percent"),
        )

    def _ping(self, trial: Trial, address: str, port: int, **where: Any) -> None:
        s = trial.settings
        seconds = max(1, round(s["seconds"])) + LEFT_OUT
        where_to = ("-i", address, "-p", str(port), "-m", str(PING_BYTES))
        argv = ("sockperf", "ping-pong", "--tcp", *where_to, "-t", str(seconds), "--full-rtt", "--no-rdtsc")
        told = self._asked(trial, f"ping {where['way']} {where['place']}", argv, seconds, pinged)
        trial.observe("network.pinged", **where, bytes=PING_BYTES, microseconds=told)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        for o in observations:
            factors = {"way": str(o.data.get("way")), "place": str(o.data.get("place"))}
            if o.name == "network.streamed":
                yield Sample(metric="throughput", value=o.data["bits"] / 1e9, factors=factors)
            elif o.name == "network.pinged":
                for name, percentile in (("tcp_round_trip", "p50"), ("tcp_round_trip_p99", "p99")):
                    if percentile in o.data["microseconds"]:
                        yield Sample(metric=name, value=o.data["microseconds"][percentile] / 1e3, factors=factors)
            elif o.name == "network.asked" and o.data["what"] == "requests":
                yield Sample(metric="requests", value=o.data["achieved_rps"], factors=factors)
            elif o.name == "network.asked":
                for name, percentile in (("round_trip", "p50"), ("round_trip_p99", "p99")):
                    if percentile in o.data["latency_ms"]:
                        yield Sample(metric=name, value=o.data["latency_ms"][percentile], factors=factors)


def streamed(ran: Ran) -> dict[str, Any] | None:
    """The `end` of iperf3's report; None if it says nothing of a test that came to its end."""
    told = json.loads(ran.out) if not ran.code and ran.out.strip().startswith("{") else {}
    end: dict[str, Any] = told.get("end", {})
    return end if "sum_received" in end else None


def pinged(ran: Ran) -> dict[str, float] | None:
    """sockperf's percentiles of the round trip, as p50 → microseconds; None if it measured nothing, or something else."""
    if ran.code or "Summary: Round trip is" not in ran.out:
        return None
    return {f"p{float(percentile):g}": float(value) for percentile, value in PERCENTILE.findall(ran.out)} or None


def _complaint(ran: Ran) -> str:
    """A tool's own words on why it failed: iperf3 has them in its JSON, sockperf at the end of what it printed."""
    with contextlib.suppress(ValueError, AttributeError):
        if said := json.loads(ran.out).get("error"):
            return str(said)
    lines = (ran.err or ran.out).strip().splitlines()
    return lines[-1] if lines else f"it ended with {ran.code} and said nothing"


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
