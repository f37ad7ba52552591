"""Scenarios that break things or change them under load, on real engines in smoke size: one bay for each COE."""

from __future__ import annotations

import importlib
import json
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from trials import Bench, bench

from coebench.contract import Bay, BaySpec, LoadPlan, LoadResult, Observation, Target
from coebench.lab import bay as bays
from coebench.lab import faults
from coebench.runner.trial import _Deadline
from coebench.scenarios.eyes import Eyes, deployed

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


class NoJournal:
    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


def unobserved(name: str, **data: object) -> None: ...


@pytest.fixture(scope="module")
def harmonised(lab_installed: object, coe: str) -> Iterator[Bench]:
    """A bay with the harmonised timeouts, its driver and prober, up once for each COE."""
    from coebench.lab import lock
    from coebench.provision.lab import LabProvisioner

    name = f"trouble-{coe}"
    with lock.take(f"tests of {coe}"):
        provisioner = LabProvisioner()
        provisioner.delete(name, NoJournal(), unobserved)  # of a session that was killed
        try:
            made: Bay = provisioner.create(name, BaySpec(coe=coe, timeouts="harmonised"), NoJournal(), unobserved)
            with provisioner.network(made), bench(provisioner, made) as it:
                yield it
        finally:
            provisioner.delete(name, NoJournal(), unobserved)


def test_harmonised_timeouts_are_in_force(harmonised: Bench) -> None:
    """What the manifest prints is what the engines themselves say, or were started with."""
    told = harmonised.bay.timeouts
    control = bays.LabBay.open(harmonised.bay.name).host("c1")
    if harmonised.bay.spec.coe == "k8s":
        lines = {n: control.exec(["sh", "-c", f"tr '\\0' ' ' < /proc/$(cat /run/coebench/{n}.pid)/cmdline"])
                 for n in ("controller-manager", "apiserver")}  # fmt: skip
        for name, value in told.items():
            program, _, flag = name.partition(" ")
            if program in lines:
                assert f"{flag}={value}" in lines[program].split()
        kubelet = bays.LabBay.open(harmonised.bay.name).host("n1").exec(["cat", "/etc/kubernetes/kubelet.yaml"])
        assert f'"nodeLeaseDurationSeconds": {told["kubelet nodeLeaseDurationSeconds"]},' in kubelet
    elif harmonised.bay.spec.coe == "swarm":
        beat = control.exec(["docker", "info", "--format", "{{.Swarm.Cluster.Spec.Dispatcher.HeartbeatPeriod}}"]).strip()
        assert beat in (told["swarm --dispatcher-heartbeat"], str(int(told["swarm --dispatcher-heartbeat"][:-1]) * 10**9))
        for service in control.exec(["docker", "service", "ls", "-q"]).split():  # the prober's
            shown = control.exec(
                ["docker", "service", "inspect", "--format", "{{json .Spec.TaskTemplate.RestartPolicy}}", service]
            )
            assert f"{json.loads(shown)['Delay']}s" == told["service --restart-delay"] == "0s"
    else:
        flags = control.exec(["curl", "-s", "http://10.77.0.1:5050/flags"])
        assert f'"agent_ping_timeout":"{told["MESOS_AGENT_PING_TIMEOUT"]}"' in flags
        assert f'"max_agent_ping_timeouts":"{told["MESOS_MAX_AGENT_PING_TIMEOUTS"]}"' in flags


def test_a_change_in_an_instance_is_seen_within_20_ms(harmonised: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a test that knows when it happened: a server of its own in an instance's network begins, has another name and ends;
    then instances are killed."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks/lab"))
    sys.modules.pop("bench", None)
    bench: Any = importlib.import_module("bench")  # that of the lab; the folder of another has the same name
    trial = harmonised.trial([], {})
    trial.driver.deploy(replace(trial.workload.service("sight", 12, "v1"), health=None))
    deadline = _Deadline("sight", 60, lambda: None)
    with Eyes(trial, "sight") as eyes:
        deployed(eyes, 12, deadline)
        instances = list(eyes.instances.values())
    one = instances[0]
    assert one.node and one.address and one.port
    (pid, *_) = [p.pid for p in faults.listeners(bays.LabBay.open(harmonised.bay.name).host(one.node), one.address, one.port)]
    found = bench.changes(trial.prober, pid, one.address, 15)
    for i, instance in enumerate(instances):
        assert instance.address and instance.port
        watch = trial.prober.watch(Target(instance.address, instance.port))
        bench.seen(trial.prober, watch, "up", time.time())
        time.sleep(0.05 + 0.0013 * i)
        at, _ = trial.end(instance)
        found.append(bench.seen(trial.prober, watch, "down", at)._replace(kind="killed"))
        trial.prober.unwatch(watch)
    trial.remove("sight")
    for kind, count in (("up", 15), ("changed", 15), ("down", 15), ("killed", 12)):
        of_it = [s for s in found if s.kind == kind]
        assert len(of_it) == count
        assert min(s.had for s in of_it) > -1, kind  # nothing is seen before it happens, but for the clocks' uncertainty
        assert statistics.median(s.told for s in of_it) < 20, kind
        assert all(s.told >= s.had for s in of_it)


