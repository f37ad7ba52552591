"""Scenarios against the real engines, in the smallest size that has all parts: each figure is one that can be.

The engines mostly wait (for the kubelet's next look, for a batch of the manager's), so the bays of all three are up at the same
time, each in a thread of its own. Nothing here is a measurement.
"""

from __future__ import annotations

import statistics
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from coebench import plugins
from coebench.contract import Bay, BaySpec, Driver, Observation, Sample, Usage, now
from coebench.load.prober import BayProber
from coebench.runner.trial import TrialRun

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]
COES = ("k8s", "swarm", "mesos")
Found = Mapping[tuple[str, ...], Sample]
SMALL: Mapping[str, Mapping[str, Any]] = {
    "operations": {"instances": [1], "concurrency": [2]},
    "fill": {"levels": [100], "starts": 1, "lists": 10},
    "api": {"starts": 1},
    "placement": {"settle": 1},
    "idle": {"settle": 1, "seconds": 2},
    "churn": {"seconds": 4, "life": 3},
    "cold-image": {"filler": [8]},
}


class NoJournal:
    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


class Stage:
    """A bay with its driver and prober, on which scenarios are run one after the other."""

    def __init__(self, provisioner: Any, bay: Bay, driver: Driver, prober: BayProber) -> None:
        self.provisioner, self.bay, self.driver, self.prober = provisioner, bay, driver, prober
        self.workload = plugins.load("workloads", "http", "workload")

    def run(self, name: str, changes: Mapping[str, Any]) -> tuple[list[Observation], Found]:
        """Run a scenario; returns what it observed and, by metric and factors, what is derived from that."""
        scenario = plugins.load("scenarios", name, "scenario")()
        seen: list[Observation] = []

        def observe(name: str, *, at: float | None = None, **data: Any) -> None:
            seen.append(Observation(at=now() if at is None else at, name=name, trial="t", data=data))

        settings = {**scenario.settings("smoke"), **changes}
        scenario.check(settings, len(self.bay.nodes))
        trial = TrialRun(
            "t",
            self.bay,
            self.driver,
            self.prober,
            self.workload,
            settings,
            observe,
            lambda: None,
            provisioner=self.provisioner,
            journal=NoJournal(),
        )
        scenario.run(trial)
        assert self.driver.services() == ("coebench-prober",), "a scenario leaves the bay as it found it"
        assert all(n.ready and n.schedulable for n in self.driver.nodes())
        known = {m.name for m in scenario.metrics}
        samples = list(scenario.derive(seen))
        assert {s.metric for s in samples} <= known
        found = {(s.metric, *map(str, s.factors.values())): s for s in samples}
        assert len(found) == len(samples)
        # on a busy machine a service may answer only when its life is over: that is what churn then says
        assert name == "churn" or not any(s.censored for s in samples)
        return seen, found

    def usage(self) -> tuple[float, dict[str, Usage], dict[str, Usage]]:
        """What the engine's processes have used, before and after half a second of processor time was used on n1."""
        from coebench.lab.bay import LabBay

        def engine() -> dict[str, Usage]:
            return {u.host: u for u in self.provisioner.usage(self.bay) if u.what == "engine"}

        before, begun = engine(), time.monotonic()
        LabBay.open(self.bay.name).host("n1").exec(["perl", "-e", "1 while (times)[0] < 0.5"])
        return time.monotonic() - begun, before, engine()


