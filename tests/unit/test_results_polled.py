"""Times that were seen by polling: what the report says of them, and that nothing finer is compared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic import T0, Deploy

from coebench.contract import FollowingWatch, Observation
from coebench.hooks import Outcome, TrialInfo, manager
from coebench.report.table import table
from coebench.results import diff, folder
from coebench.results.derive import derive
from coebench.scenarios.following import tell_fallback


def _run(path: Path, values: dict[str, list[float]], poll: dict[str, Any] | None) -> Any:
    """A run of two columns; the second's watch is `poll`."""
    run = folder.create(path, path.name)
    recorder = folder.Recorder(run, clock=lambda: T0)
    hooks = manager()
    hooks.register(recorder)
    subjects = [{"name": s, "coe": "mesos", "options": {"of": s}} for s in values]
    manifest = {"schema": folder.RUN_SCHEMA, "run": path.name, "seed": 1, "blocks": 6, "started": T0, "subjects": subjects}
    hooks.hook.run_started(run=path.name, folder=str(run), manifest=manifest)
    for block in range(6):
        for subject, mine in values.items():
            t = TrialInfo(
                id=f"b{block + 1}.{subject}.deploy",
                block=block + 1,
                subject=subject,
                coe="mesos",
                scenario="deploy",
                bay=subject,
                position=1,
                of=12,
            )
            hooks.hook.trial_started(trial=t)
            facts = [("fact", {"metric": "last", "value": mine[block]})]
            if poll is not None and subject == "b":
                facts.insert(0, ("watch.fallback", poll))
            for name, data in facts:
                hooks.hook.observed(observation=Observation(at=T0, name=name, trial=t.id, data=data))
            hooks.hook.trial_ended(trial=t, outcome=Outcome(status="ok", seconds=1.0))
    return derive(run, {"deploy": Deploy()})


NEAR = {"a": [0.3 + i / 100 for i in range(6)], "b": [1.3 + i / 100 for i in range(6)]}
FAR = {"a": [10 + i / 100 for i in range(6)], "b": [30 + i / 100 for i in range(6)]}


@pytest.mark.parametrize(
    "values, poll, reason",
    [
        (NEAR, None, ""),
        (NEAR, {"how": "the app is listed every 2 s", "seconds": 2.0}, "seen by polling every 2 s, too coarse to tell"),
        (NEAR, {"how": "tasks are listed every 2 s"}, "seen by polling every 2 s, too coarse to tell"),  # an older record
        (NEAR, {"how": "it looks now and then"}, "seen by polling, too coarse to tell"),
        (NEAR, {"how": "tasks are listed every 100 ms"}, ""),
        (FAR, {"how": "the app is listed every 2 s", "seconds": 2.0}, ""),
    ],
)
def test_what_is_finer_than_the_poll_is_not_compared(tmp_path: Path, values: Any, poll: Any, reason: str) -> None:
    result = _run(tmp_path / "r", values, poll)
    (m,) = result.metrics
    (r,) = m.ratios
    assert (r.reason, r.distinguishable, m.best) == (reason, not reason, None if reason else "a")
    notes = [text for _, text in table(result).footnotes]
    if poll:
        assert any(poll["how"] in n and "not compared" in n for n in notes) and any(poll["how"] in w for w in result.warnings)
        assert m.values["b"].polled == poll["how"] and not m.values["a"].polled
    else:
        assert not notes and not result.warnings


def test_two_runs_are_compared_no_finer(tmp_path: Path) -> None:
    how = {"how": "the app is listed every 2 s", "seconds": 2.0}
    a, b = _run(tmp_path / "a", NEAR, None), _run(tmp_path / "b", {"a": NEAR["a"], "b": NEAR["a"]}, how)
    changes = {c.subject: c for c in diff.row(a.metrics[0], b.metrics[0], {"a": "a", "b": "b"}, 0.05)}
    assert changes["b"].verdict == diff.UNKNOWN and "polling every 2 s" in changes["b"].reason and changes["b"].ratio is None
    assert "polling" not in changes["a"].reason


def test_a_watch_that_begins_to_poll_is_observed_once() -> None:
    told: list[dict[str, Any]] = []
    trial: Any = SimpleNamespace(observe=lambda name, **data: told.append({"name": name, **data}))
    with FollowingWatch(lambda w: w.closed.wait() and None) as watch:
        said = tell_fallback(trial, "web", watch)
        assert not told
        watch.poll("listed every 2 s", 2.0)
        said = tell_fallback(trial, "web", watch, said)
        tell_fallback(trial, "web", watch, said)
    assert told == [{"name": "watch.fallback", "service": "web", "how": "listed every 2 s", "seconds": 2.0}]
