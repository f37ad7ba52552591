"""From Swarm's tasks and nodes, as its API's JSON, to the contract's instances and nodes."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from coebench.contract import Claim, Instance, InstanceState, Node

from . import specs

STARTING = {"assigned", "accepted", "preparing", "ready", "starting"}
PENDING = {"new", "allocated", "pending"}


def instance(task: Mapping[str, Any], service: str, nodes: Mapping[str, Mapping[str, Any]]) -> Instance:
    """A task. Swarm tells the time of its present state only, to the nanosecond, by the clock of who set it."""
    status, spec = task.get("Status", {}), task.get("Spec", {})
    container = spec.get("ContainerSpec", {})
    node = nodes.get(task.get("NodeID", ""), {})
    word = status.get("State", "new")
    labels = container.get("Labels", {})
    port = int(labels.get(specs.PORT, 0)) or None
    claims = [Claim("created", when(task["CreatedAt"]))]
    if status.get("Timestamp"):
        claims.append(Claim(word, when(status["Timestamp"])))
    host = node_address(node)
    open_ports = status.get("PortStatus", {}).get("Ports") or []
    published = (host, int(open_ports[0]["PublishedPort"])) if host and open_ports else None
    return Instance(
        id=task["ID"],
        service=service,
        version=labels.get(specs.VERSION, ""),
        state=_state(word, task.get("DesiredState", ""), node),
        engine_state=word,
        node=node.get("Description", {}).get("Hostname"),
        address=_address(task),
        port=port,
        published=published,
        claims=tuple(claims),
        reason=status.get("Err", "") or ("" if word == "running" else status.get("Message", "")),
    )


def _state(word: str, desired: str, node: Mapping[str, Any]) -> InstanceState:
    if word in ("complete", "failed", "shutdown", "rejected", "orphaned", "remove"):
        return InstanceState.ENDED
    if node.get("Status", {}).get("State") == "down" and word not in PENDING:
        return InstanceState.LOST
    if desired in ("shutdown", "remove", "complete"):
        return InstanceState.STOPPING
    if word == "running":  # with a health check a task is running only once it is healthy
        return InstanceState.READY
    return InstanceState.PENDING if word in PENDING else InstanceState.STARTING


def _address(task: Mapping[str, Any]) -> str | None:
    for attachment in task.get("NetworksAttachments") or []:
        network = attachment.get("Network", {}).get("Spec", {}).get("Name")
        if network == specs.NETWORK and attachment.get("Addresses"):
            return str(attachment["Addresses"][0].split("/")[0])
    return None


def node(n: Mapping[str, Any]) -> Node:
    """A node; CPU and memory are what it reports, since Swarm sets nothing aside."""
    resources = n.get("Description", {}).get("Resources", {})
    return Node(
        name=n["Description"].get("Hostname", n["ID"]),
        address=node_address(n),
        ready=n["Status"]["State"] == "ready",
        schedulable=n["Spec"]["Availability"] == "active",
        engine_state=f"{n['Status']['State']}, {n['Spec']['Availability']}",
        cpu=resources.get("NanoCPUs", 0) / 1e9,
        memory=resources.get("MemoryBytes", 0),
    )


def node_address(n: Mapping[str, Any]) -> str:
    """Where others reach a node; empty if it tells none. Of a leader the status may hold the address that it listens at."""
    told = [str(n.get("Status", {}).get("Addr") or ""), _host(str((n.get("ManagerStatus") or {}).get("Addr") or ""))]
    return next((a for a in told if a and not _anywhere(a)), "")


def _host(address: str) -> str:
    """HOST:PORT or [HOST]:PORT without the port."""
    return address[1:].partition("]")[0] if address.startswith("[") else address.rpartition(":")[0] or address


def _anywhere(address: str) -> bool:
    """Whether an address names no machine to others: 0.0.0.0, ::, 127.0.0.1."""
    try:
        ip = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return address == "localhost"
    ip = getattr(ip, "ipv4_mapped", None) or ip
    return ip.is_unspecified or ip.is_loopback


def when(text: str) -> float:
    """Go's RFC 3339 with up to nine digits of a second."""
    m = re.fullmatch(r"(.*?)(\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not m:
        raise ValueError(f"not a time: {text!r}")
    whole = datetime.datetime.fromisoformat(m[1] + m[3].replace("Z", "+00:00")).timestamp()
    return whole + float(m[2] or 0)
