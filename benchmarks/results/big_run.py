"""A run of the size that reports have to bear: 100 trials, 10 million requests, every second with its histograms.

    python benchmarks/results/big_run.py FOLDER

It is written by the recorder itself, through the hooks, with what the scenario `serve` observes; latencies are drawn from a
log-normal distribution with a slow hundredth. Nothing of it was measured.
"""

from __future__ import annotations

import base64
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from coebench.contract import Observation
from coebench.hooks import Outcome, TrialInfo, manager
from coebench.results import derive, folder
from coebench.scenarios.serve import Serve

SUBJECTS = {"k8s": 1.3, "swarm": 1.2, "mesos": 1.0, "fast": 0.9}  # how slow each is
BLOCKS, SECONDS = 25, 10
REQUESTS = {"closed": 50_000, "open": 50_000}  # in each of the 100 trials
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
BEGAN = 1_790_000_000.0


def histogram(nanoseconds: NDArray[np.int64]) -> HdrHistogram:
    """As the generator makes it: 100 ns to 60 s in three digits."""
    h = HdrHistogram(100, 60_000_000_000, 3)
    shift = np.maximum(np.log2(nanoseconds).astype(np.int64) - 10, 0)  # what a slot doesn't tell apart
    for value, count in zip(*np.unique(nanoseconds >> shift << shift, return_counts=True), strict=True):
        h.record_value(int(value), int(count))
    return h


def text(h: HdrHistogram) -> str:
    """As the generator tells it: it spends no CPU on packing."""
    packed = base64.b64decode(h.encode())
    stored = zlib.compress(zlib.decompress(packed[8:]), 0)
    return base64.b64encode(struct.pack(">II", struct.unpack(">I", packed[:4])[0], len(stored)) + stored).decode()


def latencies(rng: np.random.Generator, slow: float, n: int) -> NDArray[np.int64]:
    ns = rng.lognormal(np.log(slow * 200_000), 0.5, n)
    ns[: n // 100] *= 8
    return ns.astype(np.int64)


def counts(n: int) -> dict[str, Any]:
    return {"planned": n, "sent": n, "ok": n, "errors": {}, "unsent": 0}


def loads(rng: np.random.Generator, slow: float, loop: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Each second of a load, and its end."""
    per = REQUESTS[loop] // SECONDS
    rate = 0.0 if loop == "closed" else per
    seconds, total, raw = [], HdrHistogram(100, 60_000_000_000, 3), HdrHistogram(100, 60_000_000_000, 3)
    for _ in range(SECONDS):
        h, r = (histogram(latencies(rng, s, per)) for s in (slow, 0.8 * slow))
        total.add(h)
        raw.add(r)
        texts = {"latency": text(h), "raw": text(r)}
        seconds.append(
            {"seconds": 1.0, "phase": "measured", **counts(per), "in_flight": 24, "cpu": 0.5, **texts, "loop": loop, "rate": rate}
        )
    n = per * SECONDS
    end = {
        "loop": loop, "rate": rate, "tool": "coeload", "seconds": float(SECONDS), **counts(n), "inflight": 0,
        "offered_rps": n / SECONDS, "achieved_rps": n / SECONDS, "cpu": 0.5, "saturated": "", "lag_ms": {},
        "per_target": {f"10.0.0.{i}:8080": n // 2 for i in (1, 2)},
        "histogram": text(total), "raw_histogram": text(raw), "histogram_unit_ns": 1,
    }  # fmt: skip
    for name, h in (("latency_ms", total), ("raw_ms", raw)):
        end[name] = {p: h.get_value_at_percentile(x) / 1e6 for p, x in PERCENTILES.items()} | {"max": h.get_max_value() / 1e6}
    return seconds, end


def write(base: Path) -> Path:
    """Write the run below `base` and return its folder."""
    rng = np.random.default_rng(1)
    path = folder.create(base, "big")
    clock = [BEGAN]
    hooks = manager()
    hooks.register(folder.Recorder(path, clock=lambda: clock[0]))
    order = [
        TrialInfo(id=f"b{b}.{s}.serve", block=b, subject=s, coe=s, scenario="serve", bay=f"big-b{b}-{s}", position=i, of=100)
        for i, (b, s) in enumerate(((b, s) for b in range(1, BLOCKS + 1) for s in SUBJECTS), 1)
    ]

    def observe(name: str, trial: str, after: float, **data: Any) -> None:
        clock[0] += after
        hooks.hook.observed(observation=Observation(at=clock[0], name=name, trial=trial, data=data))

    manifest = {
        "run": "big", "version": "0.1.0", "started": BEGAN, "command": ["benchmarks/results/big_run.py"], "seed": 1,
        "profile": "default", "blocks": BLOCKS, "host": {"cpus": 2},
        "subjects": [{"name": s, "coe": s, "options": {}} for s in SUBJECTS], "plan": {}, "order": [t.id for t in order],
    }  # fmt: skip
    hooks.hook.run_started(run="big", folder=str(path), manifest=manifest)
    for t in order:
        observe("bay.creating", t.bay, 0.1, subject=t.subject, coe=t.coe)
        spec = {"coe": t.coe, "nodes": 3, "timeouts": "stock"}
        bay = {"spec": spec, "provisioner": "lab", "hosts": [{"name": f"n{i}", "role": "node"} for i in (1, 2, 3)]}
        observe("bay.ready", t.bay, 2.0, subject=t.subject, bay=bay, engine={"engine": t.coe, "version": "1"})
        hooks.hook.trial_started(trial=t)
        for loop in REQUESTS:
            seconds, end = loads(rng, SUBJECTS[t.subject] * float(rng.lognormal(0, 0.03)), loop)
            for second in seconds:
                observe("load.second", t.id, 1.0, **second)
            observe("load", t.id, 0.1, **end)
        hooks.hook.trial_ended(trial=t, outcome=Outcome(status="ok", seconds=2.0 * SECONDS))
    hooks.hook.run_ended(run="big", result=derive.derive(path, {"serve": Serve()}))
    return path


if __name__ == "__main__":
    print(write(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
