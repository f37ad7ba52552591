"""The life cycle of bays: how long does the provisioner take to make, change and delete them?"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, ClassVar

from ..contract import BadInput, Better, Capability, CoebenchError, Metric, Observation, Observe, Sample, Trial
from .timing import BAY

STEPS = ("create", "up", "replace", "upgrade", "down", "delete")
ALWAYS = ("create", "up", "replace", "down", "delete")  # `upgrade` is there only where it was asked for
TITLES = {
    "create": "bay created",
    "up": "scaled up",
    "replace": "node replaced",
    "upgrade": "bay upgraded",
    "down": "scaled down",
    "delete": "bay deleted",
}
DEFINITIONS = {
    "create": "From asking for a bay until its engine's API answers to the bay's own credentials and lists all nodes as ready.",
    "up": "From asking for more nodes until the engine lists all of them as ready.",
    "replace": "From asking for one node to be taken away until another is ready in its stead; where the provisioner has no "
    "such call, one node fewer and then one more.",
    "upgrade": "From asking for the bay to become what another template says until the engine lists all nodes as ready again; "
    "only where the subject's options name such a template (upgrade-to).",
    "down": "From asking for fewer nodes until the bay is ready with those that remain.",
    "delete": "From asking for the bay's deletion until the provisioner knows it no more.",
}
# What is seen on the way, where the provisioner tells: observation, metric, title
PARTS = {
    "bay.accepted": (
        "accepted",
        "request accepted",
        "until the provisioner has answered the request (of Magnum: eight are under way at a time)",
    ),
    "bay.stack": ("stack", "stack complete", "until the provisioner's own stack is complete"),
    "bay.complete": ("complete", "provisioner says: complete", "until the provisioner calls the bay complete"),
    "bay.api": ("api", "engine's API answers", "until the engine's API answers to the bay's own credentials"),
}
ASKING = ("bay.status", "magnum.retry")  # what only a provisioner tells that asks a server for its bays
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {"nodes": [1], "bays": 1, "more": 1, "timeout": 300},
    "default": {"nodes": [2, 4], "bays": 1, "more": 2, "timeout": 600},
    "full": {"nodes": [2, 4], "bays": 2, "more": 2, "timeout": 3600},
}


def _parts(step: str) -> Mapping[str, tuple[str, str, str]]:
    """What is told of a step besides its whole; a replacement may be two requests, of which only the end is one time."""
    return {k: v for k, v in PARTS.items() if step != "replace" or k == "bay.complete"}


def _metrics() -> tuple[Metric, ...]:
    found = []
    for step in STEPS:
        found.append(Metric(name=step, unit="s", better=Better.LOWER, title=TITLES[step], definition=DEFINITIONS[step]))
        if step != "delete":
            for part, title, until in _parts(step).values():
                claim = step if part in ("complete", "stack") else ""
                definition = f"{TITLES[step]}: from the request {until}. Median over the bays of a trial."
                name = f"{step}_{part}"
                found.append(
                    Metric(name=name, unit="s", better=Better.NEITHER, title=title, definition=definition, claim_of=claim)
                    if claim
                    else Metric(name=name, unit="s", better=Better.LOWER, title=f"{TITLES[step]}: {title}", definition=definition)
                )
    found.append(
        Metric(
            name="failures",
            unit="1",
            better=Better.LOWER,
            title="bays that failed, by what broke",
            definition='Bays that failed, by the kind of what was told of them, such as quota or "not in time".',
        )
    )
    found.append(
        Metric(
            name="retries",
            unit="1",
            better=Better.LOWER,
            title="requests tried again",
            definition="Requests for a trial's bays that failed in a way that passes, and were made again. Only where the "
            "provisioner asks a server.",
        )
    )
    found.append(
        Metric(
            name="failed",
            unit="1",
            better=Better.LOWER,
            title="bays that failed",
            definition="Bays of a trial of which a step failed or was not done in time; the reasons are among the observations.",
        )
    )
    return tuple(found)


class BayLife:
    """For each number of nodes: so many bays at once (one number for all, or one for each) are created, scaled up, get one
    node replaced, are upgraded where that was asked for, scaled down again and deleted. What the provisioner can't do is left
    out. A bay that fails costs the others nothing."""

    name: ClassVar[str] = "bay"
    question: ClassVar[str] = "How long to create, scale, mend and delete bays?"
    needs: ClassVar[frozenset[Capability]] = frozenset()
    makes_bays: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = _metrics()
    published: ClassVar[tuple[str, ...]] = (
        "published, not measured here: CERN, Magnum bays on its cloud, minutes to deploy: 2 nodes (50 bays at once) 2.5; "
        "16 (10) 4; 32 (10) 4; 128 (5) 5.5; 512 (1) 14; 1000 (1) 23 (S. Trigazis, FOSDEM 2017, slides)",
    )

    def settings(self, profile: str) -> Mapping[str, Any]:
        return SETTINGS[profile]

    def check(self, settings: Mapping[str, Any], bay_nodes: int) -> None:
        nodes = settings["nodes"]
        if not isinstance(nodes, list) or not nodes or not all(type(n) is int and 0 < n <= 5000 for n in nodes):
            raise BadInput(f"bay: 'nodes' is a list of numbers from 1 to 5000, not {nodes!r}")
        counts = settings["bays"] if isinstance(settings["bays"], list) else [settings["bays"]]
        if not all(type(n) is int and 0 < n <= 100 for n in counts) or len(counts) not in (1, len(nodes)):
            raise BadInput(
                "bay: 'bays' is a number from 1 to 100, or a list with one for each of 'nodes' "
                f"({len(nodes)}), not {settings['bays']!r}"
            )
        for name, least, most in (("more", 1, 5000), ("timeout", 1, 86400)):
            if type(settings[name]) is not int or not least <= settings[name] <= most:
                raise BadInput(f"bay: '{name}' is a number from {least} to {most}, not {settings[name]!r}")

    def bays(self, settings: Mapping[str, Any]) -> Sequence[tuple[int, int]]:
        return [(count, nodes + settings["more"]) for nodes, count in _cases(settings)]

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        return BAY * len(settings["nodes"])

    def run(self, trial: Trial) -> None:
        refused = trial.bays.refuses()
        for step, reason in refused.items():
            trial.observe("life.left_out", step=step, reason=reason)
            if step in ALWAYS:
                trial.observe("warning", text=f"bay: '{TITLES[step]}' is left out: {reason}")
        for nodes, count in _cases(trial.settings):
            together = threading.Barrier(count)
            pool = ThreadPoolExecutor(count)
            try:
                with trial.phase(f"{count} bays of {nodes}", trial.settings["timeout"]) as deadline:
                    lives = [pool.submit(self._life, trial, (nodes, count), i, together, refused) for i in range(1, count + 1)]
                    unfinished = set(lives)
                    while unfinished:
                        deadline.waiting_for(f"{len(unfinished)} of {count} bays are under way")
                        _, unfinished = wait(unfinished, timeout=min(1.0, deadline.left()))
                    errors = [e for life in lives if (e := life.exception())]
                    if len(errors) == count:  # nothing to measure was left
                        raise errors[0]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)  # what is under way ends with its bay, which the runner deletes

    def _life(
        self, trial: Trial, size: tuple[int, int], number: int, together: threading.Barrier, refused: Collection[str]
    ) -> None:
        nodes, count = size
        label = f"n{nodes}x{count}-{number}"
        case = {"label": label, "nodes": nodes, "bays": count}
        bays, more = trial.bays, trial.settings["more"]
        step = STEPS[0]

        def observe(name: str, *, at: float | None = None, **data: Any) -> None:
            trial.observe(name, at=at, **{**data, **case, "step": step})

        def begin(name: str) -> Observe:
            nonlocal step
            step = name
            observe("life.begin")
            return observe

        together.wait()
        bay = None
        try:
            bay = bays.create(label, nodes, begin("create"))
            observe("life.end", have=len(bay.nodes))
            bay = bays.resize(bay, nodes + more, begin("up"))
            observe("life.end", have=len(bay.nodes))
            if "replace" not in refused:
                bay = bays.replace_node(bay, bay.nodes[0].name, begin("replace"))
                observe("life.end", have=len(bay.nodes))
            if "upgrade" not in refused:
                bay = bays.upgrade(bay, begin("upgrade"))
                observe("life.end", have=len(bay.nodes))
            bay = bays.resize(bay, max(1, (nodes + more) // 2), begin("down"))
            observe("life.end", have=len(bay.nodes))
            bays.delete(bay, begin("delete"))
            observe("life.end", have=0)
        except CoebenchError as e:
            observe("life.failed", reason=str(e), kind=e.kind or "other", evidence=getattr(e, "evidence", "")[-500:])
            raise

    def derive(self, observations: Sequence[Observation]) -> Iterable[Sample]:
        cases: dict[tuple[int, int], list[Observation]] = {}
        for o in observations:
            if "label" in o.data and "step" in o.data:
                cases.setdefault((o.data["nodes"], o.data["bays"]), []).append(o)
        for (nodes, bays), facts in cases.items():
            factors = {"nodes": nodes, "bays": bays}
            failed = {o.data["label"] for o in facts if o.name == "life.failed"}
            yield Sample(metric="failed", value=len(failed), factors=factors)
            kinds = Counter(o.data.get("kind", "other") for o in facts if o.name == "life.failed")
            for kind, times in sorted(kinds.items()):
                yield Sample(metric="failures", value=times, factors={**factors, "kind": kind})
            if any(o.name in ASKING for o in facts):
                retries = sum(o.name == "magnum.retry" for o in facts)
                yield Sample(metric="retries", value=retries, factors=factors)
            for step in STEPS:
                mine = [o for o in facts if o.data["step"] == step]
                begun: dict[str, float] = {}
                for o in mine:
                    if o.name == "life.begin":
                        begun.setdefault(o.data["label"], o.at)
                yield from _step(step, mine, begun, factors)


def _cases(settings: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Nodes, and so many bays at once."""
    bays = settings["bays"]
    counts = bays if isinstance(bays, list) else [bays]
    nodes = settings["nodes"]
    return list(zip(nodes, counts if len(counts) == len(nodes) else counts * len(nodes), strict=True))


def _step(step: str, facts: list[Observation], begun: Mapping[str, float], factors: Mapping[str, int]) -> Iterable[Sample]:
    """The slowest bay stands for the trial: all had to be done. Of the parts the median is told."""

    def times(name: str) -> list[float]:
        last: dict[str, float] = {}
        for o in facts:
            if o.name == name and o.data["label"] in begun:
                label = o.data["label"]
                last[label] = max(last.get(label, 0.0), o.at - begun[label])
        return sorted(last.values())

    ends = times("life.end")
    if ends and len(ends) == len(begun):
        yield Sample(metric=step, value=ends[-1], factors=factors)
    if step == "delete":
        return
    for name, (part, _, _) in _parts(step).items():
        if name in {o.name for o in facts} and (found := times(name)):
            yield Sample(metric=f"{step}_{part}", value=found[len(found) // 2], factors=factors)
