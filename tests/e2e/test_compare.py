"""The main job, as its user runs it: three real engines, one table."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab
COES = ("k8s", "swarm", "mesos")


def coebench(*args: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coebench", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def smoke(lab_installed: object, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    """One smoke run of all three, followed meanwhile as a browser and a Prometheus would: what those saw is in `live`."""
    base = tmp_path_factory.mktemp("smoke")
    runs = base / "runs"
    following = ["--live", "--live-web", "0", "--serve-metrics", "0"]
    command = [sys.executable, "-m", "coebench", "compare", *COES, "--profile", "smoke", "--json", "--runs", str(runs)]
    with (base / "out").open("wb") as out, (base / "err").open("wb") as err:
        p = subprocess.Popen([*command, *following], stdout=out, stderr=err)
        try:
            live.follow(base / "err", p)
            assert p.wait(600) == 0, (base / "err").read_text()
        finally:
            p.terminate()
    live.lines = (base / "err").read_text().splitlines()
    return json.loads((base / "out").read_text()), next(runs.iterdir())


class Live:
    """What could be seen of the run while it went on. `parts`: the page's, as they last were."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.metrics = ""
        self.over = False
        self.lines: list[str] = []

    def follow(self, err: Path, run: subprocess.Popen[bytes]) -> None:
        """Until the server says that the run is over."""
        while not (found := dict(re.findall(r"^(live|metrics): (\S+)$", err.read_text(), re.MULTILINE))).get("live"):
            assert run.poll() is None, err.read_text()
            time.sleep(0.05)
        with urllib.request.urlopen(found["live"] + "events", timeout=60) as stream:
            for line in stream:
                if line.startswith(b"data: {"):
                    self.parts |= json.loads(line.removeprefix(b"data: "))
                    # It ends with the run, perhaps between two looks.
                    with contextlib.suppress(OSError), urllib.request.urlopen(found["metrics"], timeout=10) as answer:
                        self.metrics = answer.read().decode()
                self.over = self.over or line.startswith(b"event: over")


live = Live()


@pytest.mark.timeout(600)
def test_all_is_measured_on_all_three(smoke: tuple[dict, Path]) -> None:
    result, _ = smoke
    assert set(result["bays"]) == set(COES)
    assert {t["status"] for t in result["trials"]} == {"ok"}
    names = {(m["scenario"], m["name"]) for m in result["metrics"]}
    assert {("deploy", "all_answer"), ("deploy", "all_ready"), ("deploy", "silent"), ("serve", "saturation")} <= names
    for m in result["metrics"]:
        for coe in COES:
            value = m["values"][coe]
            assert value["n"] == 1, (m["name"], coe)
            assert value["median"] is not None
    assert result["bays"]["k8s"]["engine"] == "Kubernetes"
    assert result["bays"]["mesos"]["version"] == "1.11.0"
    assert all(b["nodes"] == 3 and b["notes"] and b["timeouts"] for b in result["bays"].values())


def test_it_could_be_followed_as_it_went(smoke: tuple[dict, Path]) -> None:
    result, folder = smoke
    assert live.over
    for engine in ("Kubernetes", "Docker Swarm", "Mesos"):
        assert engine in live.parts["cards"]
    assert "The run has ended." in live.parts["status"]
    assert "<svg" in live.parts["plots"]
    requests = re.findall(
        r'^coebench_requests_total\{loop="open",result="good",scenario="serve",subject="(\w+)"\} (\S+)$',
        live.metrics,
        re.MULTILINE,
    )
    counted = {subject: int(float(n)) for subject, n in requests}
    loads = [json.loads(line) for line in (folder / "observations.jsonl").read_text().splitlines() if '"name":"load"' in line]
    answered = {o["trial"].split(".")[1]: o["data"]["ok"] for o in loads if o["data"]["loop"] == "open"}
    last = result["run"]["order"][-1].split(".")[1]  # its end may come between two looks
    for coe in set(COES) - {last}:
        assert counted[coe] == pytest.approx(answered[coe], rel=0.01), "good answers are told as they come"
    seconds = [line for line in live.lines if re.search(r"serve: [\d.]+k?/s, p50 ", line)]
    assert len(seconds) >= 3 * len(COES)


