"""What `heal` says in figures: their definitions, and how they are made of its observations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ..contract import Better, Observation, Sample
from . import facts
from .stretch import answering, area, highest, lowest, metric, requests, served

STILL = 1.0  # seconds: failing so shortly before the end of what was watched, it has not stopped


METRICS = (
    metric(
        "failed", "1", Better.LOWER, "failed requests",
        "Requests that were planned after the fault, and before all was as it had been, and got no good answer: errors, those "
        "never sent, those never answered. Open loop at a fixed rate; each goes to one of the instances that the engine calls "
        "ready, as its own stream tells of them.",
    ),
    metric(
        "slow", "1", Better.LOWER, "slow requests",
        "Requests of the same time whose good answer came later than `slow_ms` after they were planned.",
    ),
    metric(
        "good_rate", "%", Better.HIGHER, "good answers meanwhile",
        "Good answers while the service was not whole (from the fault until `full_capacity`, else until the host's return or "
        "the end of the window), in per cent of the requests that were planned meanwhile. All seconds of the load that this "
        "time touches.",
    ),
    metric(
        "latency_p99", "ms", Better.LOWER, "p99 meanwhile",
        "The 99th percentile of the good answers of the same seconds, from their merged histograms. It takes 100 answers; "
        "requests that failed are not in it.",
    ),
    metric(
        "latency_ratio", "1", Better.LOWER, "p99 meanwhile, against before",
        "The same, divided by the 99th percentile of the seconds before the fault.",
    ),
    metric(
        "first_error", "s", Better.NEITHER, "first failed request",
        "From the fault until the first failed request was planned. No value where none failed.",
    ),
    metric(
        "last_error", "s", Better.LOWER, "last failed request",
        "From the fault until the last failed request was planned, of those before the host's return; 0 where none failed. "
        "Censored if requests still failed when waiting was given up.",
    ),
    metric(
        "noticed", "s", Better.LOWER, "engine says: something is wrong",
        "From the fault until the engine's own word first differs: a struck instance that it no longer calls ready, or the host "
        "not ready. Nodes are looked at four times a second.",
    ),
    metric(
        "full_capacity", "s", Better.LOWER, "whole again",
        "From the fault until as many instances answer as were asked for; struck ones count once they have been silent.",
    ),
    metric(
        "full_ready", "s", Better.LOWER, "engine says: whole again",
        "From the fault until the engine calls as many instances ready as were asked for; struck ones count once it has called "
        "them something else.",
        claim_of="full_capacity",
    ),
    metric(
        "lost_capacity", "s", Better.LOWER, "capacity lost",
        "Instances that should have answered and did not, times how long: instance-seconds, from the fault until all was as it "
        "had been.",
    ),
    metric(
        "lowest", "1", Better.HIGHER, "fewest answering at once",
        "The least number of instances that answered at one moment, from the fault until all was as it had been.",
    ),
    metric(
        "failed_at_return", "1", Better.LOWER, "failed requests at the return",
        "Failed requests that were planned after the host, or the engine's process, had begun to return.",
    ),
    metric(
        "settled", "s", Better.LOWER, "settled after the return",
        "From the return of the host, or of the engine's process, until exactly as many instances as were asked for are listed, "
        "called ready, and answer, all nodes are ready, and that has been so for half a second.",
    ),
    metric(
        "duplicates", "1", Better.LOWER, "too many at once",
        "The greatest number of instances that answered beyond what was asked for, at one moment, from the return on.",
    ),
    metric(
        "duplicate_time", "s", Better.LOWER, "too many, for how long",
        "Instances that answered beyond what was asked for, times how long: instance-seconds, from the return on.",
    ),
    metric(
        "orphans", "1", Better.LOWER, "orphans",
        "Addresses that still answer at the end although the engine lists no live instance there.",
    ),
)  # fmt: skip

RETURNS = ("crash", "cut", "drain", "agent", "control")
STRIKES = ("kill", "unhealthy", "crash", "cut", "drain")

# What a gate means that names a fault alone, or what it strikes: of those that take an instance when the service is whole again,
# of those that take only the engine when all is as it was.
SHORT = {
    **{fault: f"full_capacity[fault={fault}]" for fault in STRIKES},
    **{fault: f"settled[fault={fault}]" for fault in ("agent", "control")},
    "instance": "full_capacity[fault=kill|unhealthy]",
    "node": "full_capacity[fault=crash|cut|drain]",
}


def derive(observations: Sequence[Observation]) -> Iterable[Sample]:
    """The samples of one trial, fault by fault."""
    nodes = [o for o in observations if o.name == "node"]
    struck = [o for o in observations if o.name == "node.failed"]
    timeouts = {o.data["phase"]: o.at for o in observations if o.name == "phase.timeout"}
    for story in facts.by_service(observations).values():
        made = next((o for o in story if o.name == "fault.made"), None)
        if made is not None and not any(o.name == "fault.failed" for o in story):  # what broke off has no end to count to
            # the provisioner knows better than we do when it pulled the cable
            until = made.at + made.data.get("took", 0.0)
            known = [o.at for o in struck if o.data["node"] == made.data["host"] and made.at <= o.at <= until]
            yield from _Fault(made, min(known, default=made.at), story, nodes, timeouts).samples()


class _Fault:
    """One fault's facts, put in order."""

    def __init__(
        self, made: Observation, at: float, story: list[Observation], nodes: list[Observation], timeouts: Mapping[str, float]
    ) -> None:
        self.kind = str(made.data["fault"])
        self.at = at
        self.wanted = int(made.data["instances"])
        self.host = str(made.data["host"])
        self.struck = set(made.data["struck"])
        self.struck_targets = set(made.data["targets"])
        self.facts = story
        self.nodes = [o for o in nodes if o.at >= self.at and o.data["host"] == self.host]
        self.window = self._first("fault.window")
        self.healing = self._first("fault.healing")
        self.settled = self._first("fault.settled")
        gave_up = timeouts.get(f"settle {self.kind}") or timeouts.get(f"fault {self.kind}")
        ends = [o.at for o in (self.settled, self.window) if o]
        self.gave_up = gave_up
        self.end = self.settled.at if self.settled else gave_up or (ends[0] if ends else self.facts[-1].at)
        until = self.healing or self.window  # what comes later is the return's doing
        self.watched = until.at if until else self.end

    def _first(self, name: str) -> Observation | None:
        return next((o for o in self.facts if o.name == name), None)

    def _sample(self, metric: str, value: float, censored: bool = False) -> Sample:
        return Sample(metric=metric, value=value, censored=censored, factors={"fault": self.kind})

    def samples(self) -> Iterable[Sample]:
        yield from self._requests()
        yield from self._degradation()
        yield from self._engine()
        steps = answering(self.facts)
        yield self._sample("lost_capacity", area(steps, self.at, self.end, lambda n: max(0, self.wanted - n)))
        yield self._sample("lowest", float(lowest(steps, self.at, self.end)))
        if self.kind in STRIKES:
            yield from self._when("full_capacity", self._seen_whole())
        if self.kind in RETURNS and self.healing:
            back = self.healing.at
            if self.settled:
                yield self._sample("settled", self.settled.at - back)
            elif self.gave_up:
                yield self._sample("settled", self.gave_up - back, censored=True)
            yield self._sample("duplicates", float(max(0, highest(steps, back, self.end) - self.wanted)))
            yield self._sample("duplicate_time", area(steps, back, self.end, lambda n: max(0, n - self.wanted)))
        if self.settled or self.gave_up:
            yield self._sample("orphans", float(self._orphans()))

    # requests

    def _requests(self) -> Iterable[Sample]:
        counted = requests(self.facts, self.at, self.end)
        if counted is None:
            return
        failed = counted.failed
        yield self._sample("failed", float(counted.failures))
        yield self._sample("slow", float(counted.slow))
        if failed:
            yield self._sample("first_error", failed[0] - self.at)
        early = [at for at in failed if at < self.watched]
        still = bool(early) and self.watched - early[-1] < STILL and bool(self.window and self.window.data["over"])
        if early:
            yield self._sample("last_error", (self.watched if still else early[-1]) - self.at, censored=still)
        else:
            yield self._sample("last_error", 0.0)
        if self.kind in RETURNS and self.healing:
            yield self._sample("failed_at_return", float(len(failed) - len(early)))

    def _degradation(self) -> Iterable[Sample]:
        whole = self._seen_whole() if self.kind in STRIKES else None
        meanwhile = served(self.facts, self.at, self.watched if whole is None else min(whole, self.watched))
        before = served(self.facts, -math.inf, self.at, whole=True)
        if meanwhile is None:
            return
        if meanwhile.good is not None:
            yield self._sample("good_rate", 100 * meanwhile.good)
        if meanwhile.p99 is not None:
            yield self._sample("latency_p99", meanwhile.p99)
            if before is not None and before.p99:
                yield self._sample("latency_ratio", meanwhile.p99 / before.p99)

    # the engine's word

    def _engine(self) -> Iterable[Sample]:
        noticed = [o.at for o in self.nodes if not (o.data["ready"] and o.data["schedulable"]) and o.at <= self.watched]
        fallen: set[str] = set()
        ready: set[str] = set()
        whole = None
        for o in self.facts:
            if o.name not in ("instance", "gone"):
                continue
            ident = o.data["id"]
            good = o.name == "instance" and o.data["state"] == "ready"
            (ready.add if good else ready.discard)(ident)
            if o.at < self.at:
                continue
            if not good and (ident in self.struck or o.data.get("node") == self.host) and o.at <= self.watched:
                noticed.append(o.at)
            if not good and ident in self.struck:
                fallen.add(ident)
            counted = ready - (self.struck - fallen)
            if whole is None and len(counted) >= self.wanted:
                whole = o.at
        silent = [o.at for o in self.facts if o.name == "engine.silent" and self.at <= o.at <= self.watched]
        if self.kind != "control":  # where the engine itself is what was taken, nobody is there to notice
            yield from self._when("noticed", min(noticed) if noticed else None)
        elif silent:
            yield self._sample("noticed", silent[0] - self.at)
        if self.kind in STRIKES:
            yield from self._when("full_ready", whole)

    def _when(self, metric: str, at: float | None) -> Iterable[Sample]:
        """Only what came before the host's return counts: after it, it is the return that has done it."""
        if at is not None and at <= self.watched:
            yield self._sample(metric, at - self.at)
        elif self.window or self.gave_up:
            yield self._sample(metric, self.watched - self.at, censored=True)

    # what the prober saw

    def _targets(self) -> list[Observation]:
        return [o for o in self.facts if o.name == "target"]

    def _seen_whole(self) -> float | None:
        up: set[str] = set()
        fallen: set[str] = set()
        for o in self._targets():
            target = o.data["target"]
            (up.add if o.data["up"] else up.discard)(target)
            if o.at < self.at:
                continue
            if not o.data["up"]:
                fallen.add(target)
            if len(up - (self.struck_targets - fallen)) >= self.wanted:
                return o.at
        return None

    def _orphans(self) -> int:
        up: set[str] = set()
        live: dict[str, str] = {}
        for o in self.facts:
            if o.at > self.end:
                break
            if o.name == "target":
                (up.add if o.data["up"] else up.discard)(o.data["target"])
            elif o.name == "instance" and o.data["state"] not in ("ended", "lost"):
                live[o.data["id"]] = f"{o.data['address']}:{o.data['port']}"
            elif o.name in ("instance", "gone"):
                live.pop(o.data["id"], None)
        return len(up - set(live.values()))