def _story(coe: str, told: dict[str, Any]) -> None:
    """All scenarios on one bay; what became of each is put into `told`: its results, or the text of its failure."""
    from coebench.provision.lab import LabProvisioner

    def unobserved(name: str, **data: object) -> None: ...

    provisioner, name = LabProvisioner(), f"suite-{coe}"
    provisioner.delete(name, NoJournal(), unobserved)  # of a session that was killed
    try:
        made = provisioner.create(name, BaySpec(coe=coe), NoJournal(), unobserved)
        with provisioner.network(made):
            driver = plugins.load("drivers", coe, "COE").connect(provisioner.access(made))
            prober = BayProber(driver, plugins.load("workloads", "loadgen", "workload"), executes=True)
            try:
                prober.start(60)
                stage = Stage(provisioner, made, driver, prober)
                for what in (*SMALL, "usage"):
                    try:
                        told[what] = stage.usage() if what == "usage" else stage.run(what, SMALL[what])
                    except Exception:
                        told[what] = traceback.format_exc()
            finally:
                prober.close()
                driver.close()
    except Exception:
        told["bay"] = traceback.format_exc()
    finally:
        provisioner.delete(name, NoJournal(), unobserved)


@pytest.fixture(scope="module")
def stories(lab_installed: object) -> Iterator[dict[str, dict[str, Any]]]:
    from coebench.lab import lock

    told: dict[str, dict[str, Any]] = {coe: {} for coe in COES}
    with lock.take("tests of the suite"), ThreadPoolExecutor(len(COES)) as pool:
        list(pool.map(_story, told, told.values()))
        yield told


