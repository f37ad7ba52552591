"""A run with something for every plot: made up, recorded and derived as a real one is. For tests and for looking at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from synthetic import SCENARIOS, Deploy, Synthetic

from coebench.contract import Better, Metric, Observation
from coebench.results import derive, folder
from coebench.results.model import Result

RATES = (500.0, 1000.0, 2000.0, 4000.0, 8000.0)


class Heal(Deploy):
    name = "heal"
    question = "How soon is a service whole again?"
    metrics = (
        Metric(
            name="whole",
            unit="s",
            better=Better.LOWER,
            title="whole again",
            definition="From the failure until all instances answer again.",
        ),
    )


class Curve(Deploy):
    name = "curve"
    question = "What is answered as more is asked for?"
    metrics = (
        Metric(name="knee", unit="1/s", better=Better.HIGHER, title="highest rate within the limit", definition="By p99."),
    )


class Update(Deploy):
    name = "update"
    question = "What does a client notice of a rolling update?"
    metrics = (Metric(name="failed", unit="%", better=Better.LOWER, title="requests failed", definition="Of those planned."),)


ALL = {**SCENARIOS, "heal": Heal(), "curve": Curve(), "update": Update()}


def encoded(values: Sequence[float]) -> str:
    h = HdrHistogram(64, 60_000_000_000, 3)
    for v in values:
        h.record_value(int(v * 1e6))
    return str(h.encode().decode())


class Everything(Synthetic):
    """`hostile`: a name that is markup, as a subject's and in every text."""

    def __init__(self, base: Path, hostile: str = "", **kw: Any) -> None:
        subjects = {"k8s": "k8s", hostile or "swarm": "swarm", "mesos": "mesos"}
        effect = {"k8s": 1.9, hostile or "swarm": 1.0, "mesos": 1.05}
        super().__init__(base, subjects=subjects, effect=effect, blocks=kw.pop("blocks", 5), **kw)
        self.hostile = hostile

    def order(self) -> list[Any]:
        import msgspec

        found = super().order()
        more = []
        for t in found:
            if t.scenario == "serve":
                more += [
                    msgspec.structs.replace(t, id=f"b{t.block}.{t.subject}.{n}", scenario=n) for n in ("heal", "curve", "update")
                ]
        return found + more

    def facts(self, t: Any) -> Any:
        times = self.effect[t.subject]
        if t.scenario == "deploy":
            self._placement(t, times)
        if t.scenario == "heal":
            for i, kind in enumerate(("kill a container", "end an agent", f"cut a network {self.hostile}", "lose a host")):
                value = times * 2.0 * 4**i * math.exp(0.1 * self.rng.standard_normal())
                censored = kind == "lose a host" and t.coe == "k8s"
                value = 60.0 if censored else value
                self.observe("fact", t.id, metric="whole", value=value, censored=censored, factors={"failure": kind})
        elif t.scenario == "curve":
            self._sweep(t, times)
        elif t.scenario == "update":
            self._update(t, times)
        else:
            return super().facts(t)
        from coebench.hooks import Outcome

        return Outcome(status="ok", seconds=9.0, reason=self.hostile, evidence=self.hostile)

    def _latencies(self, n: int, scale: float) -> list[float]:
        return [float(v) for v in scale * np.exp(0.6 * self.rng.standard_normal(n))]

    def _placement(self, t: Any, times: float) -> None:
        self.observe("requested", t.id, service="web", instances=10)
        at = self.at
        for i in range(10):
            self.at = at + times * (0.5 + 0.15 * i) * math.exp(0.1 * self.rng.standard_normal())
            self.observe("instance", t.id, service="web", id=f"i{i}", state="ready", version="v1")
            self.observe("answer", t.id, service="web", instance=f"i{i}", kind="up", version="v1")
        self.observe("removing", t.id, service="web", instances=10)

    def _sweep(self, t: Any, times: float) -> None:
        for rate in RATES:
            most = 7000.0 / times
            late = 1.0 / max(0.05, 1 - rate / most)
            data = {"loop": "open", "rate": rate, "planned": int(rate * 2), "seconds": 2.0, "achieved_rps": min(rate, most)}
            self.observe("load", t.id, 2.0, histogram=encoded(self._latencies(400, late)), saturated="", **data)
        self.observe("fact", t.id, metric="knee", value=4000.0 / times)

    def _update(self, t: Any, times: float) -> None:
        for i in range(4):
            self.observe("answer", t.id, service="web", instance=f"o{i}", kind="up", version="v1")
        for second in range(20):
            bad = 12 if second in (9, 10) and t.coe == "k8s" else 0
            data = {"seconds": 1.0, "phase": "measured", "planned": 200, "ok": 200 - bad, "errors": {"reset": bad} if bad else {}}
            slow = 4.0 if 7 <= second < 7 + 5 * times else 1.0
            self.observe("load.second", t.id, 0.9, loop="open", rate=200.0, latency=encoded(self._latencies(200, slow)), **data)
            if second == 6:
                self.observe("updating", t.id, service="web", version=f"v2 {self.hostile}".strip())
            if 7 <= second < 11:
                new = f"v2 {self.hostile}".strip()
                self.observe("answer", t.id, 0.05, service="web", instance=f"n{second}", kind="up", version=new)
                self.observe("answer", t.id, 0.05, service="web", instance=f"o{second - 7}", kind="down", version="")
        self.observe("fact", t.id, metric="failed", value=0.6 if t.coe == "k8s" else 0.0)


def everything(base: Path, hostile: str = "", **kw: Any) -> tuple[Result, tuple[Observation, ...]]:
    path = Everything(base, hostile, **kw).write()
    return derive.derive(path, ALL), folder.read(path).observations
