"""Where the Marathon-compatible scheduler puts instances, and what it tells Mesos to start."""

from __future__ import annotations

from collections import Counter
from typing import Any

from coebench.lab.marathon.apps import App, normalised
from coebench.lab.marathon.constraints import allowed
from coebench.lab.marathon.instances import Instance
from coebench.lab.marathon.placement import Offer, environment, place, task_info


def offer(number: int, cpus: float = 4, mem: float = 1024, ports: tuple[int, int] = (31_000, 31_099)) -> Offer:
    resources: list[dict[str, Any]] = [
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": mem}},
        {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": ports[0], "end": ports[1]}]}},
    ]
    raw = {
        "id": {"value": f"o{number}"},
        "agent_id": {"value": f"s{number}"},
        "hostname": f"n{number}",
        "url": {"address": {"ip": f"10.0.0.{number}", "port": 5051}},
        "resources": resources,
        "attributes": [{"name": "rack", "type": "TEXT", "text": {"value": f"r{number % 2}"}}],
    }
    return Offer.of(raw)


def app(**parts: Any) -> App:
    return App(normalised({"id": "/shop/web", "cmd": "x", "cpus": 1, "mem": 100, **parts}), "2", "1")


def put(given: App, count: int, offers: list[Offer], siblings: list[Instance] | None = None) -> Counter[str]:
    placed, _ = place(given, count, offers, siblings or [], [o.attributes for o in offers])
    return Counter(i.host for i in placed)


def test_spreads_evenly_and_stops_when_full() -> None:
    offers = [offer(1), offer(2), offer(3)]
    assert put(app(), 9, offers) == {"n1": 3, "n2": 3, "n3": 3}
    placed, refused = place(app(), 9, offers, [], [])
    assert len(placed) == 3 and refused == ["InsufficientCpus"] * 3


def test_evens_out_what_is_there() -> None:
    offers = [offer(1), offer(2)]
    first, _ = place(app(), 2, offers[:1], [], [])
    assert put(app(), 2, offers, first) == {"n2": 2}


def test_says_what_is_missing() -> None:
    assert place(app(mem=5000), 1, [offer(1)], [], [])[1] == ["InsufficientMemory"]
    assert place(app(constraints=[["rack", "CLUSTER", "r9"]]), 1, [offer(1)], [], [])[1] == ["UnfulfilledConstraint"]
    assert place(app(), 2, [offer(1, ports=(5, 5))], [], [])[1] == ["InsufficientPorts"]


def test_ports_are_different_and_fixed_ones_are_kept() -> None:
    placed, _ = place(app(cpus=0.1, ports=[0, 0]), 9, [offer(1)], [], [])
    ports = [p for i in placed for p in i.ports]
    assert len(set(ports)) == 18 and all(31_000 <= p <= 31_099 for p in ports)
    fixed = app(ports=[31_007], requirePorts=True)
    assert [i.ports for i in place(fixed, 2, [offer(1)], [], [])[0]] == [[31_007]]


def test_the_environment_is_marathons() -> None:
    given = app(env={"A": "b"}, labels={"x-y": "z"}, portDefinitions=[{"port": 80, "name": "web"}, {"port": 81}])
    (instance,), _ = place(given, 1, [offer(1)], [], [])
    found = environment(given, instance)
    first, second = (str(p) for p in instance.ports)
    expected = {
        "A": "b",
        "HOST": "n1",
        "MARATHON_APP_ID": "/shop/web",
        "MARATHON_APP_VERSION": "2",
        "MARATHON_APP_LABEL_X_Y": "z",
        "MARATHON_APP_RESOURCE_CPUS": "1.0",
        "MESOS_TASK_ID": instance.id,
        "PORT": first,
        "PORT0": first,
        "PORT1": second,
        "PORTS": f"{first},{second}",
        "PORT_80": first,
        "PORT_WEB": first,
    }
    assert expected.items() <= found.items()
    assert instance.id.startswith("shop_web.instance-")
    assert instance.address == "10.0.0.1"


def test_task_info() -> None:
    container = {"type": "MESOS", "docker": {"image": "web:1"}}
    given = app(cmd=None, args=["-x"], container=container, taskKillGracePeriodSeconds=2)
    (instance,), _ = place(given, 1, [offer(1)], [], [])
    task = task_info(given, instance)
    assert task["name"] == "web.shop"
    assert task["command"]["shell"] is False and task["command"]["arguments"] == ["-x"]
    assert task["container"]["mesos"]["image"] == {"type": "DOCKER", "docker": {"name": "web:1"}}
    assert task["kill_policy"]["grace_period"]["nanoseconds"] == 2_000_000_000
    ranges = next(r for r in task["resources"] if r["name"] == "ports")["ranges"]["range"]
    assert ranges == [{"begin": instance.ports[0], "end": instance.ports[0]}]
    plain = task_info(app(cmd=None, args=["/bin/x", "-y"]), instance)["command"]
    assert (plain["value"], plain["arguments"]) == ("/bin/x", ["/bin/x", "-y"])


AGENTS = [{"hostname": f"n{n}", "rack": f"r{n % 2}"} for n in range(4)]


def fits(constraint: list[str], siblings: list[int]) -> list[int]:
    there = [AGENTS[n] for n in siblings]
    return [n for n, agent in enumerate(AGENTS) if allowed([constraint], agent, there, AGENTS)]


def test_constraints() -> None:
    assert fits(["hostname", "UNIQUE"], [0, 2]) == [1, 3]
    assert fits(["rack", "CLUSTER", "r1"], []) == [1, 3]
    assert fits(["rack", "CLUSTER"], [1]) == [1, 3]
    assert fits(["rack", "CLUSTER"], []) == [0, 1, 2, 3]
    assert fits(["rack", "GROUP_BY"], [0, 2]) == [1, 3]
    assert fits(["rack", "GROUP_BY"], [0, 1]) == [0, 1, 2, 3]
    assert fits(["hostname", "GROUP_BY", "2"], [0]) == [1, 2, 3]
    assert fits(["hostname", "GROUP_BY", "2"], [0, 0, 1]) == [1]
    assert fits(["hostname", "LIKE", "n[12]"], []) == [1, 2]
    assert fits(["hostname", "UNLIKE", "n[12]"], []) == [0, 3]
    assert fits(["hostname", "MAX_PER", "2"], [0, 0, 1]) == [1, 2, 3]
    assert fits(["zone", "LIKE", "x"], []) == [], "an agent without the attribute"


def test_constraints_hold_while_many_are_placed() -> None:
    offers = [offer(1), offer(2), offer(3)]
    assert put(app(constraints=[["hostname", "UNIQUE"]]), 5, offers) == {"n1": 1, "n2": 1, "n3": 1}


def test_an_update_may_stand_beside_what_it_replaces() -> None:
    unique = app(constraints=[["hostname", "UNIQUE"]])
    offers = [offer(1), offer(2)]
    before, _ = place(unique, 2, offers, [], [])
    assert put(unique, 2, offers, before) == {}
    after = App(unique.spec, "3", "3")
    assert put(after, 2, offers, before) == {"n1": 1, "n2": 1}
