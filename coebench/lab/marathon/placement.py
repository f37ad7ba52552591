"""Placement: which instance goes to which offer, and what Mesos is told to start there."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import constraints
from .apps import App
from .clock import stamp
from .instances import Instance, new_task_id

Json = dict[str, Any]


@dataclass
class Offer:
    """What is left of an offer of Mesos while instances are put on it."""

    id: str
    agent_id: str
    host: str
    address: str
    attributes: dict[str, str]
    scalars: dict[str, float]
    ports: list[tuple[int, int]]
    tasks: list[Json] = field(default_factory=list)
    taken: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, raw: Json) -> Offer:
        attributes = {"hostname": raw["hostname"]}
        for attribute in raw.get("attributes", ()):
            value = attribute.get("text") or attribute.get("scalar") or {}
            attributes[attribute["name"]] = str(value.get("value", ""))
        scalars: dict[str, float] = {}
        ports: list[tuple[int, int]] = []
        for resource in raw["resources"]:
            if resource["type"] == "SCALAR":
                scalars[resource["name"]] = scalars.get(resource["name"], 0.0) + resource["scalar"]["value"]
            elif resource["name"] == "ports":
                ports += [(r["begin"], r["end"]) for r in resource["ranges"].get("range", ())]
        host = raw["hostname"]
        address = raw.get("url", {}).get("address", {}).get("ip", host)
        return cls(raw["id"]["value"], raw["agent_id"]["value"], host, address, attributes, scalars, ports)

    def has_port(self, port: int) -> bool:
        return port not in self.taken and any(begin <= port <= end for begin, end in self.ports)

    def free_port(self, but: set[int]) -> int | None:
        """A port that is free here: a random one, so that one just given up is not used again at once."""
        size = sum(end - begin + 1 for begin, end in self.ports)
        if size == 0:
            return None
        start = random.randrange(size)
        for offset in range(size):
            at = (start + offset) % size
            for begin, end in self.ports:
                if at <= end - begin:
                    port = begin + at
                    if port not in self.taken and port not in but:
                        return port
                    break
                at -= end - begin + 1
        return None


REASONS = {
    "cpus": "InsufficientCpus",
    "mem": "InsufficientMemory",
    "disk": "InsufficientDisk",
    "ports": "InsufficientPorts",
    "constraints": "UnfulfilledConstraint",
}


class Summary:
    """Why offers were not used for an app since it entered the queue."""

    def __init__(self) -> None:
        self.processed = self.unused = 0
        self.reasons: Counter[str] = Counter()
        self.last: Counter[str] = Counter()
        self.last_processed = 0
        self.last_unused_at: str | None = None
        self.last_used_at: str | None = None

    def round(self, offers: int, refused: Iterable[str], used: int) -> None:
        refused = list(refused)
        self.processed += offers
        self.unused += len(refused)
        self.reasons.update(refused)
        self.last, self.last_processed = Counter(refused), offers
        if refused:
            self.last_unused_at = stamp()
        if used:
            self.last_used_at = stamp()

    def shown(self) -> Json:
        def table(reasons: Counter[str], processed: int) -> list[Json]:
            names = ["UnfulfilledConstraint", "InsufficientCpus", "InsufficientMemory", "InsufficientDisk"]
            names.append("InsufficientPorts")
            return [{"reason": n, "declined": reasons[n], "processed": processed} for n in names]

        shown: Json = {
            "processedOffersCount": self.processed,
            "unusedOffersCount": self.unused,
            "rejectSummaryLastOffers": table(self.last, self.last_processed),
            "rejectSummaryLaunchAttempt": table(self.reasons, self.processed),
        }
        if self.last_unused_at:
            shown["lastUnusedOfferAt"] = self.last_unused_at
        if self.last_used_at:
            shown["lastUsedOfferAt"] = self.last_used_at
        return shown


def place(
    app: App,
    count: int,
    offers: Sequence[Offer],
    siblings: list[Instance],
    agents: Iterable[constraints.Attributes],
) -> tuple[list[Instance], list[str]]:
    """Put up to ``count`` instances of ``app`` on ``offers``; returns them, and why the offers left over do not fit.

    Each goes where fewest of its siblings are, then where most CPU is free, among the offers at hand.
    """
    agents = list(agents)
    there = Counter(sibling.agent_id for sibling in siblings if sibling.active)
    # constraints look at instances of the same configuration only: an update may stand beside what it replaces
    same = [s.attributes for s in siblings if s.config == app.config_at and s.active]
    placed: list[Instance] = []
    refused: dict[str, str] = {}
    while len(placed) < count:
        best: Offer | None = None
        refused = {}
        for offer in offers:
            reason = _misfit(app, offer, same, agents)
            if reason:
                refused[offer.id] = REASONS[reason]
            elif best is None or _rank(offer, there) < _rank(best, there):
                best = offer
        if best is None:
            break
        instance = _start(app, best)
        placed.append(instance)
        same.append(instance.attributes)
        there[best.agent_id] += 1
    return placed, list(refused.values())


def _rank(offer: Offer, there: Counter[str]) -> tuple[int, float]:
    return there[offer.agent_id], -offer.scalars.get("cpus", 0.0)


def _misfit(app: App, offer: Offer, siblings: list[dict[str, str]], agents: list[constraints.Attributes]) -> str | None:
    for name in ("cpus", "mem", "disk"):
        if app.spec[name] > offer.scalars.get(name, 0.0) + 1e-6:
            return name
    if not constraints.allowed(app.spec["constraints"], offer.attributes, siblings, agents):
        return "constraints"
    if _ports(app, offer) is None:
        return "ports"
    return None


def _ports(app: App, offer: Offer) -> list[int] | None:
    """The host ports that an instance would get from this offer."""
    mapped = bool((app.spec.get("container") or {}).get("portMappings"))
    chosen: list[int] = []
    for definition in app.ports:
        fixed = definition["hostPort"] if mapped else definition["port"] if app.spec["requirePorts"] else 0
        if fixed and (not offer.has_port(fixed) or fixed in chosen):
            return None
        port = fixed or offer.free_port(set(chosen))
        if port is None:
            return None
        chosen.append(port)
    return chosen


def _start(app: App, offer: Offer) -> Instance:
    ports = _ports(app, offer)
    assert ports is not None
    instance = Instance(
        new_task_id(app.id),
        app.id,
        app.version,
        app.config_at,
        offer.agent_id,
        offer.host,
        offer.attributes,
        ports,
        stamp(),
        addresses=[offer.address],
        ready=not app.spec["readinessChecks"],
    )
    for name in ("cpus", "mem", "disk"):
        offer.scalars[name] = offer.scalars.get(name, 0.0) - app.spec[name]
    offer.taken.update(ports)
    offer.tasks.append(task_info(app, instance))
    return instance


def task_info(app: App, instance: Instance) -> Json:
    """The TaskInfo of an instance."""
    spec = app.spec
    resources = [
        {"name": name, "type": "SCALAR", "scalar": {"value": spec[name]}, "allocation_info": {"role": "*"}}
        for name in ("cpus", "mem", "disk")
        if spec[name]
    ]
    if instance.ports:
        ranges = [{"begin": port, "end": port} for port in instance.ports]
        resources.append({"name": "ports", "type": "RANGES", "ranges": {"range": ranges}, "allocation_info": {"role": "*"}})
    task: Json = {
        "name": ".".join(reversed(app.id.strip("/").split("/"))),
        "task_id": {"value": instance.id},
        "agent_id": {"value": instance.agent_id},
        "resources": resources,
        "command": command(app, instance),
        "labels": {"labels": [{"key": k, "value": v} for k, v in spec["labels"].items()]},
    }
    grace = spec.get("taskKillGracePeriodSeconds")
    if grace is not None:
        task["kill_policy"] = {"grace_period": {"nanoseconds": int(grace * 1e9)}}
    container = spec.get("container")
    if container:
        info: Json = {"type": "MESOS", "mesos": {}}
        if app.image:
            info["mesos"]["image"] = {"type": "DOCKER", "docker": {"name": app.image}}
        if container.get("volumes"):
            info["volumes"] = [
                {"container_path": v["containerPath"], "host_path": v["hostPath"], "mode": v.get("mode", "RW")}
                for v in container["volumes"]
            ]
        task["container"] = info
    return task


def command(app: App, instance: Instance) -> Json:
    variables = [{"name": k, "value": v} for k, v in environment(app, instance).items()]
    made: Json = {"environment": {"variables": variables}}
    if app.spec.get("user"):
        made["user"] = app.spec["user"]
    args = app.spec.get("args")
    if "cmd" in app.spec:
        made.update(shell=True, value=app.spec["cmd"])
    elif args and not app.image:
        made.update(shell=False, value=args[0], arguments=args)
    else:  # the image's entry point, with args after it if there are any
        made.update(shell=False, arguments=args or [])
    return made


def environment(app: App, instance: Instance) -> dict[str, str]:
    """The variables that an instance finds, the app's own above all."""
    spec = app.spec
    found = {
        "MARATHON_APP_ID": app.id,
        "MARATHON_APP_VERSION": app.version,
        "MARATHON_APP_RESOURCE_CPUS": str(float(spec["cpus"])),
        "MARATHON_APP_RESOURCE_MEM": str(float(spec["mem"])),
        "MARATHON_APP_RESOURCE_DISK": str(float(spec["disk"])),
        "MARATHON_APP_RESOURCE_GPUS": "0",
        "MARATHON_APP_LABELS": " ".join(_upper(k) for k in spec["labels"]),
        "MESOS_TASK_ID": instance.id,
        "HOST": instance.host,
    }
    found.update({f"MARATHON_APP_LABEL_{_upper(k)}": v for k, v in spec["labels"].items()})
    if app.image:
        found["MARATHON_APP_DOCKER_IMAGE"] = app.image
    for index, (definition, port) in enumerate(zip(app.ports, instance.ports, strict=True)):
        found[f"PORT{index}"] = str(port)
        number = definition.get("containerPort") or definition.get("port")
        if number:
            found[f"PORT_{number}"] = str(port)
        if definition.get("name"):
            found[f"PORT_{_upper(definition['name'])}"] = str(port)
    if instance.ports:
        found["PORT"] = str(instance.ports[0])
        found["PORTS"] = ",".join(str(port) for port in instance.ports)
    return {**found, **spec["env"]}


def _upper(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).upper()
