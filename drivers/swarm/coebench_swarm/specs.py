"""From the contract's service to Swarm's objects."""

from __future__ import annotations

import shlex
from typing import Any

from docker.types import (
    ContainerSpec,
    EndpointSpec,
    Healthcheck,
    Resources,
    RestartPolicy,
    ServiceMode,
    TaskTemplate,
    UpdateConfig,
)

from coebench.contract import ServiceSpec, Strategy

NETWORK = "coebench"
OURS = {"coebench.managed": "yes"}
SERVICE = "coebench.service"
VERSION = "coebench.version"
PORT = "coebench.port"
SECOND = 1_000_000_000  # Swarm's times are nanoseconds


def task_template(spec: ServiceSpec, restart_delay: float | None = None) -> TaskTemplate:
    """What each task runs. CPU is reserved, and limited only if the spec says so; memory both.

    `restart_delay`: seconds before the replacement of a task that has ended; None leaves the restart policy to Docker, whose
    own is any condition after 5 s. Neither a first start nor an update waits for it.
    """
    env = {
        "COEBENCH_PORT": str(spec.port),
        "COEBENCH_VERSION": spec.version,
        "COEBENCH_INSTANCE": "{{.Task.ID}}",
        # Swarm takes variables for Go templates
        **{k: v.replace("{{", '{{"{{"}}') for k, v in spec.env.items()},
    }
    health = None
    if spec.health:
        probe = "wget -q -O /dev/null " + shlex.quote(f"http://127.0.0.1:{spec.port}{spec.health.path}")
        health = Healthcheck(
            test=["CMD-SHELL", probe],
            interval=int(spec.health.interval * SECOND),
            timeout=int(spec.health.timeout * SECOND),
            retries=spec.health.failures,
        )
    rights = []
    if spec.neighbour_retry:  # a task's address is known before its container is there: whoever asks it waits for the kernel
        rights.append("NET_ADMIN")
        env["COEBENCH_NEIGHBOUR_RETRY_MS"] = str(max(1, round(1000 * spec.neighbour_retry)))
    cpu = int(spec.cpu * 1e9)
    return TaskTemplate(
        ContainerSpec(
            image=spec.image,
            command=list(spec.command) or None,
            env=env,
            labels={VERSION: spec.version, PORT: str(spec.port)},
            stop_grace_period=int(spec.grace * SECOND),
            healthcheck=health,
            cap_add=rights or None,
        ),
        resources=Resources(
            cpu_limit=cpu if spec.limit_cpu else None,
            cpu_reservation=cpu,
            mem_limit=spec.memory,
            mem_reservation=spec.memory,
        ),
        restart_policy=None if restart_delay is None else RestartPolicy(condition="any", delay=int(restart_delay * SECOND)),
        networks=[{"Target": NETWORK}],
    )


def endpoint(spec: ServiceSpec, virtual: bool) -> EndpointSpec:
    """A virtual IP if `virtual`; else DNS round robin, since a kernel without ip_vs could not serve one. `publish` opens the
    port on the task's own host."""
    mode = "vip" if virtual else "dnsrr"
    if not spec.publish:
        return EndpointSpec(mode=mode)
    port = {"Protocol": "tcp", "TargetPort": spec.port, "PublishedPort": spec.port, "PublishMode": "host"}
    return EndpointSpec(mode=mode, ports=[port])


def mode(instances: int) -> ServiceMode:
    """Replicated."""
    return ServiceMode("replicated", instances)


def update_config(strategy: Strategy) -> UpdateConfig:
    """Swarm updates in one order: the new task first where the strategy has a surge, else the old one first."""
    order = "start-first" if strategy.surge else "stop-first"
    parallelism = max(strategy.surge, strategy.unavailable, 1)
    return UpdateConfig(parallelism=parallelism, delay=0, order=order, failure_action="pause")


def service(spec: ServiceSpec, strategy: Strategy, virtual: bool, restart_delay: float | None = None) -> dict[str, Any]:
    """The whole of a service, as Swarm's API takes it for an update."""
    return {
        "Name": spec.name,
        "Labels": labels(spec),
        "TaskTemplate": task_template(spec, restart_delay),
        "Mode": mode(spec.instances),
        "UpdateConfig": update_config(strategy),
        "EndpointSpec": endpoint(spec, virtual),
    }


def labels(spec: ServiceSpec) -> dict[str, Any]:
    """Marks the service, and through it its tasks, as ours: they are found by this when the service itself is gone."""
    return {**OURS, SERVICE: spec.name, VERSION: spec.version}
