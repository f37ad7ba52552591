"""How long does an engine take to list its services?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from coebench.contract import BadInput, Better, Capability, Metric, Observation, Sample, Trial

TIMES = {"smoke": 20, "default": 100, "full": 500}


class Listing:
    """`run` asks and observes; `derive` makes samples of what was observed, and of nothing else."""

    name: ClassVar[str] = "listing"
    question: ClassVar[str] = "How long does the engine take to list its services?"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="list_services",
            unit="ms",
            better=Better.LOWER,
            title="services listed",
            definition="Median over a trial: from asking the engine for coebench's services until its answer is read.",
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return {"times": TIMES[profile], "timeout": 60}

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        times = settings["times"]
        if not isinstance(times, int) or not 1 <= times <= 10_000:
            raise BadInput(f"listing.times is a number from 1 to 10000, not {times!r}")

    def run(self, trial: Trial) -> None:
        with trial.phase("listing", float(trial.settings["timeout"])) as deadline:
            for _ in range(trial.settings["times"]):
                deadline.left()  # raises when the phase's time is over
                begun = time.monotonic()
                trial.driver.services()
                trial.observe("services.listed", seconds=time.monotonic() - begun)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        taken = [o.data["seconds"] for o in observations if o.name == "services.listed"]
        if taken:
            yield Sample(metric="list_services", value=statistics.median(taken) * 1e3)
