"""What apps the Marathon-compatible scheduler takes, and what it makes of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from coebench.lab.marathon.apps import App, Invalid, app_id, merged, normalised
from coebench.lab.marathon.deployments import planned


def errors(spec: Any) -> dict[str, list[str]]:
    with pytest.raises(Invalid) as refused:
        normalised(spec)
    return {d["path"]: d["errors"] for d in refused.value.details}


def test_defaults_are_marathons() -> None:
    spec = normalised({"id": "a/b/", "cmd": "x"})
    assert spec["id"] == "/a/b"
    assert (spec["cpus"], spec["mem"], spec["instances"], spec["backoffFactor"]) == (1, 128, 1, 1.15)
    assert spec["unreachableStrategy"] == {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0}
    assert spec["upgradeStrategy"] == {"minimumHealthCapacity": 1, "maximumOverCapacity": 1}
    (port,) = spec["portDefinitions"]
    assert port["name"] == "default" and 10_000 <= port["port"] < 20_000
    assert normalised({**spec, "ports": [1], "tasks": [], "version": "x"}) == spec, "an answer can be sent back"


def test_service_ports_differ() -> None:
    taken: set[int] = set(range(10_000, 19_999))
    assert normalised({"id": "a", "cmd": "x"}, taken)["portDefinitions"][0]["port"] == 19_999


def test_health_checks_are_completed() -> None:
    spec = normalised({"id": "a", "cmd": "x", "healthChecks": [{"path": "/h"}]})
    (check,) = spec["healthChecks"]
    assert (check["protocol"], check["intervalSeconds"], check["maxConsecutiveFailures"]) == ("HTTP", 60, 3)
    assert check["portIndex"] == 0 and check["gracePeriodSeconds"] == 300


def test_mappings_of_the_old_place_are_understood() -> None:
    docker = {"image": "web:1", "portMappings": [{"containerPort": 80, "hostPort": 0}], "network": "HOST"}
    spec = normalised({"id": "a", "container": {"type": "MESOS", "docker": docker}})
    assert spec["container"]["docker"] == {"image": "web:1"}
    assert spec["container"]["portMappings"][0]["hostPort"] == 0
    assert "portDefinitions" not in spec
    assert App(spec, "v", "v").image == "web:1"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"id": "A_B"}, "/id"),
        ({"id": None}, "/id"),
        ({"cmd": None}, "/"),
        ({"args": ["x"]}, "/"),
        ({"cmd": " "}, "/cmd"),
        ({"instances": -1}, "/instances"),
        ({"instances": 1.5}, "/instances"),
        ({"cpus": "many"}, "/cpus"),
        ({"gpus": 1}, "/gpus"),
        ({"mem": -1}, "/mem"),
        ({"nonsense": 1}, "/nonsense"),
        ({"env": {"A": {"secret": "x"}}}, "/env(A)"),
        ({"fetch": [{"uri": "x"}]}, "/fetch"),
        ({"secrets": {"a": {}}}, "/secrets"),
        ({"networks": [{"mode": "container"}]}, "/networks"),
        ({"ports": ["x"]}, "/ports"),
        ({"portDefinitions": [{"port": 70_000}]}, "/portDefinitions(0)/port"),
        ({"portDefinitions": [{"name": "a"}, {"name": "a"}]}, "/portDefinitions(1)/name"),
        ({"container": {"type": "DOCKER", "docker": {"image": "x"}}}, "/container/type"),
        ({"container": {"docker": {"image": "x", "privileged": True}}}, "/container/docker/privileged"),
        ({"container": {"docker": {"image": "x", "network": "BRIDGE"}}}, "/container/docker/network"),
        ({"healthChecks": [{"protocol": "COMMAND"}]}, "/healthChecks(0)/protocol"),
        ({"healthChecks": [{"protocol": "TCP"}]}, "/healthChecks(0)/protocol"),
        ({"healthChecks": [{"portIndex": 3}]}, "/healthChecks(0)/portIndex"),
        ({"healthChecks": [{"path": "x"}]}, "/healthChecks(0)/path"),
        ({"readinessChecks": [{}, {}]}, "/readinessChecks"),
        ({"constraints": [["hostname"]]}, "/constraints(0)"),
        ({"constraints": [["hostname", "NEAR"]]}, "/constraints(0)"),
        ({"constraints": [["hostname", "LIKE", "("]]}, "/constraints(0)"),
        ({"constraints": [["hostname", "UNIQUE", "x"]]}, "/constraints(0)"),
        ({"constraints": [["rack", "MAX_PER", "few"]]}, "/constraints(0)"),
        ({"upgradeStrategy": {"minimumHealthCapacity": 2}}, "/upgradeStrategy/minimumHealthCapacity"),
        ({"unreachableStrategy": {"inactiveAfterSeconds": 9, "expungeAfterSeconds": 3}}, "/unreachableStrategy"),
        ({"killSelection": "RANDOM"}, "/killSelection"),
        ({"backoffFactor": 0.5}, "/backoffFactor"),
        ({"taskKillGracePeriodSeconds": -1}, "/taskKillGracePeriodSeconds"),
    ],
)
def test_what_is_refused(change: dict[str, Any], path: str) -> None:
    assert path in errors({"id": "a", "cmd": "x", **change})


def test_a_partial_update() -> None:
    old = normalised({"id": "a", "cmd": "x", "env": {"A": "1"}})
    assert normalised(merged(old, {"instances": 3})) == {**old, "instances": 3}
    assert "cmd" not in merged(old, {"args": ["y"]})
    assert merged(old, {"env": {"B": "2"}})["env"] == {"B": "2"}, "what is named is replaced whole"
    port = old["portDefinitions"][0]["port"]
    assert normalised(merged(old, {"ports": [port]})) == old
    assert normalised(merged(old, {"ports": [7]}))["portDefinitions"][0]["port"] == 7


def test_only_the_size_is_no_change_of_configuration() -> None:
    one = App(normalised({"id": "a", "cmd": "x", "ports": [1]}), "1", "1")
    assert not App({**one.spec, "instances": 9}, "2", "2").differs_in_config(one)
    assert App({**one.spec, "labels": {"a": "b"}}, "2", "2").differs_in_config(one)


def test_ids() -> None:
    assert app_id("//a//b/") == "/a/b"


def test_ports_of_checks() -> None:
    ports = [{"name": "web"}, {"name": "admin"}]
    app = App(normalised({"id": "a", "cmd": "x", "portDefinitions": ports}), "1", "1")
    assert app.port_of({"portIndex": 1}, [31_000, 31_001]) == 31_001
    assert app.port_of({"portName": "admin"}, [31_000, 31_001]) == 31_001
    assert app.port_of({"port": 80}, [31_000, 31_001]) == 80
    assert app.port_of({"portIndex": 2}, [31_000, 31_001]) is None


JUNK = (5, 1.5, "x", True, [], [5], [[1]], [{}], {}, {"a": 5}, {"a": []})


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All parts of an app."""
    yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def test_what_is_of_a_wrong_type_is_refused_or_harmless() -> None:
    container = {
        "docker": {"image": "x:1"},
        "portMappings": [{"containerPort": 80}],
        "volumes": [{"containerPath": "a", "hostPath": "b"}],
    }
    whole = {"id": "/a", "container": container, "healthChecks": [{"path": "/"}], "readinessChecks": [{}], "args": ["x"]}
    other = App(normalised({"id": "/z", "cmd": "x"}), "1", "1")
    for base in (normalised(whole), other.spec):
        for place in [*places(base), ("ports",), ("uris",), ("user",), ("role",), ("portDefinitions",)]:
            for junk in JUNK:
                changed = copy.deepcopy(base)
                part: Any = changed
                for key in place[:-1]:
                    part = part[key]
                if place:
                    part[place[-1]] = junk
                try:
                    app = App(normalised(changed if place else junk), "1", "1")
                except Invalid:
                    continue
                app.shown()
                for check in app.spec["healthChecks"] + app.spec["readinessChecks"]:
                    app.port_of(check, [1, 2])
                planned({app.id: None}, {app.id: app, "/z": other}, "1")
