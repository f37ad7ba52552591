"""How much later does a service answer when its image has to be pulled from a registry first?"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from ..contract import Better, Capability, ImageRegistry, Metric, Observation, Pushed, Room, Sample, ServiceSpec, Trial
from . import checks, facts
from .crowd import Crowd, gone, saying, serving
from .timing import PAUSE, START

COLD, WARM = "cold", "warm"
MIB = 1 << 20
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"instances": 3, "filler": [0], "timeout": 60},
    "default": {"instances": 6, "filler": [0, 64], "timeout": 120},
    "full": {"instances": 6, "filler": [0, 64, 256], "timeout": 300},
}


def _metric(name: str, title: str, definition: str, **more: Any) -> Metric:
    return Metric(**{"name": name, "unit": "s", "better": Better.LOWER, "title": title, "definition": definition, **more})


class ColdImage:
    """A service is deployed from an image that no node has, removed, and deployed once more, now that nodes have it."""

    name: ClassVar[str] = "cold-image"
    question: ClassVar[str] = "How much later does a service answer when its image has to be pulled from a registry first?"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.ENDPOINTS})
    spoils: ClassVar[bool] = True  # Mesos' agents begin again for it, and images are left
    metrics: ClassVar[tuple[Metric, ...]] = (
        _metric(
            "first_answer",
            "first instance answers",
            "From sending the request to the engine until the prober has the first good answer of any instance. cold: no node "
            "has any layer of the image; warm: the same image once more, after the first service was removed.",
        ),
        _metric(
            "all_answer",
            "all instances answer",
            "From sending the request until the prober has had a good answer of each of the instances, cold and warm.",
        ),
        _metric(
            "all_ready",
            "engine says: all ready",
            "From sending the request until the engine's own stream has called all instances ready, cold and warm.",
            claim_of="all_answer",
        ),
        _metric(
            "accepted",
            "request accepted",
            "Until the engine's API has answered the request. Swarm's manager asks the registry for the image's digest before.",
        ),
        _metric("adds", "the pull adds", "all_answer cold less all_answer warm, of the same trial and the same image."),
        _metric(
            "fetched",
            "registry has sent",
            "Bytes of layers and configurations that the registry sent to all nodes together meanwhile, by its own log. Cold: "
            "the packed image for each node that runs an instance. Warm: 0, unless an instance came onto a node that had none.",
            unit="MiB",
            better=Better.NEITHER,
        ),
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        checks.whole(self.name, settings, "instances", 1, 1000)
        checks.numbers(self.name, settings, "filler", 0, 4096)
        checks.number(self.name, settings, "timeout", 1, 86400)

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        return (Room(instances=settings["instances"], cpu=spec.cpu, memory=spec.memory),)

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        """Each size is deployed cold and warm, with a pause before either request."""
        return float(len(settings["filler"]) * 2 * (2 * PAUSE + START))

    def run(self, trial: Trial) -> None:
        s, rng = trial.settings, random.Random(trial.seed)
        spec = trial.workload.service("any", s["instances"], trial.workload.versions[0])
        with trial.registry() as registry:
            trial.observe("registry", about=registry.about)
            for filler in s["filler"]:
                with trial.phase(f"push {filler}", s["timeout"]):
                    name = f"coebench-cold:{filler}"
                    image = registry.push(spec.image, name, filler=filler * MIB, seed=rng.getrandbits(48))
                about = {k: v for k, v in msgspec.to_builtins(image).items() if k != "name"}
                trial.observe("pushed", filler=filler, image=image.name, **about)
                for pull in (COLD, WARM):
                    self._deploy(trial, rng, registry, spec, image, pull, filler)

    def _deploy(
        self, trial: Trial, rng: random.Random, registry: ImageRegistry, spec: ServiceSpec, image: Pushed, pull: str, filler: int
    ) -> None:
        s, name = trial.settings, f"{pull}-{filler}"
        spec = msgspec.structs.replace(spec, name=name, image=image.name, health=None)
        before = registry.sent()
        with Crowd(trial) as crowd:
            crowd.follow(name)
            f = crowd.services[name]
            crowd.rest(rng.random())  # the kubelet works by the second: neither request is to be in step with it
            with trial.phase(name, s["timeout"]) as deadline:
                trial.observe("requested", service=name, instances=spec.instances, pull=pull, filler=filler)
                trial.driver.deploy(spec)
                trial.observe("accepted", service=name)
                crowd.until(serving(f, spec.instances), deadline, saying(f), [name])
            crowd.rest(rng.random())
            with trial.phase(f"remove {name}", s["timeout"]) as deadline:
                trial.driver.remove(name)
                crowd.until(gone(f), deadline, saying(f))
        after = registry.sent()
        trial.observe("fetched", service=name, hosts={h: n - before.get(h, 0) for h, n in after.items() if n > before.get(h, 0)})

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        limits = facts.limits(observations)
        whole: dict[tuple[str, int], float] = {}
        for name, story in facts.by_service(observations).items():
            asked = next((o for o in story if o.name == "requested"), None)
            if asked is None:
                continue
            pull, filler, count = asked.data["pull"], asked.data["filler"], asked.data["instances"]
            factors = {"image": pull, "filler": f"{filler} MiB"}
            for o in story:
                if o.name == "accepted":
                    yield Sample(metric="accepted", value=o.at - asked.at, factors=factors)
                elif o.name == "fetched":
                    yield Sample(metric="fetched", value=sum(o.data["hosts"].values()) / MIB, factors=factors)
            for metric, at in _times(story, asked.at, count).items():
                if at is not None:
                    yield Sample(metric=metric, value=at - asked.at, factors=factors)
                    if metric == "all_answer":
                        whole[pull, filler] = at - asked.at
                elif name in limits:
                    yield Sample(metric=metric, value=limits[name], censored=True, factors=factors)
        for (pull, filler), value in whole.items():
            if pull == COLD and (WARM, filler) in whole:
                yield Sample(metric="adds", value=value - whole[WARM, filler], factors={"filler": f"{filler} MiB"})


def _times(story: Sequence[Observation], asked: float, count: int) -> dict[str, float | None]:
    """When each of the three facts was first so, None where it never was."""
    end = float("inf")
    return {
        "first_answer": facts.first(story, asked, end, lambda s: len(s.speaking) >= 1),
        "all_answer": facts.first(story, asked, end, lambda s: len(s.speaking) >= count),
        "all_ready": facts.first(story, asked, end, lambda s: len(s.ready()) >= count),
    }
