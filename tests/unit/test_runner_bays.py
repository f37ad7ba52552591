"""A run of the toy engine, from the plan to the table: what becomes of a trial that leaves something behind, and of one that the
COE can't do. The engine is real, if small; only the prober is left out, whom these scenarios do not ask."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from coebench import plugins
from coebench.cli import output
from coebench.contract import (
    BadInput,
    Bay,
    BayFailed,
    BaySpec,
    Better,
    Capability,
    Metric,
    Observation,
    Observe,
    Sample,
    Trial,
    Unsupported,
)
from coebench.hooks import hookimpl
from coebench.lab import lock
from coebench.provision.lab import LabProvisioner
from coebench.results.model import Result
from coebench.runner import plan as plans
from coebench.runner import run as running
from coebench.runner.baseline import Baseline
from coebench.runner.bays import TrialBays

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/driver-toy"))
from coebench_toy import ToyDriver
from coebench_toy.provisioner import ToyProvisioner


class Tidy:
    """Deploys a service and takes it away."""

    name: ClassVar[str] = "tidy"
    question: ClassVar[str] = "Which bay is this?"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(name="ran", unit="1", better=Better.LOWER, title="ran", definition="1 where it ran, on whatever bay that was."),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return {}

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None: ...

    def run(self, trial: Trial) -> None:
        trial.driver.deploy(trial.workload.service(self.name, 1, trial.workload.versions[0]))
        trial.observe("ran", services=list(trial.driver.services()))
        trial.remove(self.name)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        return [Sample(metric="ran", value=1.0) for o in observations if o.name == "ran"]


class Messy(Tidy):
    """Forgets what it has deployed."""

    name = "messy"

    def run(self, trial: Trial) -> None:
        trial.driver.deploy(trial.workload.service(self.name, 1, trial.workload.versions[0]))
        trial.observe("ran", services=list(trial.driver.services()))


class Checked(Tidy):
    """Wants what the toy engine does not have."""

    name = "checked"
    needs = frozenset({Capability.HEALTH})


class Halfway(Messy):
    """Is refused when it has deployed already."""

    name = "halfway"

    def run(self, trial: Trial) -> None:
        super().run(trial)
        raise Unsupported("the other half", "the toy engine has none")


class Maker(Tidy):
    """Makes two bays of its own, of which the second comes to harm; that is no failure of the trial."""

    name = "maker"
    makes_bays: ClassVar[bool] = True

    def run(self, trial: Trial) -> None:
        for label in ("well", "ill"):
            bay = trial.bays.create(label, 1, trial.observe)
            with contextlib.suppress(BayFailed):
                trial.bays.resize(bay, 2, trial.observe)
        trial.observe("ran")


class FailingMaker(Maker):
    """The same, and then the trial fails."""

    name = "failing-maker"

    def run(self, trial: Trial) -> None:
        super().run(trial)
        raise BayFailed("no good")


class Fragile(ToyProvisioner):
    """Its bays can be resized, but for those that are ill."""

    def resize(self, bay: Bay, nodes: int, observe: Observe) -> Bay:
        if bay.name.endswith("-ill"):
            raise BayFailed("a node did not come up")
        return bay


class NoProber:
    def __init__(self, driver: object, workload: object, executes: bool) -> None: ...
    def start(self, timeout: float) -> None: ...
    def close(self) -> None: ...

    def offset(self) -> tuple[float, float]:
        return 0.0, 0.0

    def generators(self) -> tuple[str, ...]:
        return ()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function: scenarios' names → the result, the run folder and the toy's bays."""
    mine: dict[str, dict[str, Any]] = {
        "drivers": {"toy": ToyDriver},
        "provisioners": {"toy": Fragile},
        "scenarios": {s.name: s for s in (Tidy, Messy, Checked, Halfway, Maker, FailingMaker)},
        "hooks": {},
    }
    names, load = plugins.names, plugins.load
    monkeypatch.setattr(plugins, "names", lambda group: tuple(sorted(mine[group])) if group in mine else names(group))
    monkeypatch.setattr(plugins, "load", lambda g, n, what: mine[g][n] if n in mine.get(g, {}) else load(g, n, what))
    monkeypatch.setattr(running, "BayProber", NoProber)
    monkeypatch.setattr(Baseline.differences, "__defaults__", (0.5,))
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("COELOAD", sys.executable)  # which nobody starts here

    def execute(*scenarios: str, subjects: Sequence[str] = ("toy",), listener: object = None) -> tuple[Result, Path]:
        content = {"provisioner": "toy", "profile": "smoke", "scenarios": list(scenarios)}
        listeners = [listener] if listener else []
        made = running.Run(plans.make(content, list(subjects), {}), tmp_path / "runs", ["coebench"], listeners, lambda _: None)
        try:
            return made.execute(), made.folder
        finally:
            left = ToyProvisioner().clean()
            assert left == (), "a run leaves no bay behind"

    return execute


