"""Between the contract's service and instances and Docker's containers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

import msgspec

from coebench.contract import Claim, Instance, InstanceState, ServiceSpec

NETWORK = "coebench"
OURS = {"coebench.managed": "docker"}
SERVICE = "coebench.service"
RECORD = "coebench.record"  # the spec, as JSON, on the container that only holds the name
INSTANCE = "coebench.instance"
VERSION = "coebench.version"
PORT = "coebench.port"
GOING = ".going"  # at the end of the name of a container that was asked to end
SECOND = 1_000_000_000  # Docker's times are nanoseconds


def record(spec: ServiceSpec) -> dict[str, Any]:
    """A container that is never started."""
    labels = {**OURS, SERVICE: spec.name, RECORD: msgspec.json.encode(spec).decode()}
    return {"Image": spec.image, "Cmd": ["true"], "Labels": labels}


def instance(spec: ServiceSpec, name: str) -> dict[str, Any]:
    """A container that Docker restarts whenever it ends. Memory is limited; CPU has weight, and a limit if the spec says."""
    env = {"COEBENCH_PORT": str(spec.port), "COEBENCH_INSTANCE": name, "COEBENCH_VERSION": spec.version, **spec.env}
    port = f"{spec.port}/tcp"
    host: dict[str, Any] = {
        "NetworkMode": NETWORK,
        "RestartPolicy": {"Name": "always"},
        "Memory": spec.memory,
        "MemorySwap": spec.memory,
        "CpuShares": max(2, round(spec.cpu * 1024)),
    }
    if spec.limit_cpu:
        host["NanoCpus"] = int(spec.cpu * 1e9)
    if spec.publish:
        host["PortBindings"] = {port: [{"HostPort": str(spec.port)}]}
    config: dict[str, Any] = {
        "Image": spec.image,
        "Env": [f"{k}={v}" for k, v in env.items()],
        "Labels": {**OURS, SERVICE: spec.name, INSTANCE: name, VERSION: spec.version, PORT: str(spec.port)},
        "ExposedPorts": {port: {}},
        "StopTimeout": max(0, round(spec.grace)),
        "HostConfig": host,
    }
    if spec.command:
        config["Entrypoint"], config["Cmd"] = list(spec.command[:1]), list(spec.command[1:])
    if spec.health:
        probe = "wget -q -O /dev/null " + shlex.quote(f"http://127.0.0.1:{spec.port}{spec.health.path}")
        config["Healthcheck"] = {
            "Test": ["CMD-SHELL", probe],
            "Interval": int(spec.health.interval * SECOND),
            "Timeout": int(spec.health.timeout * SECOND),
            "Retries": spec.health.failures,
        }
    return config


def name(container: Mapping[str, Any]) -> str:
    """Its own, without the mark of one that is going."""
    return str(container["Names"][0].lstrip("/").removesuffix(GOING))


def going(container: Mapping[str, Any]) -> bool:
    return str(container["Names"][0]).endswith(GOING)


def told(container: Mapping[str, Any], node: str, host: str) -> Instance:
    """A container as the listing tells it. Docker's time of creation is in whole seconds there."""
    labels, word, status = container["Labels"], container["State"], container.get("Status", "")
    state = _state(container, word, status)
    addresses = [n.get("IPAddress", "") for n in (container.get("NetworkSettings") or {}).get("Networks", {}).values()]
    opened = next((p["PublicPort"] for p in container.get("Ports") or () if p.get("PublicPort")), None)
    address = next((a for a in addresses if a), None)
    return Instance(
        id=name(container),
        service=labels[SERVICE],
        version=labels.get(VERSION, ""),
        state=state,
        engine_state=word,
        node=node,
        address=address,
        port=int(labels[PORT]) if address else None,
        published=(host, opened) if opened else None,
        claims=(Claim("created", float(container["Created"])),),
        reason="" if state is InstanceState.READY else re.sub(r" (\d+|About a|Less than a) .*ago$", "", status),
    )


def _state(container: Mapping[str, Any], word: str, status: str) -> InstanceState:
    if going(container) or word == "removing":
        return InstanceState.STOPPING
    if word == "running":
        checked = re.search(r"\((healthy|unhealthy|health: starting)\)", status)
        return InstanceState.READY if checked is None or checked[1] == "healthy" else InstanceState.RUNNING
    if word in ("created", "restarting"):
        return InstanceState.STARTING
    return InstanceState.ENDED if word in ("exited", "dead") else InstanceState.RUNNING
