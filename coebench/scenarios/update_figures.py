"""What `update-under-load` says in figures: their definitions, and how they are made of its observations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ..contract import Better, Observation, Sample
from . import facts
from .stretch import answering, area, lowest, metric, requests

METRICS = (
    metric(
        "failed", "1", Better.LOWER, "failed requests",
        "Requests that were planned from the asking for the update until all was over and got no good answer: errors, those "
        "never sent, those never answered. Open loop at a fixed rate, to the instances that the engine calls ready, as its own "
        "stream tells of them.",
    ),
    metric(
        "without_downtime", "1", Better.HIGHER, "without any failed request",
        "1 if no request of that time failed, 0 if one did.",
    ),
    metric(
        "rate", "1/s", Better.NEITHER, "requests a second",
        "What was sent, where that is a fraction of what the service had served at most just before. Then it differs from column "
        "to column, and so does what there was to fail.",
    ),
    metric(
        "slow", "1", Better.LOWER, "slow requests",
        "Requests of that time whose good answer came later than `slow_ms` after they were planned.",
    ),
    metric(
        "first_error", "s", Better.NEITHER, "first failed request",
        "From the asking until the first failed request was planned. No value where none failed.",
    ),
    metric(
        "last_error", "s", Better.NEITHER, "last failed request",
        "From the asking until the last failed request was planned. No value where none failed.",
    ),
    metric(
        "accepted", "s", Better.LOWER, "request accepted",
        "From asking for the update until the engine's API has answered it.",
    ),
    metric(
        "first_new", "s", Better.LOWER, "first new answer",
        "From the asking until an instance of the new version answers.",
    ),
    metric(
        "last_old", "s", Better.LOWER, "last old answer",
        "From the asking until the last instance of the old version has stopped answering.",
    ),
    metric(
        "all_new", "s", Better.LOWER, "all new",
        "From the asking until as many instances of the new version answer as were asked for, and none of the old.",
    ),
    metric(
        "done", "s", Better.LOWER, "engine says: done",
        "From the asking until the engine calls the update done. It is asked five times a second.",
        claim_of="all_new",
    ),
    metric(
        "lost_capacity", "s", Better.LOWER, "capacity lost",
        "Instances that should have answered and did not, of either version, times how long: instance-seconds.",
    ),
    metric(
        "lowest", "1", Better.HIGHER, "fewest answering at once",
        "The least number of instances, of either version, that answered at one moment.",
    ),
    metric(
        "old_left", "1", Better.HIGHER, "bad version: old ones left",
        "Of the update to a version that never becomes healthy: how many instances of the old version answered at the end of "
        "the time that it was watched for. As many as were asked for: it stopped before it did harm.",
    ),
    metric(
        "bad_listed", "1", Better.LOWER, "bad version: new ones left",
        "How many live instances of the bad version the engine listed at the end of that time. 0: it has rolled back by itself.",
    ),
    metric(
        "bad_stopped", "1", Better.HIGHER, "bad version: engine says, given up",
        "1 if at the end of that time the engine itself said that it had stopped the update, or was undoing it; 0 if it said "
        "nothing of the kind. Kubernetes says so after its progress deadline (600 s), Marathon never.",
    ),
    metric(
        "back", "s", Better.LOWER, "bad version: back at the old one",
        "From the user's asking for the old version until exactly as many instances of it as were asked for are listed, called "
        "ready, and answer.",
    ),
)  # fmt: skip


def derive(observations: Sequence[Observation]) -> Iterable[Sample]:
    """The samples of one trial, strategy by strategy."""
    timeouts = {o.data["phase"]: o.at for o in observations if o.name == "phase.timeout"}
    for story in facts.by_service(observations).values():
        asked = next((o for o in story if o.name == "update.asked"), None)
        if asked is not None:
            yield from _update(asked, story, timeouts)


def _update(asked: Observation, story: Sequence[Observation], timeouts: Mapping[str, float]) -> Iterable[Sample]:
    strategy, wanted = asked.data["strategy"], asked.data["instances"]
    old, new = asked.data["old"], asked.data["new"]
    first = {o.name: o for o in reversed(story)}
    gave_up = timeouts.get("go back" if strategy == "bad" else f"update {strategy}")
    over = first.get("update.settled") or first.get("update.window")
    end = first["update.settled"].at if "update.settled" in first else gave_up or (over.at if over else story[-1].at)

    def sample(name: str, value: float, censored: bool = False) -> Sample:
        return Sample(metric=name, value=value, censored=censored, factors={"strategy": strategy})

    counted = requests(story, asked.at, end)
    if counted is not None:
        yield sample("failed", float(counted.failures))
        yield sample("without_downtime", float(not counted.failures))
        yield sample("slow", float(counted.slow))
        if counted.failed:
            yield sample("first_error", counted.failed[0] - asked.at)
            yield sample("last_error", counted.failed[-1] - asked.at)
    if "update.rate" in first:
        yield sample("rate", first["update.rate"].data["rate"])
    if "update.accepted" in first:
        yield sample("accepted", first["update.accepted"].at - asked.at)
    every = answering(story)
    yield sample("lost_capacity", area(every, asked.at, end, lambda n: max(0, wanted - n)))
    yield sample("lowest", float(lowest(every, asked.at, end)))
    if strategy == "bad":
        yield from _bad(first, story, sample, old, new, gave_up)
        return
    news, olds = answering(story, new), answering(story, old)
    seen = next((at for at, n in news if at >= asked.at and n), None)
    if seen is not None:
        yield sample("first_new", seen - asked.at)
    gone = [at for at, n in olds if at >= asked.at and not n]
    whole = None
    for (at, n), (_, left) in zip(news, olds, strict=True):
        if at >= asked.at and n >= wanted and not left:
            whole = whole or at
    for name, found in (("last_old", gone[0] if gone else None), ("all_new", whole)):
        if found is not None:
            yield sample(name, found - asked.at)
        elif gave_up:
            yield sample(name, gave_up - asked.at, censored=True)
    if "update.done" in first:
        yield sample("done", first["update.done"].at - asked.at)
    elif gave_up:
        yield sample("done", gave_up - asked.at, censored=True)


def _bad(
    first: Mapping[str, Observation],
    story: Sequence[Observation],
    sample: Callable[..., Sample],
    old: str,
    new: str,
    gave_up: float | None,
) -> Iterable[Sample]:
    window = first.get("update.window")
    if window is None:
        return
    olds = [n for at, n in answering(story, old) if at <= window.at]
    yield sample("old_left", float(olds[-1] if olds else 0))
    live: set[str] = set()
    for o in story:
        if o.at > window.at:
            break
        if o.name == "instance" and o.data["version"] == new and o.data["state"] not in ("ended", "lost", "stopping"):
            live.add(o.data["id"])
        elif o.name in ("instance", "gone"):
            live.discard(o.data["id"])
    yield sample("bad_listed", float(len(live)))
    if "stopped" in window.data:  # runs of before it was asked for have none
        yield sample("bad_stopped", float(bool(window.data["stopped"])))
    back = first.get("update.back")
    if back and "update.settled" in first:
        yield sample("back", first["update.settled"].at - back.at)
    elif back and gave_up:
        yield sample("back", gave_up - back.at, censored=True)