def table(result: Result, folder: Path) -> str:
    out = io.StringIO()
    output.render([result], [folder], "terminal", out)
    return " ".join(out.getvalue().split())


def observations(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "observations.jsonl").read_text().splitlines()]


def bays(folder: Path) -> int:
    """How many were made."""
    return sum(o["name"] == "bay.ready" for o in observations(folder))


@pytest.mark.timeout(60)
def test_a_bay_that_does_not_return_to_its_baseline_is_flagged_and_made_anew(run: Any) -> None:
    result, folder = run("messy", "tidy")
    messy, tidy = result.trials
    assert (messy.status, tidy.status) == ("ok", "ok")
    assert bays(folder) == 2
    seen = {o["trial"]: o["data"]["services"] for o in observations(folder) if o["name"] == "ran"}
    assert seen == {messy.id: ["messy"], tidy.id: ["tidy"]}  # not ["messy", "tidy"]
    assert "did not return to its baseline: services messy are still there" in table(result, folder)


@pytest.mark.timeout(60)
def test_a_bay_that_is_as_it_was_serves_the_next_trial_too(run: Any) -> None:
    result, folder = run("tidy", "messy")
    assert [t.status for t in result.trials] == ["ok", "ok"]
    assert bays(folder) == 1
    assert [t.flag for t in result.trials] == ["", ""]  # after the last one the bay goes: nobody is harmed by what it left


@pytest.mark.timeout(60)
def test_what_the_driver_cannot_do_is_skipped_below_the_table_with_its_reason(run: Any) -> None:
    result, folder = run("checked", "tidy")
    assert [(t.scenario, t.status) for t in result.trials] == [("checked", "skipped"), ("tidy", "ok")]
    told = table(result, folder)
    assert "Toy lacks 'health': the toy engine looks at processes, not at health paths" in told


@pytest.mark.timeout(60)
def test_columns_whose_names_differ_late_or_in_signs_alone_are_told_apart(run: Any) -> None:
    long = "a-name-that-is-longer-than-any-bay-s"
    names = [f"{long}.one", f"{long}-two", "x.y", "x-y"]
    result, _ = run("tidy", subjects=[f"{n}=toy" for n in names])
    assert len({t.id for t in result.trials}) == 4
    assert {t.subject: t.status for t in result.trials} == dict.fromkeys(names, "ok")
    ran = next(m for m in result.metrics if m.name == "ran")
    assert {name: v.n for name, v in ran.values.items()} == dict.fromkeys(names, 1)


