"""A change is seen when it happens: by a test that knows when it did."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab


@pytest.mark.timeout(120)
def test_the_prober_sees_within_its_interval(lab_installed: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks/lab"))
    sys.modules.pop("bench", None)
    import bench

    had, told = bench.sight(count=20)
    assert all(h > -1 for h in had)  # nothing is seen before it happens, but for the clocks' uncertainty
    assert statistics.median(told) < 20
    assert all(t >= h for h, t in zip(had, told, strict=True))
