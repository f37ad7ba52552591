"""Synthetic runs: recorded through the real hooks, without an engine. What the tests of results and reports read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coebench.contract import Better, Metric, Observation, Sample
from coebench.hooks import Outcome, TrialInfo, manager
from coebench.results import folder
from coebench.results.derive import derive

T0 = 1_760_000_000.0
COES = {"k8s": ("Kubernetes", "1.20.5"), "swarm": ("Docker Swarm", "20.10.24"), "mesos": ("Mesos", "1.11.0")}
NOTES = {
    "k8s": ["kubelet patched: runs without a real cgroup tree", "kube-proxy in userspace mode: no ip_vs here"],
    "swarm": ["no routing mesh: the kernel has no ip_vs"],
    "mesos": ["Marathon-compatible API of coebench, not Marathon"],
}
TIMEOUTS = {
    "k8s": {"node-monitor-grace-period": "40s", "toleration": "300s"},
    "swarm": {"dispatcher heartbeat": "5s"},
    "mesos": {"agent_ping_timeout": "15s", "max_agent_ping_timeouts": "5"},
}


class Deploy:
    name = "deploy"
    question = "How long until every instance answers?"
    metrics = (
        Metric(
            name="last",
            unit="s",
            better=Better.LOWER,
            title="all instances answer",
            definition="From the request to the first good answer of the last instance.",
        ),
        Metric(
            name="last_claim",
            unit="s",
            better=Better.LOWER,
            title="engine says ready",
            definition="From the request to the engine's word that all are ready.",
            claim_of="last",
        ),
        Metric(
            name="first",
            unit="s",
            better=Better.LOWER,
            title="first good answer",
            definition="From the request to the first good answer of any instance.",
        ),
    )
    needs = frozenset()

    def settings(self, profile: str) -> Mapping[str, Any]:
        return {}

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None: ...

    def run(self, trial: Any) -> None: ...

    def derive(self, observations):
        for o in observations:
            if o.name == "fact":
                yield Sample(
                    metric=o.data["metric"],
                    value=o.data["value"],
                    censored=o.data.get("censored", False),
                    factors=o.data.get("factors", {}),
                )


class Serve(Deploy):
    name = "serve"
    question = "How much does it serve, and how fast?"
    metrics = (
        Metric(
            name="rate",
            unit="1/s",
            better=Better.HIGHER,
            title="requests answered",
            definition="Good answers by second, closed loop.",
        ),
        Metric(
            name="p99",
            unit="ms",
            better=Better.LOWER,
            title="latency, p99",
            definition="99th percentile from the planned send time.",
        ),
        Metric(
            name="generator",
            unit="1",
            better=Better.NEITHER,
            title="generator CPU, cores",
            definition="Cores that the generators used.",
        ),
    )


SCENARIOS = {"deploy": Deploy(), "serve": Serve()}


class Synthetic:
    """Writes one run. `spread` is the trials' log-normal sigma; `effect` the factor of each subject on every time."""

    def __init__(
        self,
        base: Path,
        *,
        run: str = "20260102-030405-quiet-heron",
        subjects: Mapping[str, str] | None = None,
        blocks: int = 5,
        seed: int = 7,
        spread: float = 0.05,
        effect: Mapping[str, float] | None = None,
        trouble: bool = True,
        instances: tuple[int, ...] = (1, 10, 30),
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.subjects = dict(subjects or {c: c for c in COES})
        self.effect = effect or {"k8s": 1.9, "swarm": 1.0, "mesos": 1.05}
        self.blocks, self.spread, self.trouble, self.instances = blocks, spread, trouble, instances
        self.at = T0
        self.path = folder.create(base, run)
        self.hooks = manager()
        self.recorder = folder.Recorder(self.path, clock=lambda: self.at)
        self.hooks.register(self.recorder)
        self.run, self.seed = run, seed

    def manifest(self) -> dict[str, Any]:
        return {
            "schema": folder.RUN_SCHEMA,
            "run": self.run,
            "started": T0,
            "command": ["coebench", "compare", *self.subjects],
            "seed": self.seed,
            "profile": "default",
            "blocks": self.blocks,
            "version": "0.1.0",
            "host": {"cpu": "Example 3.0 GHz", "cpus": 2, "memory": 8 << 30, "kernel": "6.1.0", "system": "Debian 12"},
            "subjects": [{"name": n, "coe": c, "options": {}} for n, c in self.subjects.items()],
            "plan": {},
            "order": [t.id for t in self.order()],
        }

    def order(self) -> list[TrialInfo]:
        plan = [(b, s, sc) for b in range(1, self.blocks + 1) for s in self.subjects for sc in SCENARIOS]
        return [
            TrialInfo(
                id=f"b{b}.{s}.{sc}",
                block=b,
                subject=s,
                coe=self.subjects[s],
                scenario=sc,
                bay=f"cb-{s}-{b}",
                position=i,
                of=len(plan),
            )
            for i, (b, s, sc) in enumerate(plan, 1)
        ]

    def observe(self, name: str, trial: str = "", after: float = 0.1, **data: Any) -> None:
        self.at += after
        self.hooks.hook.observed(observation=Observation(at=self.at, name=name, trial=trial, data=data))

    def bay(self, t: TrialInfo) -> None:
        engine, version = COES[t.coe]
        self.observe("bay.creating", t.bay)
        hosts = [{"name": f"{t.bay}-c", "role": "control", "address": "10.9.0.1"}] + [
            {"name": f"{t.bay}-{i}", "role": "node", "address": f"10.9.0.{i + 1}"} for i in (1, 2, 3)
        ]
        self.observe("bay.hosts", t.bay, 0.3)
        self.observe(
            "bay.ready",
            t.bay,
            2.0,
            subject=t.subject,
            bay={
                "name": t.bay,
                "spec": {"coe": t.coe, "nodes": 3, "timeouts": "stock", "memory": 3 << 30},
                "provisioner": "lab",
                "hosts": hosts,
                "engine": engine,
                "version": version,
                "components": {"runtime": "1.6"},
                "timeouts": TIMEOUTS[t.coe],
                "notes": NOTES[t.coe],
            },
            engine={"engine": engine, "version": version, "network": "bridge, host-local addresses"},
        )

    def facts(self, t: TrialInfo) -> Outcome:
        times = self.effect[t.subject]
        draw = lambda: float(np.exp(self.spread * self.rng.standard_normal()))  # noqa: E731
        self.observe("phase.begin", t.id, phase="ask", timeout=60)
        if t.scenario == "deploy":
            if self.trouble and t.subject == "k8s" and t.block == 4:
                self.observe("phase.end", t.id, phase="ask", seconds=0.1)
                return Outcome(status="failed", seconds=3.2, reason="kubelet ended: out of memory", evidence="OOM\n")
            for n in self.instances:
                f = {"instances": n}
                if self.trouble and t.subject == "mesos" and n == 30 and t.block in (2, 5):
                    self.observe("fact", t.id, metric="last", value=60.0, censored=True, factors=f)
                    self.observe("phase.timeout", t.id, phase="answers", seconds=60, waiting_for="29 of 30")
                    return Outcome(status="timeout", seconds=61.0, reason="answers: not within 60 s (29 of 30)")
                value = times * (0.8 + 0.06 * n) * draw()
                self.observe("fact", t.id, metric="last", value=value, factors=f)
                self.observe("fact", t.id, metric="last_claim", value=value * 0.9, factors=f)
                self.observe("fact", t.id, metric="first", value=times * 0.7 * draw(), factors=f)
        else:
            self.observe("fact", t.id, metric="rate", value=24000 / times**0.1 * draw())
            self.observe("fact", t.id, metric="p99", value=3.1 * times**0.3 * draw() ** 4)
            self.observe("fact", t.id, metric="generator", value=0.7 * draw())
            if self.trouble and t.subject == "swarm":
                self.observe("load.saturated", t.id, reason="the generators used 97 % of their cores")
        self.observe("phase.end", t.id, phase="ask", seconds=2.0)
        return Outcome(status="ok", seconds=4.5)

    def write(self, stop_after: int | None = None) -> Path:
        """The whole run, or what a run that is killed in its `stop_after`-th trial leaves."""
        hook = self.hooks.hook
        hook.run_started(run=self.run, folder=str(self.path), manifest=self.manifest())
        last = None
        for t in self.order():
            if last is None or last.bay != t.bay:
                if last:
                    self.observe("bay.deleting", last.bay)
                    self.observe("bay.deleted", last.bay, 0.6)
                self.bay(t)
            last = t
            hook.trial_started(trial=t)
            outcome = self.facts(t)
            if stop_after is not None and t.position >= stop_after:
                self.recorder.close()
                return self.path
            hook.trial_ended(trial=t, outcome=outcome)
        if self.trouble:
            self.observe("warning", text="the machine's load was 3.1 when the run began: other work may disturb it")
        self.observe("harness.cpu", cores=0.031, wall=self.at - T0, by_scenario={"deploy": 0.02, "serve": 0.04})
        hook.run_ended(run=self.run, result=derive(self.path, SCENARIOS))
        return self.path
