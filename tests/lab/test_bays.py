"""Bays of real engines: they come up, can be changed, and leave nothing behind whatever becomes of them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coebench.contract import BadInput, BayFailed, BaySpec, NodeFault
from coebench.lab import bay as bays
from coebench.lab import cgroups, install, lock, plan
from coebench.provision.lab import LabProvisioner

from footprint import Footprint

pytestmark = pytest.mark.lab
COES = ("mesos", "swarm", "k8s")


class NoJournal:
    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


def quiet(*_: object, **__: object) -> None: ...


@pytest.fixture
def make(lab_installed: object) -> Iterator[Callable[..., bays.LabBay]]:
    """Makes bays that are gone after the test."""
    made: list[str] = []

    def make_bay(coe: str, name: str = "", **spec: object) -> bays.LabBay:
        name = name or f"t-{coe}"
        made.append(name)
        layers, images = install.layers(coe, quiet), install.image_folder(coe, quiet)
        return bays.LabBay.create(name, BaySpec(coe=coe, **spec), layers, images, quiet)  # type: ignore[arg-type]

    yield make_bay
    for name in made:
        bays.erase(name)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("coe", COES)
def test_ten_bays_leave_nothing(coe: str, lab_installed: object) -> None:
    before = Footprint.take()
    layers, images = install.layers(coe, quiet), install.image_folder(coe, quiet)
    for _ in range(10):
        bay = bays.LabBay.create(f"ten-{coe}", BaySpec(coe=coe), layers, images, quiet)
        pids = cgroups.pids(bay.name)
        assert len(pids) > 8
        bay.delete()
        assert not [p for p in pids if Path(f"/proc/{p}/exe").exists()]
        assert not bay.folder.exists()
    assert Footprint.take().more_than(before) == {}
    assert bays.names() == []


def test_a_host_is_its_own_machine(make: Callable[..., bays.LabBay]) -> None:
    bay = make("mesos", memory=2 << 30)
    node = bay.host("n1")
    assert node.exec(["hostname"]).strip() == "n1"
    assert int(node.exec(["grep", "MemTotal", "/proc/meminfo"]).split()[1]) == 2 << 20
    assert node.exec(["cat", "/proc/1/comm"]).strip() == "tini"
    links = node.exec(["ip", "-o", "link"]).splitlines()
    assert [line.split()[1].split("@")[0] for line in links] == ["lo:", "eth0"]
    # the machine's sysctls can't be changed from inside, nor its files
    with pytest.raises(BayFailed):
        node.exec(["sh", "-c", "echo 99 > /proc/sys/vm/swappiness"])
    node.exec(["sh", "-c", "echo hello > /etc/only-here"])
    assert not Path("/etc/only-here").exists()
    assert bay.host("n2").exec(["ls", "/etc/only-here"], check=False) == ""


@pytest.mark.parametrize("cores", [0.5])
def test_a_cpu_limit_holds(make: Callable[..., bays.LabBay], cores: float) -> None:
    bay = make("mesos", nodes=1, cpu=cores)
    node = bay.host("n1")
    used, begun = cgroups.cpu_seconds(node.cgroup), time.monotonic()
    node.exec(["timeout", "3", "sh", "-c", "while :; do :; done"], check=False)
    took = time.monotonic() - begun
    assert (cgroups.cpu_seconds(node.cgroup) - used) / took <= cores * 1.15


def test_resize_and_replace(make: Callable[..., bays.LabBay]) -> None:
    bay = make("mesos", nodes=2)

    def agents() -> set[str]:
        with bay.network():
            connection = http.client.HTTPConnection(plan.address("c1"), 5050, timeout=5)
            connection.request("GET", "/slaves")
            return {s["hostname"] for s in json.loads(connection.getresponse().read())["slaves"] if s["active"]}

    bay.resize(3, quiet)
    assert agents() == {"n1", "n2", "n3"}
    bay.resize(1, quiet)
    assert [h.spec.name for h in bay.hosts] == ["c1", "n1"]
    again = bays.LabBay.open(bay.name)
    assert [h.spec.name for h in again.hosts] == ["c1", "n1"]


@pytest.mark.timeout(180)
def test_a_crashed_swarm_node_comes_back(make: Callable[..., bays.LabBay]) -> None:
    bay = make("swarm", nodes=2)
    bay.crash("n2")
    assert not bay.host("n2").alive
    bay.restart("n2", quiet)
    assert bay.host("n2").alive
    with bay.network():
        out = bay.host("c1").exec(["docker", "node", "ls", "--format", "{{.Hostname}} {{.Status}}"])
    assert "n2 Ready" in out


def test_an_engine_that_ends_is_told_with_its_log(make: Callable[..., bays.LabBay]) -> None:
    bay = make("mesos")
    host = bay.host("c1")
    pid = host.exec(["cat", "/run/coebench/mesos-master.pid"]).strip()
    host.exec(["kill", "-9", pid])
    deadline = time.monotonic() + 10
    with pytest.raises(BayFailed, match="mesos-master on c1 ended with status 137") as caught:
        while time.monotonic() < deadline:
            bay.check()
    assert caught.value.evidence


def test_the_lab_is_one_runs_at_a_time(lab_installed: object) -> None:
    with lock.take("first"), pytest.raises(BadInput, match=f"coebench first, process {os.getpid()}"):
        other = subprocess.run(
            [sys.executable, "-c", "from coebench.lab import lock; lock.take('second')"], capture_output=True, text=True
        )
        raise BadInput(other.stderr.strip().splitlines()[-1])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("after", [0.3, 1.0, 2.0, 4.0, 7.0, 11.0])
def test_a_killed_harness_leaves_what_clean_finds(after: float, lab_installed: object, tmp_path: Path) -> None:
    """SIGKILL at several moments: while hosts are made, while the engine starts, while a trial runs."""
    before = Footprint.take()
    command = [sys.executable, "-m", "coebench", "compare", "swarm", "--profile", "smoke", "--runs", str(tmp_path)]
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert p.stderr
    for line in p.stderr:  # the clock starts when the bay is asked for
        if "creating" in line:
            break
    with contextlib.suppress(subprocess.TimeoutExpired):
        p.wait(after)
    p.send_signal(signal.SIGKILL)
    p.wait()
    p.stderr.close()
    run = next(tmp_path.iterdir())
    assert (run / "manifest.json").exists()
    journal = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    assert {r["id"] for r in journal if r["kind"] == "bay"} >= set(bays.names())
    refused = subprocess.run(command, capture_output=True, text=True)
    if bays.names():
        assert refused.returncode == 2
        assert "coebench clean" in refused.stderr
    cleaned = subprocess.run([sys.executable, "-m", "coebench", "clean"], capture_output=True, text=True)
    assert cleaned.returncode == 0, cleaned.stderr
    assert Footprint.take().more_than(before) == {}
    assert bays.names() == []
    told = subprocess.run([sys.executable, "-m", "coebench", "report", str(run)], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_cleans_up_itself(number: signal.Signals, lab_installed: object, tmp_path: Path) -> None:
    before = Footprint.take()
    command = [sys.executable, "-m", "coebench", "compare", "mesos", "--profile", "smoke", "--runs", str(tmp_path)]
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stderr
    for line in p.stderr:
        if "serve: begins" in line:
            break
    p.send_signal(number)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130, err
    assert Footprint.take().more_than(before) == {}
    trials = [json.loads(line) for line in (next(tmp_path.iterdir()) / "trials.jsonl").read_text().splitlines()]
    assert [t["outcome"]["status"] for t in trials if "outcome" in t] == ["ok", "interrupted"]


def test_a_stale_bay_can_be_refused_and_fits_no_second(make: Callable[..., bays.LabBay]) -> None:
    make("mesos", name="twice", nodes=1)
    with pytest.raises(BadInput, match="there already"):
        make("mesos", name="twice", nodes=1)


def test_faults_of_nodes(make: Callable[..., bays.LabBay]) -> None:
    make("mesos", name="faults", nodes=2)
    provisioner = LabProvisioner()
    bay = provisioner._describe(bays.LabBay.open("faults"))
    provisioner.fail_node(bay, "n1", NodeFault.CUT, quiet)
    with bays.LabBay.open("faults").network(), pytest.raises(OSError):
        http.client.HTTPConnection(plan.address("n1"), 5051, timeout=0.5).request("GET", "/health")
    provisioner.heal_node(bay, "n1", quiet)
    with bays.LabBay.open("faults").network():
        deadline = time.monotonic() + 10
        while True:
            try:
                connection = http.client.HTTPConnection(plan.address("n1"), 5051, timeout=1)
                connection.request("GET", "/health")
                assert connection.getresponse().status == 200
                break
            except OSError:
                assert time.monotonic() < deadline
