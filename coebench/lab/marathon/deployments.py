"""Deployments: the steps from what was to what is wanted, and what each step asks of an app's instances now."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .apps import App
from .clock import seconds
from .instances import Instance

Json = dict[str, Any]

ROUNDING = 1e-6  # 2/3 of 3 are 2
START, SCALE, RESTART, STOP = "StartApplication", "ScaleApplication", "RestartApplication", "StopApplication"


@dataclass
class Deployment:
    id: str
    version: str
    original: dict[str, Json | None]
    """What the apps were before (App.kept), None for one that was not."""
    target: dict[str, Json | None]
    """What they are to be, None for one that is to go."""
    steps: list[list[tuple[str, str]]]
    """Steps of actions (kind, app)."""
    current: int = 0
    doomed: set[str] = field(default_factory=set)
    """Instances that were named to be killed when scaling down."""

    @property
    def apps(self) -> list[str]:
        return sorted({app for step in self.steps for _, app in step} or set(self.target))

    def action(self, app_id: str) -> str | None:
        """What the current step does with the app."""
        if self.current >= len(self.steps):
            return None
        return next((kind for kind, app in self.steps[self.current] if app == app_id), None)

    def shown(self) -> Json:
        """As an entry of /v2/deployments."""
        current = self.steps[self.current] if self.current < len(self.steps) else []
        return {
            "id": self.id,
            "version": self.version,
            "affectedApps": self.apps,
            "affectedPods": [],
            "steps": [{"actions": _actions(step)} for step in self.steps],
            "currentActions": _actions(current, with_readiness=True),
            "currentStep": min(self.current + 1, max(len(self.steps), 1)),
            "totalSteps": len(self.steps),
        }

    def plan(self) -> Json:
        """As events show it."""
        return {
            "id": self.id,
            "version": self.version,
            "original": _group(self.original, self.version),
            "target": _group(self.target, self.version),
            "steps": [{"actions": _actions(step)} for step in self.steps],
        }

    def step(self) -> Json:
        return {"actions": _actions(self.steps[self.current])}

    def kept(self) -> Json:
        return {**self.__dict__, "doomed": sorted(self.doomed)}

    @classmethod
    def restored(cls, kept: Json) -> Deployment:
        steps = [[(kind, app) for kind, app in step] for step in kept["steps"]]
        return cls(**{**kept, "steps": steps, "doomed": set(kept["doomed"])})


def _actions(step: Iterable[tuple[str, str]], with_readiness: bool = False) -> list[Json]:
    extra: Json = {"readinessCheckResults": []} if with_readiness else {}
    return [{"action": kind, "app": app, **extra} for kind, app in step]


def _group(apps: Mapping[str, Json | None], version: str) -> Json:
    shown = [{**kept["spec"], "version": kept["version"]} for kept in apps.values() if kept]
    return {"id": "/", "version": version, "apps": shown, "groups": [], "pods": [], "dependencies": []}


def planned(
    original: Mapping[str, App | None],
    target: Mapping[str, App | None],
    version: str,
    restart: Iterable[str] = (),
    doomed: Iterable[str] = (),
) -> Deployment:
    """The deployment that leads from ``original`` to ``target``; ``restart`` names apps to restart as they are."""
    steps: list[list[tuple[str, str]]] = []
    restart = set(restart)
    gone = [app_id for app_id, app in target.items() if app is None]
    if gone:
        steps.append([(STOP, app_id) for app_id in sorted(gone)])
    for layer in _layers({app_id: app for app_id, app in target.items() if app}):
        start, change = [], []
        for app in layer:
            before = original.get(app.id)
            if before is None:
                start.append((START, app.id))
                change.append((SCALE, app.id))
            elif app.id in restart or app.differs_in_config(before):
                change.append((RESTART, app.id))
            elif app.instances != before.instances:
                change.append((SCALE, app.id))
        steps += [step for step in (start, change) if step]
    return Deployment(
        str(uuid.uuid4()),
        version,
        {app_id: app.kept() if app else None for app_id, app in original.items()},
        {app_id: app.kept() if app else None for app_id, app in target.items()},
        steps,
        doomed=set(doomed),
    )


def _layers(apps: dict[str, App]) -> list[list[App]]:
    """Apps in the order of their dependencies: each layer needs those before it only."""
    layers: list[list[App]] = []
    left = dict(sorted(apps.items()))
    while left:
        free = [a for a in left.values() if not any(d in left and d != a.id for d in a.spec["dependencies"])]
        layer = free or list(left.values())  # a circle: all at once
        layers.append(layer)
        for app in layer:
            del left[app.id]
    return layers


@dataclass(frozen=True)
class Decision:
    """What to do for an app at this moment, and whether the action has reached its end."""

    start: int = 0
    kill: tuple[Instance, ...] = ()
    done: bool = False


def decide(action: str | None, app: App, instances: list[Instance], doomed: Iterable[str] = ()) -> Decision:
    """One look at an app's instances.  Without an action the app is merely kept at its size."""
    if action == START:
        return Decision(done=True)
    if action == STOP:
        return Decision(kill=tuple(i for i in instances if not i.killing), done=not instances)
    if action == RESTART:
        return _replace(app, instances, set(doomed))
    return _scale(app, instances, set(doomed))