def value(result: dict, metric: str, coe: str) -> float:
    return next(m for m in result["metrics"] if m["name"] == metric)["values"][coe]["median"]


def test_figures_are_in_order(smoke: tuple[dict, Path]) -> None:
    """What can't be otherwise: first before all, percentiles rising, achieved not above offered by more than its noise."""
    result, _ = smoke
    for coe in COES:
        assert value(result, "accepted", coe) <= value(result, "all_answer", coe)
        assert value(result, "first_answer", coe) <= value(result, "all_answer", coe)
        rising = [value(result, f"latency_{p}", coe) for p in ("p50", "p90", "p99", "p99.9", "max")]
        assert rising == sorted(rising)
        assert value(result, "saturation", coe) > value(result, "achieved", coe) > 900
        assert value(result, "errors", coe) < 1


def test_the_harness_is_light(smoke: tuple[dict, Path]) -> None:
    """Bounded loosely here, since CI's machine is shared; benchmarks/lab measures it."""
    result, _ = smoke
    assert result["run"]["harness"]["by_scenario"]["serve"] < 0.15


def test_the_run_folder_tells_the_same_again(smoke: tuple[dict, Path], tmp_path: Path) -> None:
    result, folder = smoke
    for format in ("json", "markdown", "terminal"):
        p = coebench("report", str(folder), "--format", format)
        assert p.returncode == 0, p.stderr
        assert "Kubernetes" in p.stdout
    (folder / "result.json").unlink()
    again = json.loads(coebench("report", str(folder), "--format", "json").stdout)
    assert again["metrics"] == result["metrics"]
    assert {o["name"] for o in map(json.loads, (folder / "observations.jsonl").read_text().splitlines())} >= {
        *("bay.creating", "bay.ready", "requested", "accepted", "instance", "answer", "load", "harness.cpu")
    }


@pytest.mark.timeout(300)
def test_an_image_that_does_not_exist_fails_its_trials_alone(lab_installed: object, tmp_path: Path) -> None:
    """The other scenario of the same bay, and the other COE, are measured all the same."""
    settings = ("--set", "deploy.timeout=15", "--set", 'deploy.image="coebench-none:v9"', "--profile", "smoke")
    p = coebench("compare", "swarm", "mesos", *settings, "--set", "serve.seconds=1", "--json", "--runs", str(tmp_path))
    assert p.returncode == 1, p.stderr
    trials = {(t["subject"], t["scenario"]): t for t in json.loads(p.stdout)["trials"]}
    assert {k: t["status"] for k, t in trials.items() if k[1] == "serve"} == {("swarm", "serve"): "ok", ("mesos", "serve"): "ok"}
    for coe in ("swarm", "mesos"):
        bad = trials[coe, "deploy"]
        assert bad["status"] in ("failed", "timeout")
        assert "coebench-none" in bad["reason"] + bad["evidence"]


@pytest.mark.timeout(300)
def test_instances_that_cannot_be_placed_are_told_in_the_engines_words(lab_installed: object, tmp_path: Path) -> None:
    """Three of them fit three nodes on paper; the engines keep something back, or have placed the prober."""
    settings = ("--set", "deploy.timeout=30", "--set", "deploy.memory_mib=3060", "--profile", "smoke", "--scenarios", "deploy")
    p = coebench("compare", *COES, *settings, "--json", "--runs", str(tmp_path))
    assert p.returncode == 1, p.stderr
    for t in json.loads(p.stdout)["trials"]:
        assert t["status"] == "failed", t
        assert any(word in t["reason"] for word in ("nsufficient", "no suitable node", "no offer fits")), t["reason"]


