"""A folder of runs as a line through time."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
import scipy.stats
from synthetic import SCENARIOS, Synthetic
from typer.testing import CliRunner

from coebench.cli.main import app
from coebench.contract import BadInput
from coebench.report.spark import spark, squeezed
from coebench.results import folder, stats
from coebench.results.history import History, history

METRIC = "swarm.deploy.last[instances=10]"


def edited(path: Path, change) -> None:
    """Change a manifest and a result alike, as a run on another day would have them."""
    for name in ("manifest.json", "result.json"):
        data = json.loads((path / name).read_text())
        change(data)
        (path / name).write_text(json.dumps(data))


def day(n: int):
    def change(data: dict) -> None:
        (data["run"] if isinstance(data["run"], dict) else data)["started"] = f"2026-01-{n:02}T00:00:00.000Z"

    return change


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """Seven runs in which Swarm gets slower from the fourth on."""
    base = tmp_path_factory.mktemp("runs")
    for i in range(1, 8):
        slow = 1.0 if i < 4 else 1.0 + 0.25 * (i - 3)
        effect = {"k8s": 1.9, "swarm": slow, "mesos": 1.05}
        run = Synthetic(base, run=f"run-{i}", seed=i, blocks=6, spread=0.02, trouble=False, instances=(10,), effect=effect)
        edited(run.write(), day(i))
    return base


def test_each_run_is_set_against_the_one_before(base):
    [s] = history(base, SCENARIOS, METRIC).series
    assert [p.run for p in s.points] == [f"run-{i}" for i in range(1, 8)]
    verdicts = [p.verdict for p in s.points]
    assert verdicts[:3] == ["", "same", "same"] and verdicts[3:] == ["worse"] * 4
    assert s.trend == "worse" and s.tau is not None and s.tau > 0.5
    assert [p.version for p in s.points] == ["20.10.24"] * 7


def test_a_steady_figure_has_no_trend(base):
    [s] = history(base, SCENARIOS, "k8s.serve.rate").series
    assert s.trend == "" and {p.verdict for p in s.points[1:]} <= {"same", "can't tell"}


def test_without_a_metric_the_first_of_each_scenario(base):
    found = history(base, SCENARIOS)
    assert {(s.scenario, s.name) for s in found.series} == {("deploy", "last"), ("serve", "rate")} and len(found.series) == 6
    every = history(base, SCENARIOS, every=True)
    assert {s.name for s in every.series} == {"last", "first", "rate", "p99"}


def test_a_run_that_was_asked_something_else_breaks_the_line(base, tmp_path):
    shutil.copytree(base, tmp_path / "r")

    def asked(data: dict) -> None:
        data["plan"] = {"settings": {"deploy": {"n": 1 if data["run"] == "run-5" else 3}}}

    for i in range(1, 8):
        file = tmp_path / f"r/run-{i}/manifest.json"
        data = json.loads(file.read_text())
        asked(data)
        file.write_text(json.dumps(data))
    [s] = history(tmp_path / "r", SCENARIOS, METRIC).series
    assert [bool(p.barred) for p in s.points] == [False, False, False, False, True, True, False]
    assert s.points[4].barred == "plan.settings.deploy.n: 3 → 1" and s.trend == ""
    assert not any(p.barred for p in history(tmp_path / "r", SCENARIOS, "swarm.serve.rate").series[0].points)


def test_archives_copies_and_rubbish(base, tmp_path):
    r = tmp_path / "r"
    shutil.copytree(base / "run-1", r / "run-1")
    shutil.make_archive(str(r / "run-1"), "zip", base, "run-1")  # the same run again
    shutil.make_archive(str(r / "run-2"), "gztar", base, "run-2")
    (r / "run-3.json").write_bytes((base / "run-3/result.json").read_bytes())
    (r / "broken.zip").write_bytes(b"no")
    (r / "notes.txt").write_text("mine")
    (r / "package.json").write_text("{}")
    (r / "newer").mkdir()
    (r / "newer/manifest.json").write_text('{"schema": "coebench.run/99"}')
    found = history(r, SCENARIOS, METRIC)
    assert [p.run for p in found.series[0].points] == ["run-1", "run-2", "run-3"]
    assert [s.split(":")[0] for s in found.skipped] == ["newer", "broken.zip", "package.json"]
    assert "newer coebench" in found.skipped[0]


def test_a_spoilt_archive_is_said_and_the_others_are_shown(base, tmp_path):
    r = tmp_path / "r"
    shutil.copytree(base / "run-1", r / "run-1")
    archive = Path(shutil.make_archive(str(r / "run-2"), "zip", base, "run-2"))
    with zipfile.ZipFile(archive) as z:
        infos = [i for i in z.infolist() if i.filename.endswith(("observations.jsonl", "result.json"))]
    data = bytearray(archive.read_bytes())
    for i in infos:
        data[i.header_offset : i.header_offset + 4] = bytes(4)
    archive.write_bytes(data)
    found = history(r, SCENARIOS, METRIC)
    assert [p.run for p in found.series[0].points] == ["run-1"]
    assert found.skipped[0].startswith("run-2.zip: observations.jsonl can't be read: ") and len(found.skipped) == 1


def test_what_is_no_folder_of_runs(base, tmp_path):
    for path, says in ((tmp_path / "none", "no folder"), (base / "run-1", "is one run"), (tmp_path, "no run lies in")):
        with pytest.raises(BadInput, match=says):
            history(path, SCENARIOS)
    with pytest.raises(BadInput, match=r"'swarm.deploy.lost' is about nothing .*near it: swarm.deploy.last"):
        history(base, SCENARIOS, "swarm.deploy.lost")
    with pytest.raises(BadInput):
        history(base, SCENARIOS, "failed(swarm.deploy.last)")


@pytest.mark.parametrize("format", ["terminal", "markdown", "csv", "json"])
def test_history_prints(base, format, monkeypatch):
    monkeypatch.setattr("coebench.cli.results.scenarios", lambda: SCENARIOS)
    done = CliRunner().invoke(app, ["history", str(base), "--metric", "*.deploy.last", "--format", format])
    assert done.exit_code == 0, done.exception
    if format == "json":
        assert msgspec.json.decode(done.stdout, type=History).runs == 7
    elif format == "csv":
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert len(rows) == 21 and {r["unit"] for r in rows} == {"s"} and float(rows[0]["median"]) > 0
    else:
        assert "rises from run to run, which is worse" in " ".join(done.stdout.split()) and "▁" not in done.stdout
        assert "█" in done.stdout
    if format == "terminal":
        assert max(map(len, done.stdout.splitlines())) <= 80


def test_history_escapes_names(base, tmp_path):
    run = Path(shutil.copytree(base / "run-1", tmp_path / "r/one"))
    edited(run, lambda d: d["run"].update(id="<img src=x>|\x1b[31m") if isinstance(d["run"], dict) else None)
    assert folder.read_result(run) is not None
    done = CliRunner().invoke(app, ["history", str(tmp_path / "r"), "--format", "markdown"])
    assert done.exit_code == 0 and "<img" not in done.stdout and "\x1b" not in done.stdout


# statistics


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 20, 60])
def test_trend_is_scipys_kendall(n):
    v = np.random.default_rng(n).normal(size=n)
    theirs = scipy.stats.kendalltau(np.arange(n), v, method="exact")
    ours = stats.trend(v)
    assert ours.tau == pytest.approx(theirs.statistic) and ours.p == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("n", [3, 10, 40, 150])
def test_trend_with_ties_is_scipys_too(n):
    v = np.random.default_rng(n).integers(0, 4, size=n).astype(float)
    theirs = scipy.stats.kendalltau(np.arange(n), v, method="asymptotic")
    ours = stats.trend(v)
    assert ours.tau == pytest.approx(theirs.statistic) and ours.p == pytest.approx(theirs.pvalue)


def test_trend_of_nothing():
    for v in ([], [1.0], [2.0] * 9):
        assert math.isnan(stats.trend(v).tau) and stats.trend(v).p == 1


def test_spark():
    assert spark([0, 1, 2, 4, 8]) == "▁▂▃▅█" and spark([]) == "" and spark([5, 5]) == "██" and spark([0.0]) == "▁"
    assert spark([1, math.nan, 2]) == "▅ █" and spark([100, 101], zero=False) == "▁█" and spark([math.inf]) == "█"
    assert squeezed(list(range(100)), 10) == [4.5 + 10 * i for i in range(10)] and squeezed([1, 2], 10) == [1, 2]
    assert math.isnan(squeezed([math.nan] * 4 + [1.0] * 4, 2)[0])
