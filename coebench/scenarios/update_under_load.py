"""What do a service's users feel while it is updated, and when the new version is a bad one?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..contract import (
    BadInput,
    Capability,
    Conflict,
    LoadPlan,
    Metric,
    Observation,
    Room,
    Sample,
    ServiceSpec,
    Strategy,
    Target,
    Trial,
    now,
)
from . import update_figures
from .eyes import Eyes, check_numbers, connections, deployed

# How a rolling update may go: what each leaves free. "bad": the first one, to a version that never becomes healthy.
STRATEGIES: Mapping[str, Strategy] = {
    "surge": Strategy(surge=1, unavailable=0),
    "unavailable": Strategy(surge=0, unavailable=1),
    "both": Strategy(surge=1, unavailable=1),
}
BAD = "bad"
NEVER_HEALTHY = {"COEBENCH_UNHEALTHY": "1"}  # the http workload then has no health path

COMMON: Mapping[str, Any] = {"instances": 3, "slow_ms": 100, "request_timeout": 1, "before": 2}
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"strategies": ["surge", BAD], "rate": 100, "fraction": 0, "timeout": 60, "bad_window": 10, **COMMON},
    "default": {
        "strategies": ["surge", "unavailable", BAD],
        "rate": 200,
        "fraction": 0,
        "timeout": 120,
        "bad_window": 20,
        **COMMON,
    },
    "full": {"strategies": [*STRATEGIES, BAD], "rate": 200, "fraction": 0.2, "timeout": 300, "bad_window": 20, **COMMON},
}
DEPLOY = 60.0  # seconds until a deployment, and a removal, is given up
LOOK = 0.2  # seconds between two questions to the engine whether it is done
SATURATION = 2.0  # seconds of closed loop from which a fraction is taken


class UpdateUnderLoad:
    """For each strategy: a new service of the first version, load on the instances that the engine calls ready, an update to
    the second version, until none but new instances are listed and answer."""

    name: ClassVar[str] = "update-under-load"
    question: ClassVar[str] = "What do users feel while a service is updated, and when the new version is bad?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS, Capability.HEALTH, Capability.UPDATE})
    metrics: ClassVar[tuple[Metric, ...]] = update_figures.METRICS

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def longest(self, settings: Mapping[str, Any]) -> float:
        """Seconds that a trial with these settings takes at most."""
        good = sum(s != BAD for s in settings["strategies"])
        each = 2 * DEPLOY + settings["before"] + 10 + (SATURATION + 30 if settings["fraction"] else 0)
        return float(
            len(settings["strategies"]) * each + good * settings["timeout"] + settings["bad_window"] + settings["timeout"]
        )

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        each = settings["before"] + (SATURATION if settings["fraction"] else 0)
        return float(sum(each + (settings["bad_window"] if s == BAD else 0) for s in settings["strategies"]))

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        """With what the strategies have above the wanted number."""
        surge = max(STRATEGIES.get(s, STRATEGIES["surge"]).surge for s in settings["strategies"])
        return (Room(instances=settings["instances"] + surge, cpu=spec.cpu, memory=spec.memory),)

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        chosen, known = settings["strategies"], (*STRATEGIES, BAD)
        if not isinstance(chosen, list) or not chosen or not all(s in known for s in chosen) or len(set(chosen)) < len(chosen):
            raise BadInput(f"update-under-load: 'strategies' is a list of some of {', '.join(known)}, each once, not {chosen!r}")
        check_numbers(
            self.name,
            settings,
            (
                ("instances", 1, 1000),
                ("rate", 1, 100_000),
                ("fraction", 0, 1),
                ("timeout", 1, 3600),
                ("bad_window", 1, 3600),
                ("slow_ms", 1, 60_000),
                ("request_timeout", 0.05, 60),
                ("before", 0, 600),
            ),
        )

    def run(self, trial: Trial) -> None:
        for strategy in trial.settings["strategies"]:
            self._update(trial, strategy)

    def _update(self, trial: Trial, strategy: str) -> None:
        s = trial.settings
        wanted, service = s["instances"], f"update-{strategy}"
        old, new = trial.workload.versions[:2]
        spec = trial.workload.service(service, wanted, old)
        with Eyes(trial, service) as eyes:
            with trial.phase(f"deploy {strategy}", DEPLOY) as deadline:
                trial.driver.deploy(spec)
                deployed(eyes, wanted, deadline)
            rate = _rate(trial, service, strategy, s)
            eyes.begin(rate, wanted, float(s["request_timeout"]), s["slow_ms"] / 1000)
            with trial.phase(f"before {strategy}", s["before"] + 10) as deadline:
                eyes.watch_for(s["before"], deadline)
            about: dict[str, Any] = {"service": service, "strategy": strategy, "instances": wanted, "old": old, "new": new}
            if strategy == BAD:
                self._bad(trial, eyes, spec, about)
            else:
                self._good(trial, eyes, trial.workload.service(service, wanted, new), about)
            result = eyes.end()
            if result.saturated:
                factors = {"strategy": strategy}
                spoilt = ["failed", "slow", "last_error", "without_downtime"]
                trial.observe("load.saturated", reason=result.saturated, factors=factors, metrics=spoilt)
        with trial.phase(f"remove {strategy}", DEPLOY):
            trial.remove(service)

    def _good(self, trial: Trial, eyes: Eyes, spec: ServiceSpec, about: Mapping[str, Any]) -> None:
        how = STRATEGIES[about["strategy"]]
        with trial.phase(f"update {about['strategy']}", float(trial.settings["timeout"])) as deadline:
            trial.observe("update.asked", **about, surge=how.surge, unavailable=how.unavailable)
            trial.driver.update(spec, how)
            trial.observe("update.accepted", **about)
            looked = done = 0.0
            while not (done and _all_new(eyes, about["new"], about["instances"]) and eyes.settled(about["instances"])):
                deadline.waiting_for(eyes.missing())
                eyes.watch_for(LOOK, deadline)
                if not done and now() - looked > LOOK:
                    looked = now()
                    if trial.driver.progress(eyes.service).done:
                        done = now()
                        trial.observe("update.done", at=done, **about)
            trial.observe("update.settled", **about)

    def _bad(self, trial: Trial, eyes: Eyes, spec: ServiceSpec, about: Mapping[str, Any]) -> None:
        """A version that never becomes healthy: watched for a while, then the user goes back to the old one."""
        how = STRATEGIES["surge"]
        broken = msgspec.structs.replace(
            trial.workload.service(eyes.service, spec.instances, about["new"]), env={**spec.env, **NEVER_HEALTHY}
        )
        limit = float(trial.settings["bad_window"])
        with trial.phase("update bad", limit + DEPLOY) as deadline:
            trial.observe("update.asked", **about, surge=how.surge, unavailable=how.unavailable)
            trial.driver.update(broken, how)
            trial.observe("update.accepted", **about)
            eyes.watch_for(limit, deadline)
            progress = trial.driver.progress(eyes.service)
            told: dict[str, Any] = {"done": progress.done, "said": progress.said, "stopped": progress.stopped}
            trial.observe("update.window", **about, seconds=limit, **told)
        with trial.phase("go back", float(trial.settings["timeout"])) as deadline:
            trial.observe("update.back", **about)
            try:
                trial.driver.update(spec, how)
            except Conflict as e:
                trial.observe("update.back.refused", **about, error=str(e))
                return
            eyes.until(
                lambda: _all_new(eyes, about["old"], about["instances"]) and eyes.settled(about["instances"]),
                deadline,
                "not back at the old version",
            )
            trial.observe("update.settled", **about)

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        return update_figures.derive(observations)


def _all_new(eyes: Eyes, version: str, wanted: int) -> bool:
    """All that answer, as many as asked for, are of this version."""
    answering = [a.version for i, a in eyes.answered.items() if i not in eyes.silent]
    return len(answering) == wanted and all(v == version for v in answering)


def _rate(trial: Trial, service: str, strategy: str, s: Mapping[str, Any]) -> float:
    """The fixed rate, or a fraction of what the service serves at most, which is measured."""
    if not s["fraction"]:
        return float(s["rate"])
    with trial.phase(f"saturate {strategy}", SATURATION + 30):
        targets = tuple(Target(i.address, i.port) for i in trial.driver.instances(service) if i.address and i.port)
        count = connections(0, s["instances"], 1)
        most = trial.prober.load(LoadPlan(targets=targets, connections=count, duration=SATURATION, warmup=0.5))
    rate = max(1.0, float(s["fraction"]) * most.achieved_rps)
    trial.observe(
        "update.rate",
        service=service,
        strategy=strategy,
        saturation=most.achieved_rps,
        saturated=most.saturated,
        rate=rate,
    )
    if most.saturated:
        said = f"update-under-load, {strategy}: what the service serves at most is not known, the generator was at its limit: "
        trial.observe("warning", text=f"{said}{most.saturated}; {rate:.0f}/s is a smaller share of it than was asked for")
    return rate
