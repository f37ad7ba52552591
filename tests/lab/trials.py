"""One scenario on one real bay, without a run around it: its observations and what it derives from them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from coebench import plugins
from coebench.contract import Bay, Driver, EngineError, Observation, Provisioner, Sample, now
from coebench.load.prober import BayProber
from coebench.runner.trial import TrialRun


class NoJournal:
    """A journal for bays that a fixture takes down."""

    def creating(self, resource: object) -> None: ...
    def gone(self, resource: object) -> None: ...


class Bench:
    """A driver and a prober on a bay."""

    def __init__(self, provisioner: Provisioner, bay: Bay) -> None:
        self.provisioner = provisioner
        self.bay = bay
        self.driver: Driver = plugins.load("drivers", bay.spec.coe, "COE").connect(provisioner.access(bay))
        self.prober = BayProber(self.driver, plugins.load("workloads", "loadgen", "workload"), executes=True)
        self.workload = plugins.load("workloads", "http", "workload")

    def trial(self, observations: list[Observation], settings: Mapping[str, Any]) -> TrialRun:
        def observe(name: str, *, at: float | None = None, **data: Any) -> None:
            observations.append(Observation(at=now() if at is None else at, name=name, trial="t", data=data))

        return TrialRun(
            "t",
            self.bay,
            self.driver,
            self.prober,
            self.workload,
            settings,
            observe,
            self._alive,
            seed=1,
            provisioner=self.provisioner,
            tools=plugins.load("workloads", "loadgen", "workload"),
            journal=NoJournal(),
        )

    def _alive(self) -> None:
        self.provisioner.describe(self.bay)

    def run(self, name: str, **changes: Any) -> tuple[list[Observation], dict[str, dict[Any, Sample]]]:
        """Run a scenario's smoke profile with changed settings; returns its observations, and metric → factors' values →
        sample. A single factor's value stands for itself."""
        scenario = plugins.load("scenarios", name, "scenario")()
        settings = {**scenario.settings("smoke"), **changes}
        scenario.check(settings, len(self.bay.nodes))
        observations: list[Observation] = []
        scenario.run(self.trial(observations, settings))
        samples: dict[str, dict[Any, Sample]] = {}
        for sample in scenario.derive(sorted(observations, key=lambda o: o.at)):
            factors = tuple(sample.factors.values())
            cell = samples.setdefault(sample.metric, {})
            key = factors[0] if len(factors) == 1 else factors
            assert key not in cell, f"{sample.metric} twice for {factors}"
            cell[key] = sample
        assert set(samples) <= {m.name for m in scenario.metrics}
        return observations, samples


@contextlib.contextmanager
def bench(provisioner: Provisioner, bay: Bay) -> Iterator[Bench]:
    made = Bench(provisioner, bay)
    try:
        made.prober.start(60)
        yield made
    finally:
        with contextlib.suppress(EngineError):
            made.prober.stop()
        made.driver.close()