@pytest.mark.timeout(60)
def test_a_disk_that_is_full_keeps_no_bay_up(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the trial's first observation on nothing can be recorded: the run ends, and its bay is gone (`run` looks)."""
    write = running.folders.Recorder.observed

    def full(self: Any, observation: Observation) -> None:
        if observation.name not in ("bay.creating", "bay.ready", "prober.ready"):
            raise OSError(28, "No space left on device")
        write(self, observation=observation)

    full.coebench_impl = write.coebench_impl  # type: ignore[attr-defined]
    monkeypatch.setattr(running.folders.Recorder, "observed", full)
    with pytest.raises(OSError, match="No space left"):
        run("tidy")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_the_end_of_a_bay_is_told_comes_after_its_end(run: Any, which: signal.Signals) -> None:
    class Impatient:
        @hookimpl
        def observed(self, observation: Observation) -> None:
            if observation.name in ("ran", "bay.deleting"):
                os.kill(os.getpid(), which)

    with pytest.raises(running.Interrupted):
        run("tidy", listener=Impatient())


@pytest.mark.timeout(60)
def test_a_run_that_shall_outlive_its_terminal_does(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `nohup` starts it: SIGHUP is ignored."""

    class Closing:
        @hookimpl
        def observed(self, observation: Observation) -> None:
            if observation.name in ("ran", "bay.deleting"):
                os.kill(os.getpid(), signal.SIGHUP)

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        result, _ = run("tidy", listener=Closing())
    finally:
        signal.signal(signal.SIGHUP, before)
    assert {t.status for t in result.trials} == {"ok"}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("error", [KeyError("id"), AttributeError("'NoneType' object has no attribute 'get'"), RuntimeError("x")])
def test_a_client_library_s_error_in_clean_up_costs_no_result(
    run: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    delete = ToyProvisioner.delete

    def failing(self: ToyProvisioner, *args: Any) -> None:
        delete(self, *args)
        raise error

    monkeypatch.setattr(ToyProvisioner, "delete", failing)
    monkeypatch.setattr(ToyProvisioner, "save_logs", failing)
    result, folder = run("tidy")
    assert {t.status for t in result.trials} == {"ok"}
    warnings = [o["data"]["text"] for o in observations(folder) if o["name"] == "warning"]
    assert len(warnings) == 1
    assert f"failed: {type(error).__name__}: " in warnings[0] and "coebench clean" in warnings[0]


@pytest.mark.timeout(60)
def test_what_only_one_run_can_have_is_asked_for_first_and_given_back(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(ToyProvisioner, "free", lambda self: told.append("free"), raising=False)
    monkeypatch.setattr(ToyProvisioner, "release", lambda self: told.append("release"), raising=False)
    leftovers = ToyProvisioner.leftovers
    monkeypatch.setattr(ToyProvisioner, "leftovers", lambda self: told.append("leftovers") or leftovers(self))
    run("tidy")
    assert told == ["free", "leftovers", "release", "leftovers"]  # the last one by `run`'s own look


def test_the_lab_is_free_or_its_holder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COEBENCH_STATE", str(tmp_path))
    lock.free()
    with lock.take("compare"), pytest.raises(BadInput, match=f"in use: coebench compare, process {os.getpid()}"):
        lock.free()
    first, second = LabProvisioner(), LabProvisioner()
    first._held = lock.take("compare")
    with pytest.raises(BadInput, match="in use"):
        second.free()
    first.release()
    second.free()
    with lock.take("compare"):  # one process may compare twice
        pass


@pytest.mark.timeout(60)
def test_a_trial_that_is_refused_halfway_leaves_nothing_to_the_next(run: Any) -> None:
    result, folder = run("halfway", "tidy")
    assert [t.status for t in result.trials] == ["skipped", "ok"]
    assert bays(folder) == 2
    told = table(result, folder)
    assert "the toy engine has none" in told
    assert "did not return to its baseline: services halfway are still there" in told


@pytest.mark.timeout(60)
def test_the_manifest_has_the_timeouts_of_who_knows_them_beforehand(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = run("tidy")
    assert json.loads((folder / "manifest.json").read_text())["timeouts"] == {}
    monkeypatch.setattr(ToyProvisioner, "timeouts", lambda self, spec: {"beat": f"{spec.nodes}s"}, raising=False)
    _, folder = run("tidy")
    assert json.loads((folder / "manifest.json").read_text())["timeouts"] == {"toy": {"beat": "3s"}}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("scenario", "status", "kept"), [("maker", "ok", ["ill"]), ("failing-maker", "failed", ["ill", "well"])])
def test_logs_are_kept_of_bays_that_a_scenario_made_and_that_failed(
    run: Any, scenario: str, status: str, kept: list[str]
) -> None:
    result, folder = run(scenario)
    (trial,) = result.trials
    assert trial.status == status, trial.reason
    logs = folder / "logs" / trial.id
    assert sorted(p.name for p in logs.iterdir()) == kept
    assert all((logs / label / "engine.log").is_file() for label in kept)


def test_a_step_that_ends_after_its_trial_leaves_no_bay() -> None:
    """A resize that is under way when the trial is given up makes hosts anew, which `close` had just taken away."""
    there: set[str] = set()
    begun, closed = threading.Event(), threading.Event()

    def resize(bay: Any, nodes: int, observe: Any) -> Any:
        begun.set()
        assert closed.wait(10)
        there.add(bay.name)
        return bay

    provisioner: Any = SimpleNamespace(
        name="lab",
        create=lambda name, *_: there.add(name) or SimpleNamespace(name=name),
        resize=resize,
        delete=lambda bay, *_: there.discard(getattr(bay, "name", bay)),
    )
    none: Any = None
    bays = TrialBays(provisioner, "p", BaySpec(coe="toy", nodes=1), none)
    made = bays.create("x", 1, none)
    late = threading.Thread(target=bays.resize, args=(made, 2, none))
    late.start()
    assert begun.wait(10)
    bays.close(none)
    closed.set()
    late.join(10)
    assert there == set()