def test_failed_requests_are_counted_exactly(harmonised: Bench) -> None:
    """An instance's health path is taken away and given back under load: its server's log and the generator agree."""
    seen: list[Observation] = []
    trial = harmonised.trial(seen, {})

    def sent(plan: LoadPlan) -> LoadResult:
        ended = threading.Event()
        flow = trial.prober.begin(plan, lambda burst: ended.set())
        assert ended.wait(5)
        return flow.stop()

    spec = trial.workload.service("exact", 3, "v1")
    trial.driver.deploy(replace(spec, health=None))
    deadline = _Deadline("exact", 60, lambda: None)
    with Eyes(trial, "exact") as eyes:
        deployed(eyes, 3, deadline)
        eyes.begin(300, 3, 1.0, 0.1, path="/healthz")
        eyes.watch_for(0.5, deadline)
        one = min(eyes.instances.values(), key=lambda i: i.id)
        assert one.address and one.port
        once = LoadPlan(
            targets=(Target(one.address, one.port),),
            path="/healthz",
            rate=20,
            arrivals="constant",
            connections=1,
            duration=0.05,
            warmup=0,
        )
        removed = sent(replace(once, method="DELETE"))
        assert removed.ok == 1
        eyes.watch_for(1.0, deadline)
        url = f"http://{one.address}:{one.port}/healthz"
        given = harmonised.prober.execute(["hey", "-n", "1", "-c", "1", "-m", "PUT", "-d", "ok", url], 10).out
        assert re.search(r"\[20[14]\]\s+1 responses", given), given
        eyes.watch_for(0.5, deadline)
        result = eyes.end()
        logs = [harmonised.prober.execute(["wget", "-qO-", f"http://{i.address}:{i.port}/failed"], 10).out
                for i in eyes.instances.values()]  # fmt: skip
    trial.remove("exact")
    failed = [line for log in logs for line in log.splitlines() if re.search(r" GET /healthz$", line)]
    assert result.errors == {"bad_status": len(failed)}
    assert len(failed) > 30
    told = [m for o in seen if o.name == "load.second" for m in o.data["mishaps"] if m[3] != "slow"]
    assert len(told) == len(failed)
    assert result.planned == result.ok + sum(result.errors.values()) + result.unsent + result.inflight


def test_heal(harmonised: Bench) -> None:
    faults = ["kill", "unhealthy", "cut"]
    if harmonised.bay.spec.coe == "mesos":  # the quickest to be made: the others' faults are made the same way
        faults += ["drain", "agent", "control", "crash"]
    observations, samples = harmonised.run("heal", faults=faults, hold=3)
    for fault in faults:
        assert not samples["orphans"][fault].value, fault
    for fault in ("kill", "unhealthy", "cut"):
        assert not samples["full_capacity"][fault].censored
        assert samples["full_ready"][fault].value < 45
        assert samples["lost_capacity"][fault].value > 0
        assert not samples["noticed"][fault].censored
    assert samples["failed"]["cut"].value > 10  # nobody can know at once that packets vanish
    assert samples["noticed"]["cut"].value > 1
    made = next(o for o in observations if o.name == "fault.made" and o.data["fault"] == "kill")
    assert "behind the engine's back" in made.data["how"]
    down = next(o for o in observations if o.name == "target" and o.at >= made.at and not o.data["up"])
    assert down.data["target"] in made.data["targets"]
    assert down.at - made.at < 0.1


def test_update_under_load(harmonised: Bench) -> None:
    _, samples = harmonised.run("update-under-load", strategies=["surge", "bad"], bad_window=5)
    assert samples["all_new"]["surge"].value <= samples["done"]["surge"].value + 1
    assert samples["first_new"]["surge"].value <= samples["last_old"]["surge"].value <= samples["all_new"]["surge"].value
    assert samples["old_left"]["bad"].value >= 2  # a version that never is healthy takes none of the old ones' place


def test_network(harmonised: Bench) -> None:
    observations, samples = harmonised.run("network", seconds=1, warmup=0)
    assert samples["throughput"]["endpoints", "cross node"].value > 0.1
    assert samples["round_trip"]["endpoints", "cross node"].value < samples["round_trip"]["proxy", "any"].value
    tcp = samples["tcp_round_trip"]
    assert 0.001 < tcp["endpoints", "same node"].value < samples["tcp_round_trip_p99"]["endpoints", "same node"].value
    assert tcp["endpoints", "cross node"].value < samples["round_trip"]["proxy", "any"].value
    assert samples["requests"]["proxy", "any"].value > 10
    asked = {o.data["routing"] for o in observations if o.name in ("reach", "routing.refused")}
    assert asked == {"native", "proxy"}  # measured, or refused with the reason
    assert {s for s in harmonised.driver.services() if s.startswith("network")} == set()
