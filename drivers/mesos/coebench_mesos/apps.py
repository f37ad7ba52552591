"""Between the contract's service and instances and Marathon's apps and tasks."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Mapping
from typing import Any

from marathon.models import MarathonApp, MarathonHealthCheck
from marathon.models.app import MarathonUpgradeStrategy, PortDefinition
from marathon.models.container import MarathonContainer, MarathonDockerContainer

from coebench.contract import Claim, Instance, InstanceState, Node, ServiceSpec, Strategy

PREFIX = "/coebench/"
OURS = "coebench_managed"
VERSION = "coebench_version"
DEFAULT = Strategy()
# Marathon tells an instance its port and name in variables of its own; a command is a shell's, which can rename them
NAMED = 'export COEBENCH_PORT="${COEBENCH_PORT:-$PORT0}" COEBENCH_INSTANCE="${COEBENCH_INSTANCE:-$MESOS_TASK_ID}";'

STATES = {
    "TASK_STAGING": InstanceState.STARTING,
    "TASK_STARTING": InstanceState.STARTING,
    "TASK_RUNNING": InstanceState.RUNNING,
    "TASK_KILLING": InstanceState.STOPPING,
    "TASK_UNREACHABLE": InstanceState.LOST,
    "TASK_LOST": InstanceState.LOST,
}


def app_id(service: str) -> str:
    return PREFIX + service


def service_of(ident: str) -> str:
    return ident.removeprefix(PREFIX)


def app(spec: ServiceSpec, strategy: Strategy = DEFAULT, pull_secret: str = "") -> MarathonApp:
    """An app on the host's network: the port is the scheduler's choice unless the spec wants it published as it is.

    Whether Mesos also limits what it reserves of CPU is a setting of its agents: `limit_cpu` changes nothing here.
    `pull_secret`: the URI of an archive with a .docker folder, which the image is pulled with.
    """
    checks = []
    if spec.health:
        checks.append(
            MarathonHealthCheck(
                protocol="MESOS_HTTP",
                path=spec.health.path,
                port_index=0,
                grace_period_seconds=max(1, round(spec.health.interval * spec.health.failures)),
                interval_seconds=max(1, round(spec.health.interval)),
                timeout_seconds=max(1, round(spec.health.timeout)),
                max_consecutive_failures=spec.health.failures,
            )
        )
    wanted = max(1, spec.instances)
    return MarathonApp(
        id=app_id(spec.name),
        cmd=f"{NAMED} exec {shlex.join(spec.command)}" if spec.command else None,
        cpus=spec.cpu,
        mem=spec.memory / (1 << 20),
        instances=spec.instances,
        container=MarathonContainer(type="MESOS", docker=MarathonDockerContainer(image=spec.image)),
        port_definitions=[PortDefinition(port=0, protocol="tcp", name="main")],
        fetch=[{"uri": pull_secret}] if pull_secret else None,
        env={"COEBENCH_VERSION": spec.version, **spec.env},
        labels={OURS: "yes", VERSION: spec.version},
        health_checks=checks,
        task_kill_grace_period_seconds=max(1, round(spec.grace)),
        upgrade_strategy=MarathonUpgradeStrategy(
            maximum_over_capacity=strategy.surge / wanted,
            minimum_health_capacity=max(0.0, 1 - strategy.unavailable / wanted),
        ),
    )


def concerns(line: bytes, service: str) -> bool:
    """Whether a line of Marathon's event stream may be about a service: a look at the text is enough to ask again."""
    return line.startswith(b"data:") and f'"{app_id(service)}"'.encode() in line


def healthy(task: Mapping[str, Any]) -> bool:
    results = task.get("healthCheckResults", [])
    return bool(results) and all(r.get("alive") for r in results)


def instance(task: Mapping[str, Any], service: str, version: str, checked: bool, where: tuple[str, str]) -> Instance:
    """A task. `where`: host name and address of its agent; `checked`: whether the app has health checks."""
    word = task.get("state", "")
    state = STATES.get(word, InstanceState.ENDED if word else InstanceState.PENDING)
    if state is InstanceState.RUNNING and (not checked or healthy(task)):
        state = InstanceState.READY
    claims = [
        Claim(name, datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp())
        for name, at in (("staged", task.get("stagedAt")), ("started", task.get("startedAt")))
        if at
    ]
    address = next((a["ipAddress"] for a in task.get("ipAddresses") or []), where[1])
    ports = task.get("ports") or []
    port = ports[0] if ports else None
    return Instance(
        id=task["id"],
        service=service,
        version=version,
        state=state,
        engine_state=word,
        node=where[0] or task.get("host"),
        address=address or None,
        port=port,
        published=(address, port) if address and port else None,
        claims=tuple(claims),
        reason="" if state is InstanceState.READY else _reason(task),
    )


def _reason(task: Mapping[str, Any]) -> str:
    causes = [str(r["lastFailureCause"]) for r in task.get("healthCheckResults") or [] if r.get("lastFailureCause")]
    return "; ".join([w for w in (str(task.get("message") or ""), *causes) if w])


def node(agent: Mapping[str, Any]) -> Node:
    """An agent; CPU and memory are all that it offers."""
    resources = agent["resources"]
    active = bool(agent["active"])
    idle = bool(agent.get("deactivated") or agent.get("drain_info"))
    return Node(
        name=agent["hostname"],
        address=agent["pid"].rsplit("@", 1)[1].rsplit(":", 1)[0],
        ready=active or idle,
        schedulable=active and not idle,
        engine_state="active" if active else "inactive",
        cpu=float(resources.get("cpus", 0)),
        memory=int(resources.get("mem", 0)) << 20,
    )
