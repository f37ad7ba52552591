"""Odd but valid objects of Kubernetes: sidecars, quantities, and pods that can't be made."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from coebench_kubernetes import pods
from coebench_kubernetes.driver import KubernetesDriver

from coebench.contract import InstanceState


@pytest.mark.parametrize(
    "text, value",
    [
        ("129e6", 129e6),
        ("1E3", 1000),
        ("1e-3", 0.001),
        ("1E", 1e18),
        ("2Ei", 2 * 2**60),
        ("3P", 3e15),
        ("1Pi", 2**50),
        ("+1.5Gi", 1.5 * 2**30),
        (".5", 0.5),
        ("5.", 5),
        ("-1", -1),
        ("100n", 1e-7),
        ("250u", 0.00025),
        ("250m", 0.25),
        ("7k", 7000),
        ("3910Mi", 3910 * 2**20),
        (4, 4),
    ],
)
def test_quantities_in_all_forms_of_the_api(text: Any, value: float) -> None:
    assert pods.quantity(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "x", "1K", "1 Gi", "1e", ".", "1.2.3", "1mi", None])
def test_a_text_that_is_no_quantity_ends_no_listing(text: Any) -> None:
    allocatable = {"cpu": text, "memory": "1Gi"}
    node = pods.node({"metadata": {"name": "n"}, "spec": {}, "status": {"allocatable": allocatable}})
    assert (node.cpu, node.memory) == (0, 2**30)


def _pod(*containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    meta = {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {"metadata": meta, "spec": {"containers": list(containers), "nodeName": "n"}, "status": status}


MAIN = {"name": "main", "ports": [{"containerPort": 8080, "hostPort": 81}]}
SIDECAR = {"name": "proxy", "ports": [{"containerPort": 15090}]}
PULLING = {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}}


@pytest.mark.parametrize(
    "containers, port",
    [((SIDECAR, MAIN), 8080), ((MAIN, SIDECAR), 8080), ((SIDECAR, {"name": "main"}), None), (({"name": "a"},), None), ((), None)],
)
def test_the_port_is_that_of_the_services_own_container(containers: Any, port: int | None) -> None:
    instance = pods.instance(_pod(*containers, hostIP="10.0.0.1", podIP="10.1.0.1"))
    assert instance.port == port
    assert instance.published == (("10.0.0.1", 81) if port else None)


def test_a_sidecar_that_runs_does_not_hide_what_the_service_waits_for() -> None:
    statuses = [{"name": "proxy", "state": {"running": {}}}, {"name": "main", "state": PULLING}]
    instance = pods.instance(_pod(SIDECAR, MAIN, containerStatuses=statuses))
    assert (instance.state, instance.engine_state) == (InstanceState.STARTING, "ImagePullBackOff")
    assert instance.reason == 'Back-off pulling image "x"'


def _driver(pods: list[Any], conditions: list[Any]) -> KubernetesDriver:
    driver = KubernetesDriver(None, None, {})
    deployment = {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": {"conditions": conditions}}
    answer = {"items": pods, "metadata": {}}
    driver._core = SimpleNamespace(list_namespaced_pod=lambda *_, **__: SimpleNamespace(data=json.dumps(answer)))
    driver._apps = SimpleNamespace(read_namespaced_deployment=lambda *_, **__: SimpleNamespace(data=json.dumps(deployment)))
    return driver


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"])
@pytest.mark.parametrize("where", ["containerStatuses", "initContainerStatuses"])
def test_a_pod_that_cant_be_made_blocks_its_service(reason: str, where: str) -> None:
    status = {where: [{"name": "main", "state": {"waiting": {"reason": reason, "message": "its words"}}}]}
    assert _driver([_pod(MAIN, **status)], []).progress("web").blocked == f"{reason}: its words"
    starting = {where: [{"name": "main", "state": {"waiting": {"reason": "ContainerCreating"}}}]}
    assert _driver([_pod(MAIN, **starting)], []).progress("web").blocked == ""


def test_refused_pods_block_their_service() -> None:
    words = 'pods "web-1" is forbidden: exceeded quota'
    told = [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words},
        {"type": "Available", "status": "False", "message": "not enough"},
    ]
    progress = _driver([], told).progress("web")
    assert progress.blocked == words
    assert words in progress.said and "not enough" in progress.said
    over = [{"type": "ReplicaFailure", "status": "False", "message": words}]
    assert _driver([], over).progress("web").blocked == ""
