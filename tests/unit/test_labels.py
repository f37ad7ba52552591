"""benchmarks/suite/labels.py: every way to name a run's trials, on values with known answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location("labels", Path(__file__).parents[2] / "benchmarks/suite/labels.py")
assert _spec and _spec.loader
labels = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(labels)


def row(one: list[float], other: list[float], censored: int = 0) -> Any:
    def cell(values: list[float]) -> Any:
        samples = [SimpleNamespace(block=n, value=v) for n, v in enumerate(values, 1)]
        return SimpleNamespace(samples=samples, censored=censored)

    return SimpleNamespace(values={"A": cell(one), "B": cell(other)})


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([row([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0])], (1, 16, 0)),
        # two things that differ: only the names that they really have show it, for each other way mixes them
        ([row([1.0, 1.1, 1.2, 1.3, 1.4], [9.0, 9.1, 9.2, 9.3, 9.4])], (1, 16, 1)),
        ([row([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])], (0, 0, 0)),  # too few to call anything a difference
        ([row([1.0] * 5, [1.0] * 5, censored=1)], (0, 0, 0)),
    ],
)
def test_all_ways_to_name_the_trials_are_compared(rows: list[Any], found: tuple[int, int, int], monkeypatch: Any) -> None:
    monkeypatch.setattr(labels.folder, "read_result", lambda run: SimpleNamespace(metrics=rows))
    assert labels.labelled(Path("run")) == found