@pytest.mark.timeout(300)
def test_an_engine_that_dies_fails_its_trial_with_its_log_and_the_rest_goes_on(lab_installed: object, tmp_path: Path) -> None:
    from coebench.lab import bay as bays

    command = [sys.executable, "-m", "coebench", "compare", "swarm", "mesos", "--profile", "smoke", "--seed", "1", "--json"]
    p = subprocess.Popen([*command, "--runs", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.stderr
    for line in p.stderr:
        if "b1.swarm.deploy: begins" in line:
            host = bays.LabBay.open(bays.names()[0]).host("c1")
            host.exec(["kill", "-9", host.exec(["cat", "/run/coebench/dockerd.pid"]).strip()])
            break
    out, err = p.communicate(timeout=240)
    assert p.returncode == 1, err
    trials = {(t["subject"], t["scenario"]): t for t in json.loads(out)["trials"]}
    dead = trials.pop(("swarm", "deploy"))
    assert dead["status"] == "failed"
    assert "dockerd on c1 ended with status 137" in dead["reason"]
    assert "level=" in dead["evidence"]  # dockerd's own words
    assert {k: t["status"] for k, t in trials.items()} == dict.fromkeys(trials, "ok")  # swarm's serve on a new bay
    logs = next(tmp_path.iterdir()) / "logs" / "b1.swarm.deploy"
    assert (logs / "c1/dockerd.log").stat().st_size > 0
    assert bays.names() == []


@pytest.mark.timeout(120)
def test_a_bay_that_never_becomes_ready_fails_with_its_logs(lab_installed: object, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"):
        script = '#!/bin/sh\n[ "$1" != --version ] || exec echo Kubernetes v1.20.2\necho this is no $0\nexec sleep 1000\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f'profile = "smoke"\nscenarios = ["deploy"]\nbay = {{ step_timeout = 5 }}\n'
        f'subjects = [{{ coe = "k8s", options = {{ kubernetes-bin = "{programs}" }} }}]\n'
    )
    p = coebench("compare", "--plan", str(plan), "--json", "--runs", str(tmp_path / "runs"))
    assert p.returncode == 1, p.stderr
    (trial,) = json.loads(p.stdout)["trials"]
    assert trial["status"] == "failed"
    assert "the API server becomes ready: not within 5 s" in trial["reason"]
    logs = list((next((tmp_path / "runs").iterdir()) / "logs").rglob("apiserver.log"))
    assert "this is no" in logs[0].read_text()


@pytest.mark.timeout(120)
def test_a_bay_is_of_use_on_its_own(lab_installed: object) -> None:
    """`lab up` says how to reach it from outside, and what it says works."""
    import re
    import urllib.request

    p = coebench("lab", "up", "mesos", "--nodes", "2")
    try:
        assert p.returncode == 0, p.stderr
        url = re.search(r"curl (http://127.0.0.1:\d+)/v2/apps", p.stdout)
        assert url, p.stdout
        with urllib.request.urlopen(url[1] + "/v2/info", timeout=5) as answer:
            assert json.load(answer)["frameworkId"]
        assert "n2" in coebench("lab", "status").stdout
        assert coebench("lab", "exec", "mesos", "n1:", "hostname").stdout.strip() == "n1"
        assert coebench("lab", "exec", "mesos", "false").returncode == 1
        assert "==> c1 mesos-master" in coebench("lab", "logs", "mesos", "c1").stdout
        again = coebench("lab", "up", "mesos")
        assert again.returncode == 2
        assert "there already" in again.stderr
        busy = coebench("compare", "swarm", "--profile", "smoke", "--runs", "/nonexistent/never")
        assert busy.returncode == 2
        assert "lab bay mesos" in busy.stderr
    finally:
        down = coebench("lab", "down", "mesos")
    assert "mesos is gone" in down.stdout
    assert coebench("lab", "status").stdout == "no bay is up\n"
