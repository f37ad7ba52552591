"""drivers/docker is a package of its own: found beside the core, judged by the suite, and a column of a comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
PACKAGE = Path(__file__).parents[2] / "drivers/docker"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, lab_installed: object) -> str:
    """A PYTHONPATH with the package and the metadata that installing it would write."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = tmp_path_factory.mktemp("site") / "coebench_docker-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]
    text = "\n".join(f"[{g}]\n" + "".join(f"{n} = {v}\n" for n, v in found.items()) for g, found in points.items())
    (info / "entry_points.txt").write_text(text)
    return os.pathsep.join([str(info.parent), str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])])


def coebench(path: str, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coebench", *words]
    env = {**os.environ, "PYTHONPATH": path, "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))}
    return subprocess.run(command, capture_output=True, text=True, timeout=220, cwd=tmp_path, env=env)


def test_it_passes_what_applies(path: str, tmp_path: Path) -> None:
    p = coebench(path, tmp_path, "driver", "check", "docker", "--provisioner", "lab", "--nodes", "1", "--json")
    assert p.returncode == 0, p.stderr[-3000:]
    report = json.loads(p.stdout)
    assert report["score"] == 1.0
    assert sum(o["result"] == "passed" for o in report["outcomes"]) >= 45
    assert report["seconds"] < 120


def test_it_is_a_column(path: str, tmp_path: Path) -> None:
    words = ("compare", "docker", "--profile", "smoke", "--scenarios", "deploy", "--nodes", "1", "--json")
    p = coebench(path, tmp_path, *words)
    assert p.returncode == 0, p.stderr[-3000:]
    result = json.loads(p.stdout)
    assert result["bays"]["docker"]["engine"] == "Docker"
    assert next(m for m in result["metrics"] if m["name"] == "all_answer")["values"]["docker"]["median"] > 0
