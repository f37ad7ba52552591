"""From Kubernetes objects, as plain JSON, to the contract's instances and nodes."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from coebench.contract import Claim, Instance, InstanceState, Node

from . import specs

CONTROL = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")  # label and taint, today's and before 1.20
_UNITS = {
    **{f"{letter}i": Decimal(1 << 10 * n) for n, letter in enumerate("KMGTPE", 1)},
    **{
        letter: Decimal(1000) ** n
        for n, letter in zip((-3, -2, -1, 0, 1, 2, 3, 4, 5, 6), ("n", "u", "m", "", *"kMGTPE"), strict=True)
    },
}
# What the kubelet waits for that only a change of the service's own can end, or that lasts until one does
HINDERED = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
)


def instance(pod: Mapping[str, Any]) -> Instance:
    """A pod. Claims are at Kubernetes' own resolution of a second."""
    meta, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", [])}
    containers = status.get("containerStatuses") or []
    state, word, reason = _state(meta, spec, status, conditions, containers)
    claims = [Claim("created", _time(meta["creationTimestamp"]))]
    for name, condition in (("scheduled", "PodScheduled"), ("ready", "Ready")):
        c = conditions.get(condition)
        if c and c["status"] == "True" and c.get("lastTransitionTime"):
            claims.append(Claim(name, _time(c["lastTransitionTime"])))
    for c in containers:
        if started := c.get("state", {}).get("running", {}).get("startedAt"):
            claims.append(Claim("started", _time(started)))
    port = _port(spec)
    published = (status["hostIP"], port["hostPort"]) if port.get("hostPort") and status.get("hostIP") else None
    return Instance(
        id=meta["name"],
        service=meta.get("labels", {}).get(specs.SERVICE, ""),
        version=meta.get("annotations", {}).get(specs.VERSION, ""),
        state=state,
        engine_state=word,
        node=spec.get("nodeName"),
        address=status.get("podIP"),
        port=port.get("containerPort"),
        published=published,
        claims=tuple(claims),
        reason=reason,
    )


def _state(
    meta: Mapping[str, Any],
    spec: Mapping[str, Any],
    status: Mapping[str, Any],
    conditions: Mapping[str, Any],
    containers: list[Any],
) -> tuple[InstanceState, str, str]:
    phase = status.get("phase", "Pending")
    inits = status.get("initContainerStatuses") or []
    held = [c["state"]["waiting"] for c in (*_main_first(containers), *inits) if "waiting" in c.get("state", {})]
    waiting: dict[str, Any] = next((w for w in held if w.get("reason") in HINDERED), held[0] if held else {})
    ended: dict[str, Any] = next((c["state"]["terminated"] for c in containers if "terminated" in c.get("state", {})), {})
    if meta.get("deletionTimestamp"):
        return InstanceState.STOPPING, "Terminating", ""
    if phase in ("Succeeded", "Failed"):
        return InstanceState.ENDED, phase, status.get("message") or status.get("reason") or ended.get("reason", "")
    if phase == "Unknown":
        return InstanceState.LOST, phase, status.get("reason", "")
    if conditions.get("Ready", {}).get("status") == "True":
        return InstanceState.READY, "Ready", ""
    if status.get("reason") == "NodeLost":
        return InstanceState.LOST, "NodeLost", status.get("message", "")
    if any("running" in c.get("state", {}) for c in _main_first(containers)[:1]):
        return InstanceState.RUNNING, "Running", conditions.get("Ready", {}).get("message", "")
    if spec.get("nodeName"):
        word = waiting.get("reason") or ended.get("reason") or phase
        return InstanceState.STARTING, word, waiting.get("message") or ended.get("message", "")
    return InstanceState.PENDING, phase, conditions.get("PodScheduled", {}).get("message", "")


def hindered(pod: Mapping[str, Any]) -> str:
    """The kubelet's words if a container can't be made or its image can't be had, else empty."""
    status = pod.get("status", {})
    for c in (*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])):
        waiting = (c.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in HINDERED:
            return ": ".join(filter(None, (waiting["reason"], waiting.get("message", ""))))
    return ""


def _port(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of the service's own container: a cluster may put containers of its own before it. Empty if it has none."""
    for container in _main_first(spec.get("containers") or [])[:1]:
        for port in container.get("ports") or []:
            return dict(port)
    return {}


def _main_first(containers: list[Any]) -> list[Any]:
    """The service's own container first; in the given order where none has its name."""
    return sorted(containers, key=lambda c: c.get("name") != specs.CONTAINER)


def node(n: Mapping[str, Any]) -> Node:
    """A node; CPU and memory are what is allocatable."""
    ready: dict[str, Any] = next((c for c in n["status"].get("conditions", []) if c["type"] == "Ready"), {})
    address = next((a["address"] for a in n["status"].get("addresses", []) if a["type"] == "InternalIP"), "")
    taints = [t for t in n["spec"].get("taints") or [] if t["effect"] in ("NoSchedule", "NoExecute")]
    allocatable = n["status"].get("allocatable", {})
    return Node(
        name=n["metadata"]["name"],
        address=address,
        ready=ready.get("status") == "True",
        schedulable=not n["spec"].get("unschedulable") and not taints,
        engine_state=ready.get("reason", "?"),
        cpu=quantity(allocatable.get("cpu", "0")),
        memory=int(quantity(allocatable.get("memory", "0"))),
    )


def controls(n: Mapping[str, Any]) -> bool:
    """Whether a node is the control plane's alone. One that carries the label but takes pods, as a k3s server or a single
    machine does, is a node like any other."""
    taints = [t for t in n["spec"].get("taints") or [] if t["effect"] in ("NoSchedule", "NoExecute")]
    labelled = any(key in (n["metadata"].get("labels") or {}) for key in CONTROL)
    return any(t["key"] in CONTROL for t in taints) or (labelled and bool(n["spec"].get("unschedulable")))


def quantity(text: Any) -> float:
    """A Kubernetes quantity: "250m", "3910Mi", "2", "129e6". 0, as for one that a node does not tell, if it is none."""
    m = re.fullmatch(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:[eE]([+-]?[0-9]{1,3})|([KMGTPE]i|[numkMGTPE]|))", str(text))
    if not m:
        return 0.0
    return float(Decimal(m[1]).scaleb(int(m[2])) if m[2] else Decimal(m[1]) * _UNITS[m[3]])


def _time(text: str) -> float:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
