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
from footprint import Footprint

from coebench.contract import BadInput, BayFailed, BaySpec, NodeFault
from coebench.lab import bay as bays
from coebench.lab import cgroups, install, lock, plan
from coebench.lab.host import Host
from coebench.provision.lab import LabProvisioner

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
            return active_agents()

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


def test_an_agent_is_stopped_and_started_under_its_tasks(make: Callable[..., bays.LabBay]) -> None:
    bay = make("mesos", nodes=1)
    node = bay.host("n1")
    assert bay.host("c1").engine_names() == ["marathon", "mesos-master"]
    assert node.engine_names() == ["mesos-agent"]
    app = {"id": "/sleeper", "cmd": "exec sleep 4711", "cpus": 0.1, "mem": 32, "instances": 1}
    with bay.network():
        connection = http.client.HTTPConnection(plan.address("c1"), 8080, timeout=5)
        connection.request("POST", "/v2/apps", json.dumps(app), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 201

    def sleepers() -> list[str]:
        return node.exec(["pgrep", "-fx", "sleep 4711"], check=False).split()

    wait(sleepers, "the task")
    tasks, first = sleepers(), told(node, "mesos-agent")
    pids = cgroups.pids(node.cgroup)
    node.stop_engine("mesos-agent")
    assert len(pids - cgroups.pids(node.cgroup)) == 1, "that process and no other"
    assert node.alive and node.dead_engines() == {}
    bay.check()
    with pytest.raises(BadInput, match="mesos-agent on n1 does not run"):
        node.stop_engine("mesos-agent")
    node.start_engine("mesos-agent")
    with pytest.raises(BadInput, match="runs already"):
        node.start_engine("mesos-agent")
    assert told(node, "mesos-agent") == first, "the same command, environment, folder, session and cgroup"
    with bay.network():
        wait(lambda: "n1" in active_agents(), "the agent to be back")
    assert sleepers() == tasks
    # from now on its end is an accident again
    node.exec(["pkill", "-9", "-f", "coemesos agent"])
    wait(node.dead_engines, "the accident to be seen")
    with pytest.raises(BayFailed, match="mesos-agent on n1 ended with status 137"):
        bay.check()
    node.start_engine("mesos-agent")
    bay.check()
    with pytest.raises(BadInput, match=r"has no 'kubelet' \(it has mesos-agent\)"):
        node.start_engine("kubelet")
    pids = cgroups.pids(bay.name)
    bay.delete()
    assert not [p for p in pids if Path(f"/proc/{p}/exe").exists()]


def test_dockerd_is_stopped_and_started(make: Callable[..., bays.LabBay]) -> None:
    bay = make("swarm", nodes=1)
    manager, node = bay.host("c1"), bay.host("n1")
    manager.exec(["docker", "service", "create", "-qd", "--name", "web", "coebench-http:v1"])
    wait(lambda: node.exec(["docker", "ps", "-q", "-f", "status=running"]).split(), "the container")
    shim = node.exec(["pgrep", "-f", "containerd-shim"]).split()
    node.stop_engine("dockerd", signal.SIGKILL)
    assert node.exec(["pgrep", "-f", "containerd-shim"]).split() == shim, "containers go on"
    bay.check()
    node.start_engine("dockerd")

    def ready() -> bool:
        return "n1 Ready" in manager.exec(["docker", "node", "ls", "--format", "{{.Hostname}} {{.Status}}"])

    wait(lambda: node.exec(["docker", "ps", "-q"], check=False).split() and ready(), "the node and its container")
    bay.check()


@pytest.mark.timeout(120)
def test_a_kubelet_is_stopped_and_started(make: Callable[..., bays.LabBay]) -> None:
    bay = make("k8s", nodes=1, timeouts="harmonised")
    node = bay.host("n1")
    assert node.engine_names() == ["containerd", "kube-proxy", "kubelet"]
    first = told(node, "kubelet")

    def state() -> str:
        return bay.host("c1").exec(["kubectl", "get", "node", "n1", "--no-headers"])

    node.stop_engine("kubelet", signal.SIGTERM)
    wait(lambda: "NotReady" in state(), "the node to be given up", 30)
    bay.check()
    node.start_engine("kubelet")
    wait(lambda: "NotReady" not in state(), "the node to be back", 30)
    assert told(node, "kubelet") == first
    assert "AWS_EC2_METADATA_DISABLED=true" in first[1]
    bay.check()


def told(host: Host, name: str) -> list[str]:
    """What the kernel tells of an engine process: command, environment, folder, session, cgroups."""
    folder = host.root / "proc" / host.exec(["cat", f"/run/coebench/{name}.pid"]).strip()
    wait(lambda: b"bash" not in (folder / "cmdline").read_bytes(), f"{name} to be itself")
    stat = (folder / "stat").read_text()
    texts = [(folder / file).read_text().replace("\0", " ") for file in ("cmdline", "environ", "cgroup")]
    return [*texts, os.readlink(folder / "cwd"), stat[stat.rindex(")") :].split()[4]]


def active_agents() -> set[str]:
    """The names of a Mesos bay's agents; called inside its network."""
    connection = http.client.HTTPConnection(plan.address("c1"), 5050, timeout=5)
    connection.request("GET", "/slaves")
    return {s["hostname"] for s in json.loads(connection.getresponse().read())["slaves"] if s["active"]}


def wait(fact: Callable[[], object], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.01)


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
    _, err = p.communicate(timeout=60)
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
