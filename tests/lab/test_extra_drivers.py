"""drivers/docker and drivers/systemd are packages of their own: judged by the suite, and columns of one table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
DRIVERS = Path(__file__).parents[2] / "drivers"
NODES = {"docker": "1", "systemd": "2"}  # the first is one engine, the second one on each node
ENGINES = {"docker": "Docker", "systemd": "systemd"}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, lab_installed: object) -> str:
    """A PYTHONPATH with the packages and the metadata that installing them would write."""
    site = tmp_path_factory.mktemp("site")
    for name in NODES:
        project = tomllib.loads((DRIVERS / name / "pyproject.toml").read_text())["project"]
        info = site / f"coebench_{name}-0.1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
        points = project["entry-points"]
        text = "\n".join(f"[{g}]\n" + "".join(f"{n} = {v}\n" for n, v in found.items()) for g, found in points.items())
        (info / "entry_points.txt").write_text(text)
    folders = [str(site), *(str(DRIVERS / name) for name in NODES)]
    return os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])


def coebench(path: str, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coebench", *words]
    env = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))}
    return subprocess.run(command, capture_output=True, text=True, timeout=220, cwd=tmp_path, env=env)


@pytest.mark.parametrize("name", NODES)
def test_it_passes_what_applies(path: str, tmp_path: Path, name: str) -> None:
    p = coebench(path, tmp_path, "driver", "check", name, "--provisioner", "lab", "--nodes", NODES[name], "--json")
    assert p.returncode == 0, p.stderr[-3000:]
    report = json.loads(p.stdout)
    assert report["score"] == 1.0
    assert sum(o["result"] == "passed" for o in report["outcomes"]) >= 45
    assert report["seconds"] < 120


def test_they_are_columns_of_one_table(path: str, tmp_path: Path) -> None:
    words = ("compare", *NODES, "--profile", "smoke", "--scenarios", "deploy", "--nodes", "2", "--json")
    p = coebench(path, tmp_path, *words)
    assert p.returncode == 0, p.stderr[-3000:]
    result = json.loads(p.stdout)
    assert {t["status"] for t in result["trials"]} == {"ok"}
    values = next(m for m in result["metrics"] if m["name"] == "all_answer")["values"]
    for name, engine in ENGINES.items():
        assert result["bays"][name]["engine"] == engine
        assert values[name]["median"] > 0
