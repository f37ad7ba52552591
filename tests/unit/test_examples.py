"""The example packages, found by their entry points as an installed package's are, and used by the command line."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from coebench.contract import EngineError, LoadPlan, Target, Unsupported

ROOT = Path(__file__).parents[2]
EXAMPLES = {
    "listing": "scenario-listing",
    "large": "workload-large",
    "tsv": "reporter-tsv",
    "ab": "generator-ab",
    "notify": "hook-notify",
    "toy": "driver-toy",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH on which the examples are, with the metadata that installing them would write."""
    site = tmp_path_factory.mktemp("site")
    for folder in EXAMPLES.values():
        project = tomllib.loads((ROOT / "examples" / folder / "pyproject.toml").read_text())["project"]
        info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
        groups = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
            for group, points in project["entry-points"].items()
        ]
        (info / "entry_points.txt").write_text("\n".join(groups))
    folders = [str(site), *(str(ROOT / "examples" / f) for f in EXAMPLES.values()), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(filter(None, folders))


def coebench(path: str, tmp_path: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    own = {"PYTHONPATH": path, "XDG_CACHE_HOME": str(tmp_path / "cache"), "COEBENCH_STATE": str(tmp_path / "state"), **env}
    command = [sys.executable, "-m", "coebench", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT, env={**os.environ, **own})


def test_a_run_with_a_scenario_and_a_hook_from_other_packages(path: str, tmp_path: Path, coeload: Path) -> None:
    """On the toy, whose driver and bay come from a package too: the core has no part in any of the four."""
    notes = tmp_path / "notes.jsonl"
    words = ("compare", "toy", "--provisioner", "toy", "--profile", "smoke", "--scenarios", "listing,deploy", "--json")
    p = coebench(path, tmp_path, *words, "--runs", str(tmp_path / "runs"), COEBENCH_NOTIFY=str(notes), COELOAD=str(coeload))
    assert p.returncode == 0, p.stderr
    found = {f"{m['scenario']}.{m['name']}": m["values"]["toy"]["median"] for m in json.loads(p.stdout)["metrics"]}
    assert 0 < found["listing.list_services"] < 1000
    assert found["deploy.all_answer"] > 0
    told = [json.loads(line) for line in notes.read_text().splitlines()]
    assert [(t["trial"], t["status"]) for t in told] == [("b1.toy.listing", "ok"), ("b1.toy.deploy", "ok")]


def test_a_scenarios_settings_are_checked(path: str, tmp_path: Path) -> None:
    p = coebench(path, tmp_path, "plan", "toy", "--scenarios", "listing", "--set", "listing.times=0")
    assert p.returncode == 2
    assert "listing.times is a number from 1 to 10000, not 0" in p.stderr


def test_a_metric_of_another_package_is_explained(path: str, tmp_path: Path) -> None:
    p = coebench(path, tmp_path, "explain", "list_services")
    assert "listing.list_services  [ms, lower is better]" in p.stdout


def test_a_reporter(path: str, tmp_path: Path) -> None:
    p = coebench(path, tmp_path, "report", "docs/example-run", "--format", "tsv")
    assert p.returncode == 0, p.stderr
    head, *lines = [line.split("\t") for line in p.stdout.splitlines()]
    assert all(len(line) == len(head) for line in lines)
    row = next(line for line in lines if line[:4] == ["deploy", "all_answer", "instances=10", "mesos"])
    told = json.loads((ROOT / "docs/example-run/result.json").read_text())["metrics"]
    wanted = next(m for m in told if m["name"] == "all_answer" and m["factors"] == {"instances": 10})["values"]["mesos"]
    assert float(row[4]) == pytest.approx(wanted["median"], rel=1e-5)


def test_a_workload(path: str, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('subjects = ["toy"]\nworkload = "large"\n')
    p = coebench(path, tmp_path, "plan", "--plan", str(plan))
    assert 'workload = "large"' in p.stdout, p.stderr
    sys.path.insert(0, str(ROOT / "examples/workload-large"))
    large, http = (importlib.import_module(m).WORKLOAD for m in ("coebench_large", "coebench_workload_http"))
    assert large.service("x", 2).image == "coebench-large:v1"
    assert large.recipe() != http.recipe()


AB = """
Complete requests:      200
Failed requests:        3
Non-2xx responses:      7
Time taken for tests:   0.238 seconds
Requests per second:    841.12 [#/sec] (mean)

Percentage of the requests served within a certain time (ms)
  50%      4
  90%     10
  99%     15
 100%     19 (longest request)
"""


def test_a_generator() -> None:
    """Its text is what ab 2.3 prints, shortened."""
    sys.path.insert(0, str(ROOT / "examples/generator-ab"))
    ab = importlib.import_module("coebench_ab").ApacheBench()
    plan = LoadPlan(targets=(Target("10.0.0.1", 80),), connections=4, duration=2.0)
    assert ab.command(plan)[-1] == "http://10.0.0.1:80/"
    result = ab.result(plan, AB)
    assert (result.ok, result.errors) == (190, {"failed": 3, "bad_status": 7})
    assert result.raw_ms == {"p50": 4.0, "p90": 10.0, "p99": 15.0, "max": 19.0}
    assert result.achieved_rps == pytest.approx(190 / 0.238)
    with pytest.raises(EngineError, match="not what ab prints"):
        ab.result(plan, "command not found")
    with pytest.raises(Unsupported, match="can't be held to a rate"):
        ab.command(LoadPlan(targets=plan.targets, rate=10.0))