@pytest.fixture(params=COES)
def told(request: pytest.FixtureRequest, stories: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What one COE's bay told of all scenarios."""
    mine = stories[request.param]
    assert "bay" not in mine, mine.get("bay")
    for what, result in mine.items():
        if isinstance(result, str) and what.replace("-", "_") in request.node.name:
            pytest.fail(result)
    return mine


def values(found: Found, metric: str) -> dict[tuple[str, ...], float]:
    return {k[1:]: s.value for k, s in found.items() if k[0] == metric}


def test_operations(told: dict[str, Any]) -> None:
    from coebench.scenarios.operations import OPERATIONS

    _, found = told["operations"]
    seen = values(found, "seen")
    assert [k[0] for k in seen] == list(OPERATIONS)
    assert set(values(found, "timed_out").values()) == {0}
    for (operation, *_), value in seen.items():
        assert 0 < value < 60
        cell = (operation, "1", "2")
        assert found["accepted", *cell].value <= found["seen_max", *cell].value
        assert found["seen_min", *cell].value <= value <= found["seen_max", *cell].value
        assert 0 < found["claimed", *cell].value < 60


def test_fill(told: dict[str, Any]) -> None:
    seen, found = told["fill"]
    (capacity,) = [o.data["instances"] for o in seen if o.name == "fill.capacity"]
    assert capacity == 6
    assert [o.data["instances"] for o in seen if o.name == "fill.level"] == [5]  # one is left for the one that is measured
    assert set(values(found, "start_p50")) == {("100 %",)}
    assert 0 < found["start_p50", "100 %"].value < 60
    listed = [found[f"list_p{q}", "100 %"].value for q in (10, 50, 90)]
    assert 0 < listed[0] <= listed[1] <= listed[2] < 5000


def test_api(told: dict[str, Any]) -> None:
    _, found = told["api"]
    p50 = values(found, "latency_p50")
    assert set(p50) == {(verb, "2") for verb in ("get", "list", "list all", "create", "delete")}
    assert all(0.1 < v < 5000 for v in p50.values())
    assert all(v >= p50[k] for k, v in values(found, "latency_p90").items())
    assert not values(found, "latency_p99")  # 20 requests have none
    assert 0 < found["start_p50", "2"].value < 60


def test_placement(told: dict[str, Any]) -> None:
    seen, found = told["placement"]
    curve = values(found, "serving")
    assert [curve["6", f"{share} %"] for share in (10, 50, 90, 100)] == sorted(curve.values())
    for share in ("10 %", "50 %", "100 %"):
        assert found["scheduled", "6", share].value <= found["serving", "6", share].value
    assert found["lost", "6"].value == 0
    assert found["overshoot", "6"].value == 0
    assert found["rate", "6"].value == pytest.approx(6 / found["serving", "6", "100 %"].value)
    spread = {o.data["when"]: o.data["nodes"] for o in seen if o.name == "spread"}
    assert [sum(n.values()) for n in spread.values()] == [6, 6, 9]
    (drained,) = [o.data["node"] for o in seen if o.name == "draining"]
    assert spread["placed"][drained] > 0
    assert 1 <= found["imbalance", "6", "placed"].value <= 3
    assert 0 < found["moved", "6"].value < 60


def test_cold_image(told: dict[str, Any]) -> None:
    """By the registry's own log each node fetched the whole image once, and none that had it fetched it again."""
    seen, found = told["cold-image"]
    (image,) = [o.data for o in seen if o.name == "pushed"]
    assert image["unpacked"] > image["size"] > 4 << 20  # of 8 MiB of filler
    nodes: dict[str, set[str]] = {"cold-8": set(), "warm-8": set()}
    for o in seen:
        if o.name == "instance" and o.data["node"]:
            nodes[o.data["service"]].add(o.data["node"])
    fetched = {o.data["service"]: o.data["hosts"] for o in seen if o.name == "fetched"}
    assert set(fetched["cold-8"]) == nodes["cold-8"]
    assert set(fetched["warm-8"]) == nodes["warm-8"] - nodes["cold-8"]
    for size in (*fetched["cold-8"].values(), *fetched["warm-8"].values()):
        assert size == pytest.approx(image["size"], rel=0.01)  # Mesos keeps a configuration that it has fetched once
    for pull in ("cold", "warm"):
        cell = (pull, "8 MiB")
        assert 0 < found["accepted", *cell].value <= found["first_answer", *cell].value
        assert found["first_answer", *cell].value <= found["all_answer", *cell].value < 60
    assert found["adds", "8 MiB"].value == pytest.approx(
        found["all_answer", "cold", "8 MiB"].value - found["all_answer", "warm", "8 MiB"].value
    )


def test_idle(told: dict[str, Any]) -> None:
    seen, found = told["idle"]
    memory = values(found, "memory")
    assert set(memory) == {(role, n) for role in ("control", "node") for n in ("0", "3")}
    assert all(5 < v < 4096 for v in memory.values())
    assert all(0 <= v < 2 for v in values(found, "cpu").values())
    assert 0 <= found["instance_memory",].value < 500  # an nginx and whatever holds it, less what the engine gave back meanwhile
    (last,) = [o.data["usage"] for o in seen if o.name == "usage" and (o.data["instances"], o.data["which"]) == (3, "end")]
    assert sum(u["memory"] for u in last if u["what"] == "instances") > 1 << 20
    programs = {k[0] for k in values(found, "program_memory")}
    assert programs & {"kubelet", "dockerd", "mesos-agent"}
    assert programs & {"apiserver", "kube-apiserver", "dockerd", "mesos-master"}
    assert set(values(found, "latency_p50")) == {("get", "10"), ("list all", "10")}


def test_churn(told: dict[str, Any]) -> None:
    seen, found = told["churn"]
    assert found["leftovers",].value == 0, [o.data for o in seen if o.name == "leftovers"]
    made = [o for o in seen if o.name == "churn.create"]
    assert len(made) == 4
    assert statistics.median(o.data["late"] for o in made) < 1  # at the planned time, whether the engine keeps up or not
    assert found["start_p50",].value > 0
    assert found["accepted_p50",].value < 1000 * found["start_p50",].value


def test_usage_counts_what_was_used(told: dict[str, Any]) -> None:
    """Half a second of processor time, used in a host, is found there and nowhere else."""
    wall, before, after = told["usage"]
    used = {h: after[h].cpu - before[h].cpu for h in after}
    assert 0.45 < used["n1"] < 0.5 + 2 * wall  # the engine goes on meanwhile
    assert all(u.memory > 1 << 20 and u.processes > 1 for u in after.values())
