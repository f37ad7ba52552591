"""What others run on a cluster is never touched: here through each engine's own API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from coebench import plugins
from coebench.contract import Bay, Conflict, MissingService

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def driver(bay: tuple[Any, Bay], coe: str) -> Iterator[Any]:
    provisioner, made = bay
    connected = plugins.load("drivers", coe, "COE").connect(provisioner.access(made))
    yield connected
    connected.close()


@pytest.mark.parametrize("coe", ["swarm"], indirect=True, scope="module")
def test_a_strangers_service_of_the_same_name(driver: Any) -> None:
    """Docker has one list of names for everybody's services."""
    from docker.types import ContainerSpec, ServiceMode, TaskTemplate

    api = driver._api
    made = api.create_service(TaskTemplate(ContainerSpec("coebench-http:v1")), name="web", mode=ServiceMode("replicated", 0))
    try:
        spec = plugins.load("workloads", "http", "workload").service("web", 1, "v1")
        with pytest.raises(Conflict):
            driver.deploy(spec)
        driver.remove("web")
        assert api.inspect_service(made["ID"])["Spec"]["Name"] == "web"
        assert driver.services() == ()
        assert driver.instances("web") == ()
        with pytest.raises(MissingService):
            driver.scale("web", 3)
    finally:
        api.remove_service(made["ID"])


@pytest.mark.parametrize("coe", ["swarm"], indirect=True, scope="module")
def test_scaling_leaves_the_task_template(driver: Any) -> None:
    """A template that comes back with defaults filled in is another one, and every task would be replaced."""
    spec = plugins.load("workloads", "http", "workload").service("scaled", 0, "v1")
    driver.deploy(spec)
    try:
        before = driver._api.inspect_service("scaled")["Spec"]
        driver.scale("scaled", 0)
        assert driver._api.inspect_service("scaled")["Spec"] == before
    finally:
        driver.remove("scaled")


@pytest.mark.parametrize("coe", ["k8s"], indirect=True, scope="module")
def test_a_strangers_pods(driver: Any) -> None:
    """Others' objects are in other namespaces, or in ours without our label."""
    labels = {"app": "web"}
    pod = {"containers": [{"name": "main", "image": "coebench-http:v1"}]}
    body = {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    for namespace in ("default", "coebench"):
        driver._apps.create_namespaced_deployment(namespace, body)
    try:
        assert driver.services() == ()
        assert driver.instances("web") == ()
        driver.remove("web")
        driver._apps.read_namespaced_deployment("web", "default")
        driver._apps.read_namespaced_deployment("web", "coebench")
    finally:
        for namespace in ("default", "coebench"):
            driver._apps.delete_namespaced_deployment("web", namespace)


@pytest.mark.parametrize("coe", ["mesos"], indirect=True, scope="module")
def test_a_strangers_apps(driver: Any) -> None:
    """Ours are below /coebench; an app of the same name elsewhere is another."""
    from marathon.models import MarathonApp

    client = driver._client
    for ident in ("/web", "/others/web"):
        client.create_app(ident, MarathonApp(id=ident, cmd="sleep 1000", instances=0))
    try:
        assert driver.services() == ()
        driver.remove("web")
        assert {a.id for a in client.list_apps()} == {"/web", "/others/web"}
    finally:
        for ident in ("/web", "/others/web"):
            client.delete_app(ident, force=True)
