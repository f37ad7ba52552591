"""The run folder: written as it happens, readable whatever happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from synthetic import SCENARIOS, Synthetic

from coebench.contract import BadInput, Observation
from coebench.hooks import TrialInfo, hookimpl, manager
from coebench.results import files, folder
from coebench.results.derive import derive, load

TRIAL = TrialInfo(id="b1.swarm.deploy", block=1, subject="swarm", coe="swarm", scenario="deploy", bay="cb", position=1, of=1)


def test_create(tmp_path):
    path = folder.create(tmp_path / "runs", "20260102-quiet-heron")
    assert {p.name for p in path.iterdir()} == {"logs", "histograms"}
    with pytest.raises(BadInput, match="there already"):
        folder.create(tmp_path / "runs", "20260102-quiet-heron")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "-x"])
def test_create_refuses_names_that_lead_elsewhere(tmp_path, name):
    with pytest.raises(BadInput, match="name"):
        folder.create(tmp_path, name)


def test_create_says_why_it_can_not(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="can't make the run folder"):
        folder.create(tmp_path / "file", "r")


def test_lines_reach_the_system_as_they_happen(tmp_path):
    path = folder.create(tmp_path, "r")
    recorder = folder.Recorder(path)
    recorder.observed(Observation(at=1.5, name="x", trial="t", data={"a": [1, None]}))
    assert json.loads((path / "observations.jsonl").read_text()) == {
        "at": 1.5,
        "name": "x",
        "trial": "t",
        "data": {"a": [1, None]},
    }
    recorder.trial_started(TRIAL)
    assert json.loads((path / "trials.jsonl").read_text())["trial"]["id"] == TRIAL.id
    recorder.close()
    recorder.close()


def test_a_listener_that_raises_costs_no_fact(tmp_path):
    class Raises:
        @hookimpl
        def observed(self, observation):
            raise RuntimeError

    path = folder.create(tmp_path, "r")
    hooks = manager()
    hooks.register(folder.Recorder(path))
    hooks.register(Raises())
    with pytest.raises(RuntimeError):
        hooks.hook.observed(observation=Observation(at=1.0, name="x"))
    assert (path / "observations.jsonl").read_text().count("\n") == 1


def test_data_that_json_has_not_is_kept_as_text(tmp_path):
    path = folder.create(tmp_path, "r")
    recorder = folder.Recorder(path)
    recorder.observed(Observation(at=1.0, name="x", data={"p": Path("/a"), "inf": float("inf")}))
    recorder.close()
    assert json.loads((path / "observations.jsonl").read_text())["data"] == {"p": "/a", "inf": None}


def test_a_killed_process_loses_nothing_that_was_told(tmp_path):
    path = folder.create(tmp_path, "r")
    code = """
        import sys, os, signal
        from coebench.contract import Observation
        from coebench.results import files, folder
        r = folder.Recorder(sys.argv[1])
        for i in range(100):
            r.observed(Observation(at=float(i), name="x"))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    (path / "manifest.json").write_text('{"schema": "coebench.run/1"}')
    assert len(folder.read(path).observations) == 100


def test_no_half_written_manifest(tmp_path):
    path = folder.create(tmp_path, "r")
    folder.write_atomic(path / "manifest.json", b"1")
    folder.write_atomic(path / "manifest.json", b"2")
    assert (path / "manifest.json").read_bytes() == b"2"
    assert not list(path.glob("*.part"))


def test_crashed_run_is_read_to_where_it_broke_off(tmp_path):
    path = Synthetic(tmp_path).write(stop_after=7)
    with (path / "observations.jsonl").open("ab") as f:
        f.write(b'{"at":1760000009.1,"name":"fa')
    recorded = folder.read(path)
    assert len(recorded.warnings) == 1 and "observations.jsonl breaks off in line" in recorded.warnings[0]
    result = load(path, SCENARIOS)
    assert not result.run.complete
    assert [t.status for t in result.trials].count("interrupted") == 1
    assert any("planned trials were never begun, from b2.k8s.serve on" in w for w in result.warnings)
    assert any("breaks off" in w for w in result.warnings)
    assert sum(v.n for m in result.metrics for v in m.values.values()) > 0


def test_damaged_lines_cost_themselves_alone(tmp_path):
    path = Synthetic(tmp_path).write()
    lines = (path / "observations.jsonl").read_bytes().splitlines(keepends=True)
    lines[3] = b"\xff\xfe not json\n"
    lines[5] = b'{"no": "time"}\n'
    (path / "observations.jsonl").write_bytes(b"".join(lines))
    recorded = folder.read(path)
    assert len(recorded.observations) == len(lines) - 2
    assert [w.split(" is")[0] for w in recorded.warnings] == [
        "observations.jsonl, line 4",
        "observations.jsonl, line 6",
    ]


def test_missing_files_are_said(tmp_path):
    path = Synthetic(tmp_path).write()
    (path / "observations.jsonl").unlink()
    (path / "result.json").unlink()
    result = load(path, SCENARIOS)
    assert any("observations.jsonl is missing" in w for w in result.warnings)
    assert len(result.trials) == 30


def test_files_that_may_not_be_read_are_said(tmp_path, monkeypatch):
    path = Synthetic(tmp_path).write()
    (path / "result.json").unlink()
    opening = files.regular

    def refusing(path):
        if path.name == "observations.jsonl":
            raise PermissionError(13, "Permission denied", str(path))
        return opening(path)

    monkeypatch.setattr(files, "regular", refusing)
    assert "observations.jsonl can't be read: Permission denied." in load(path, SCENARIOS).warnings


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("manifest.json", '{"schema": "coebench.run/99"}', "newer coebench .*upgrade"),
        ("manifest.json", '{"schema": "other/1"}', "not of coebench"),
        ("manifest.json", "{}", "not of coebench"),
        ("manifest.json", '{"schema": "coeb', "damaged"),
        ("manifest.json", "[]", "damaged"),
        ("result.json", '{"schema": "coebench.result/99"}', "newer coebench"),
    ],
)
def test_refused_with_one_line(tmp_path, file, content, says):
    path = Synthetic(tmp_path).write()
    (path / file).write_text(content)
    with pytest.raises(BadInput, match=says) as e:
        load(path, SCENARIOS) if file == "result.json" else folder.read(path)
    assert "\n" not in str(e.value) and str(path / file) in str(e.value)


@pytest.mark.parametrize("name", ["", "none"])
def test_what_is_no_run_folder(tmp_path, name):
    with pytest.raises(BadInput, match="not a run folder"):
        folder.read(tmp_path / name)


def test_a_damaged_result_is_derived_anew(tmp_path):
    path = Synthetic(tmp_path).write()
    whole = load(path, SCENARIOS)
    (path / "result.json").write_bytes((path / "result.json").read_bytes()[:1000])
    assert folder.read_result(path) is None
    assert load(path, SCENARIOS) == whole


def test_a_result_can_be_read_without_its_folder(tmp_path):
    path = Synthetic(tmp_path).write()
    file = tmp_path / "saved.json"
    file.write_bytes((path / "result.json").read_bytes())
    assert load(file, {}) == derive(path, SCENARIOS)
    file.write_text("hello")
    with pytest.raises(BadInput, match="not a result"):
        load(file, {})


def test_an_empty_run(tmp_path):
    path = folder.create(tmp_path, "r")
    recorder = folder.Recorder(path)
    recorder.run_started("r", str(path), {"run": "r", "started": 1.0})
    recorder.close()
    result = derive(path, SCENARIOS)
    assert result.metrics == () and result.trials == () and result.run.started == "1970-01-01T00:00:01.000Z"
