"""Rolling updates."""

from __future__ import annotations

from ..contract import Capability
from .bench import Bench
from .registry import behaviour, expect
from .stories import update


@behaviour(Capability.UPDATE)
def update_changes_every_answer(bench: Bench) -> None:
    """An update is over when the old version no longer answers, whatever the engine says."""
    story = bench.story(update)
    new = bench.workload.versions[1]
    expect({i.version for i in story.second} == {new}, f"the instances are listed as {[i.version for i in story.second]}")
    said = [r.version for r in story.replies]
    expect(said == [new] * 3, f"after the update the instances answer with the versions {said}")
    expect(story.done, "all instances are new and ready, and progress() does not say done")


@behaviour(Capability.UPDATE)
def update_keeps_capacity(bench: Bench) -> None:
    """The strategy's promise (one more, none fewer) is what an update's cost is measured against."""
    least = bench.story(update).least
    expect(least >= 3, f"surge 1, unavailable 0: at one time only {least} of 3 answered")


@behaviour(Capability.UPDATE)
def update_is_no_scaling(bench: Bench) -> None:
    """An update during a load test must not undo the scaling before it."""
    wanted = bench.story(update).wanted
    expect(wanted == 3, f"the service had 3 instances; after an update, whose spec says 1, {wanted} are wanted")


@behaviour(Capability.UPDATE)
def update_replaces_instances(bench: Bench) -> None:
    """A new version is a new process: an instance that kept its id would be taken for one that was never replaced."""
    story = bench.story(update)
    both = {i.id for i in story.first} & {i.id for i in story.second}
    expect(not both, f"{both} are there before and after the update")


@behaviour(Capability.UPDATE)
def update_takes_away_too(bench: Bench) -> None:
    """What the new spec no longer has must be gone, or a service depends on its whole history."""
    extra = bench.story(update).extra
    expect(extra == ("none",) * 3, f"a variable that the new spec does not have is still set: {extra}")


@behaviour(Capability.UPDATE)
def missing_image_is_told(bench: Bench) -> None:
    """The commonest mistake there is: the engine's words must reach the user, not a timeout."""
    words = bench.story(update).words
    expect(words, "an update to an image that does not exist: neither progress() nor an instance names the image")


@behaviour(Capability.UPDATE)
def failing_update_keeps_serving(bench: Bench) -> None:
    """With nobody unavailable, an update that can't go on must leave the old instances as they are."""
    story = bench.story(update)
    old = {i.id for i in story.second}
    expect(story.least_bad >= 3, f"while the update failed, at one time only {story.least_bad} of 3 answered")
    expect(old <= story.still, f"of {sorted(old)} only {sorted(story.still & old)} still answer")


@behaviour(Capability.UPDATE)
def watch_is_consistent_through_updates(bench: Bench) -> None:
    """Half of a figure's facts come from the watch: here instances come, go and fail at the same time."""
    faults = bench.story(update).faults
    expect(not faults, f"{len(faults)} contradictions; the first: {'; '.join(faults[:3])}")