def _scale(app: App, instances: list[Instance], doomed: set[str]) -> Decision:
    active = [i for i in instances if i.active]
    missing = app.instances - len(active)
    if missing >= 0:
        good = sum(i.good for i in active)
        ending = any(i.killing for i in instances)
        return Decision(start=missing, done=missing == 0 and good == app.instances and not ending)
    victims = sorted(active, key=lambda i: (i.id not in doomed, *_worth(app, i)))[:-missing]
    return Decision(kill=tuple(victims))


def _worth(app: App, instance: Instance) -> tuple[int, float]:
    """Sorts first what is lost with the least regret."""
    if instance.state == "TASK_UNREACHABLE":
        rank = 0
    elif not instance.running:
        rank = 1
    elif not instance.healthy:
        rank = 2
    else:
        rank = 3
    begun = seconds(instance.staged_at)
    return rank, -begun if app.spec["killSelection"] == "YOUNGEST_FIRST" else begun


def limits(app: App, present: int) -> tuple[int, int]:
    """How many good instances an update keeps at least, and how many there may be at most."""
    strategy = app.spec["upgradeStrategy"]
    least = math.ceil(app.instances * strategy["minimumHealthCapacity"] - ROUNDING)
    most = math.floor(app.instances * (1 + strategy["maximumOverCapacity"]) + ROUNDING)
    if least >= most and present >= most:
        most += 1  # or nothing could ever be replaced
    return least, most


def _replace(app: App, instances: list[Instance], doomed: set[str]) -> Decision:
    """Rolling update: new ones up to the most, then old ones down to the least, as often as it takes. The doomed go at once."""
    named = [i for i in instances if i.active and i.id in doomed]
    old = [i for i in instances if i.config != app.config_at and i not in named]
    new = [i for i in instances if i.config == app.config_at and i not in named]
    active_old = sorted((i for i in old if i.active), key=lambda i: _worth(app, i))
    active_new = [i for i in new if i.active]
    least, most = limits(app, len(active_old) + len(active_new))

    start = max(0, min(app.instances - len(active_new), most - len(instances)))
    useless = [i for i in active_old if not i.good]
    spare = sum(i.good for i in active_old + active_new) - least
    kill = named + useless + [i for i in active_old if i.good][: max(0, spare)]
    surplus = len(active_new) - app.instances
    if surplus > 0:
        kill += sorted(active_new, key=lambda i: _worth(app, i))[:surplus]
    if not app.instances:
        kill = [i for i in instances if i.active]
    done = not old and not named and sum(i.good for i in active_new) == app.instances and len(instances) == app.instances
    return Decision(start, tuple(kill), done)
