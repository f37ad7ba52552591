"""The image that measures: what its services must never depend on."""

from __future__ import annotations

import pytest

from coebench import plugins


@pytest.mark.parametrize("name", ["coebench-prober", "coebench-generators", "network-bulk"])
def test_no_engine_may_end_what_measures_for_slow_answers(name: str) -> None:
    """A health check that is late on a busy machine would cost a trial its prober, or a load its generator."""
    tools = plugins.load("workloads", "loadgen", "workload")
    assert tools.service(name, 1, tools.versions[0]).health is None
