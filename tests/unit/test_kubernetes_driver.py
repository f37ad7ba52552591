"""The Kubernetes driver without a cluster: what it makes of the API's objects."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from coebench_kubernetes.driver import KubernetesDriver

MASTER, CONTROL = "node-role.kubernetes.io/master", "node-role.kubernetes.io/control-plane"


def _node(name: str, labels: tuple[str, ...] = (), taints: tuple[tuple[str, str], ...] = (), cordoned: bool = False) -> Any:
    spec: dict[str, Any] = {"unschedulable": True} if cordoned else {}
    if taints:
        spec["taints"] = [{"key": key, "effect": effect} for key, effect in taints]
    return {"metadata": {"name": name, "labels": dict.fromkeys(labels, "")}, "spec": spec, "status": {}}


@pytest.mark.parametrize(
    "node, listed",
    [
        (_node("node"), True),
        (_node("drained", cordoned=True), True),
        (_node("tainted by another", taints=(("dedicated", "NoSchedule"),)), True),
        (_node("kubeadm", (CONTROL,), ((CONTROL, "NoSchedule"),)), False),
        (_node("magnum", (MASTER,), ((MASTER, "NoSchedule"),)), False),
        (_node("old magnum", (MASTER,), cordoned=True), False),
        (_node("taint alone", taints=((MASTER, "NoExecute"),)), False),
        (_node("k3s, which takes pods", (CONTROL, MASTER)), True),
        (_node("preferred elsewhere", (CONTROL,), ((CONTROL, "PreferNoSchedule"),)), True),
    ],
    ids=lambda v: v["metadata"]["name"] if isinstance(v, dict) else "",
)
def test_the_control_planes_own_nodes_are_not_listed(node: Any, listed: bool) -> None:
    driver = KubernetesDriver(None, None, {})
    driver._core = SimpleNamespace(list_node=lambda **_: SimpleNamespace(data=json.dumps({"items": [node]})))
    assert [n.name for n in driver.nodes()] == ([node["metadata"]["name"]] if listed else [])
