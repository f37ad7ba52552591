"""Apache Mesos 1.11.0 in the lab: a master and the lab's own Marathon-compatible scheduler on the control host, an agent on
every node."""

from __future__ import annotations

import http.client
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ...contract import Access, BadInput, BaySpec, Role
from .. import cgroups, plan
from ..host import Host
from .base import Engine

MASTER_PORT = 5050
API_PORT = 8080
ENV = "/etc/mesos/env"

# Stock: Mesos' own defaults. Harmonised: a dead node is known after about 10 s, as on every engine.
TIMEOUTS = {
    "stock": {
        "MESOS_AGENT_PING_TIMEOUT": "15secs",
        "MESOS_MAX_AGENT_PING_TIMEOUTS": "5",
        "MESOS_ALLOCATION_INTERVAL": "1secs",
        "MESOS_REGISTRATION_BACKOFF_FACTOR": "50ms",  # by default 1secs, which a bay of three agents would wait for
    },
    "harmonised": {
        "MESOS_AGENT_PING_TIMEOUT": "2secs",
        "MESOS_MAX_AGENT_PING_TIMEOUTS": "5",
        "MESOS_ALLOCATION_INTERVAL": "1secs",
        "MESOS_REGISTRATION_BACKOFF_FACTOR": "50ms",  # by default 1secs, which a bay of three agents would wait for
    },
}
# What the scheduler does with apps that say nothing of it, and the driver's do not: Marathon's own defaults, in both profiles.
SCHEDULER = {
    "Marathon unreachableStrategy": "replaced 0s after Mesos gives the agent up",
    "Marathon backoffSeconds": "1",
    "Marathon backoffFactor": "1.15",
}


class Mesos(Engine):
    title = "Mesos"
    version = "1.11.0"
    layers = ("marathon", "mesos")
    agent = "mesos-agent"
    control = ("mesos-master", "marathon")
    options: ClassVar[Mapping[str, str]] = {
        "ping-timeout": "how long the master waits for each of an agent's five pings: 1secs to 15mins"
    }

    @classmethod
    def check(cls, spec: BaySpec) -> None:
        super().check(spec)
        given = spec.options.get("ping-timeout", "1secs")
        if not re.fullmatch(r"[1-9]\d{0,2}secs|([1-9]|1[0-5])mins", given):
            raise BadInput(f"mesos: ping-timeout is 1secs to 15mins, not '{given}'")

    @classmethod
    def missing(cls) -> str:
        why = cgroups.freezer()
        return f"Mesos 1.11 needs cgroup v1's freezer to put instances into their images, and {why}" if why else ""

    def provide(self) -> None:
        super().provide()
        if cgroups.version() == 2:
            cgroups.mount_freezer()

    def files(self, host: str, role: Role) -> Mapping[str, str]:
        return {ENV: "".join(f"{name}='{value}'\n" for name, value in self._env(host, role).items())}

    def _env(self, host: str, role: Role) -> dict[str, str]:
        env = dict(self._mesos())
        if role is Role.NODE:
            cores = self.spec.cpu or len(os.sched_getaffinity(0))
            memory = self.spec.memory >> 20
            env["MESOS_RESOURCES"] = f"cpus:{cores:g};mem:{memory};disk:16384;ports:[31000-32999]"
            env["MESOS_ATTRIBUTES"] = f"name:{host}"
            env["MESOS_HOSTNAME"] = host
        return env

    def payload(self, host: str, role: Role) -> tuple[str, ...]:
        if role is Role.CONTROL:
            return ("/opt/coebench/guest/mesos-control.sh", plan.address(host))
        return ("/opt/coebench/guest/mesos-node.sh", host, plan.address(host), plan.address("c1"))

    def join(self, hosts: list[Host], new: list[Host], step: Callable[[str], None]) -> None:
        self.wait(lambda: self._get(MASTER_PORT, "/health") is not None, hosts, "the master answers")
        step("api")
        names = {h.spec.name for h in new if h.spec.role is Role.NODE}

        def ready() -> bool:
            answer = self._get(MASTER_PORT, "/slaves")
            return answer is not None and names <= {s["hostname"] for s in json.loads(answer)["slaves"] if s["active"]}

        self.wait(ready, hosts, "all agents are registered")
        step("nodes")

        def framework() -> bool:
            answer = self._get(API_PORT, "/v2/info")
            return answer is not None and bool(json.loads(answer).get("frameworkId"))

        self.wait(framework, hosts, "the Marathon-compatible scheduler is registered")
        step("images")

    def pull(self, hosts: list[Host], registry: bool) -> str:
        """An agent takes images from a folder of archives or from a registry, never from both: it begins again with the other.
        What runs meanwhile goes on, and an image that it has is not asked for anew."""
        where = f"http://{plan.registry()}"
        nodes = [h for h in hosts if h.spec.role is Role.NODE]
        before = self._registered()
        for h in nodes:
            more = f"MESOS_DOCKER_REGISTRY='{where}'\n" if registry else ""
            (h.root / ENV.lstrip("/")).write_text(self.files(h.spec.name, Role.NODE)[ENV] + more)
        for h in nodes:
            h.stop_engine(self.agent)
            h.start_engine(self.agent)

        def back() -> bool:
            now = self._registered()
            return all(now.get(h.spec.name, 0) > before.get(h.spec.name, 0) for h in nodes)

        self.wait(back, hosts, "all agents are registered again")
        return f"agents begin again with --docker_registry={where}, and without it when all is done"

    def access(self, hosts: list[Host]) -> Access:
        options = {"network": "host network, ports assigned by the scheduler"}
        return Access(coe="mesos", url=f"http://{plan.address('c1')}:{API_PORT}", options=options)

    def timeouts(self) -> Mapping[str, str]:
        return {**self._mesos(), **SCHEDULER}

    def _mesos(self) -> Mapping[str, str]:
        """Those of Mesos itself, which takes them as variables."""
        timeouts = dict(TIMEOUTS[self.spec.timeouts])
        if given := self.spec.options.get("ping-timeout"):
            timeouts["MESOS_AGENT_PING_TIMEOUT"] = given
        return timeouts

    def components(self) -> Mapping[str, str]:
        return {"mesos": "1.11.0", "scheduler": "coebench's Marathon-compatible API"}

    def notes(self) -> tuple[str, ...]:
        notes: tuple[str, ...] = (
            "Marathon itself can't be had: a Marathon-compatible scheduler of coebench's own stands in for it, "
            "so these are not Marathon's times: unlike Marathon it acts on demand at once and checks health every 0.1 s until "
            "the first good answer",
            "Mesos' master and agent are the release's code, run by a process host of coebench's own; the command executor is "
            "coebench's, TLS is off",
            "agents register within 50 ms of their beginning, or of missing their master, where the default spreads it over 1 s",
        )
        if cgroups.version() == 2:
            notes += ("this machine has cgroup v2, which Mesos 1.11 doesn't know: instances have no CPU or memory limits",)
        return notes

    def _registered(self) -> dict[str, float]:
        """When each active agent registered last: host name → seconds since the epoch."""
        answer = self._get(MASTER_PORT, "/slaves")
        agents = json.loads(answer)["slaves"] if answer else []
        return {a["hostname"]: float(a.get("reregistered_time", a["registered_time"])) for a in agents if a["active"]}

    def _get(self, port: int, path: str) -> Any:
        """What the control host answers; None if it can't be had now."""
        connection = http.client.HTTPConnection(plan.address("c1"), port, timeout=self.patience(2))
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            return body if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
