"""The scenario `bay` as its user runs it: the life of a lab's bay of each engine, step by step."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from coebench.lab import bay as bays

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
COES = ("k8s", "swarm", "mesos")


def test_bays_live_and_die(lab_installed: object, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "coebench", "compare", *COES, "--scenarios", "bay", "--profile", "smoke", "--json"]
    p = subprocess.run([*command, "--runs", str(tmp_path)], capture_output=True, text=True, timeout=280)
    assert p.returncode == 0, p.stderr
    result = json.loads(p.stdout)
    assert [t["status"] for t in result["trials"]] == ["ok"] * 3
    median = {m["name"]: {coe: v["median"] for coe, v in m["values"].items()} for m in result["metrics"]}
    assert median["failed"] == dict.fromkeys(COES, 0)
    for step in ("create", "up", "replace", "down", "delete"):
        assert set(median[step]) == set(COES)
        assert all(0 < seconds < 60 for seconds in median[step].values()), step
    assert "upgrade" not in median  # there are no templates in the lab
    (run,) = tmp_path.iterdir()
    seen = [json.loads(line) for line in (run / "observations.jsonl").read_text().splitlines()]
    had = [o["data"]["have"] for o in seen if o["name"] == "life.end"]
    assert had == [1, 2, 2, 1, 0] * 3
    assert bays.names() == []
