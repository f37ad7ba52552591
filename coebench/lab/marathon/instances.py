"""An instance: one task of an app, from the decision to start it until Mesos says that it has ended."""

from __future__ import annotations

import time
import uuid
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .clock import seconds, stamp

Json = dict[str, Any]

ENDED = frozenset(
    [
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_ERROR",
        "TASK_LOST",
        "TASK_DROPPED",
        "TASK_GONE",
        "TASK_GONE_BY_OPERATOR",
    ]
)
FAULTY = frozenset(["TASK_FINISHED", "TASK_FAILED", "TASK_ERROR", "TASK_DROPPED", "TASK_GONE", "TASK_LOST"])
"""Ends after which the next start is delayed."""
UNREACHABLE = "TASK_UNREACHABLE"
UNKNOWN = "TASK_UNKNOWN"


def new_task_id(app_id: str) -> str:
    return f"{app_id.strip('/').replace('/', '_')}.instance-{uuid.uuid4()}._app.1"


@dataclass
class Health:
    """What one health check has found."""

    alive: bool | None = None
    failures: int = 0
    first_success: str | None = None
    last_success: str | None = None
    last_failure: str | None = None
    cause: str | None = None

    def shown(self, instance: Instance) -> Json:
        shown = {
            "alive": bool(self.alive),
            "consecutiveFailures": self.failures,
            "firstSuccess": self.first_success,
            "lastSuccess": self.last_success,
            "lastFailure": self.last_failure,
            "lastFailureCause": self.cause,
            "instanceId": instance.instance_id,
        }
        return {k: v for k, v in shown.items() if v is not None}


@dataclass
class Instance:
    id: str
    app_id: str
    version: str
    config: str
    """The version in which its app's configuration came to be: App.config_at when it was started."""
    agent_id: str
    host: str
    attributes: dict[str, str]
    ports: list[int]
    staged_at: str
    state: str = "TASK_STAGING"
    started_at: str | None = None
    addresses: list[str] = field(default_factory=list)
    killing: bool = False
    unreachable_at: float | None = None
    inactive: bool = False
    """Unreachable for so long that a replacement is due."""
    confirmed: bool = False
    """Whether Mesos has spoken of it since we last subscribed; not kept."""
    health: list[Health] = field(default_factory=list)
    """One for each health check; empty if the app has none or the instance has not run yet."""
    ready: bool = True
    """Whether its readiness check has passed."""
    readiness_response: Json | None = None

    @property
    def instance_id(self) -> str:
        return self.id.partition("._app.")[0]

    @property
    def address(self) -> str:
        """Where it can be reached from here: its host's name need not be known to us."""
        return self.addresses[0] if self.addresses else self.host

    @property
    def active(self) -> bool:
        """Whether it counts as one of those that are wanted."""
        return not self.killing and not self.inactive

    @property
    def running(self) -> bool:
        return self.state == "TASK_RUNNING"

    @property
    def healthy(self) -> bool:
        """Every health check has succeeded last."""
        return all(check.alive for check in self.health)

    @property
    def good(self) -> bool:
        """Whether a deployment may count on it."""
        return self.active and self.running and self.healthy and self.ready

    def shown(self, service_ports: list[int]) -> Json:
        addresses = [{"ipAddress": ip, "protocol": "IPv4" if "." in ip else "IPv6"} for ip in self.addresses]
        shown: Json = {
            "id": self.id,
            "appId": self.app_id,
            "host": self.host,
            "slaveId": self.agent_id,
            "ports": self.ports,
            "servicePorts": service_ports,
            "state": "TASK_KILLING" if self.killing and self.running else self.state,
            "stagedAt": self.staged_at,
            "version": self.version,
            "ipAddresses": addresses,
            "localVolumes": [],
        }
        if self.started_at:
            shown["startedAt"] = self.started_at
        checks = [check.shown(self) for check in self.health if check.alive is not None or check.failures]
        if checks:
            shown["healthCheckResults"] = checks
        return shown

    def kept(self) -> Json:
        kept = asdict(self)
        for name in ("confirmed", "readiness_response"):
            del kept[name]
        return kept

    @classmethod
    def restored(cls, kept: Json) -> Instance:
        known = {f.name for f in fields(cls)}
        instance = cls(**{k: v for k, v in kept.items() if k in known})
        instance.health = [Health(**health) for health in kept["health"]]
        return instance


def counts(instances: list[Instance]) -> Json:
    """The four figures that an app shows."""
    checked = [i for i in instances if i.health and i.running]
    return {
        "tasksStaged": sum(i.state in ("TASK_STAGING", "TASK_STARTING") for i in instances),
        "tasksRunning": sum(i.running or i.state == "TASK_KILLING" for i in instances),
        "tasksHealthy": sum(i.healthy for i in checked),
        "tasksUnhealthy": sum(any(c.alive is False for c in i.health) for i in checked),
    }


def statistics(instances: list[Instance]) -> Json:
    """``taskStats`` of one set of instances."""
    figures = counts(instances)
    stats: Json = {"counts": {k[5:].lower(): v for k, v in figures.items()}}
    ages = sorted(age(i) for i in instances if i.started_at)
    if ages:
        stats["lifeTime"] = {"averageSeconds": sum(ages) / len(ages), "medianSeconds": ages[len(ages) // 2]}
    return {"stats": stats}


def age(instance: Instance) -> float:
    return time.time() - seconds(instance.started_at or stamp())
