"""Instances: who they are, where they are, in which state, since when."""

from __future__ import annotations

import time

from ..contract import Capability, InstanceState, now
from .bench import Bench
from .registry import behaviour, expect
from .stories import SLOW_START, STEADY, steady, talk

ORDER = (InstanceState.PENDING, InstanceState.STARTING, InstanceState.RUNNING, InstanceState.READY)
RESOLUTION = 2.0  # seconds: engines that write whole seconds, and the clocks of the bay's nodes


@behaviour()
def ids_are_what_instances_answer(bench: Bench) -> None:
    """The engine's word and the client's eyes are joined by this name alone."""
    for i in bench.story(steady).instances:
        reply = bench.eyes.fetch(i.address or "", i.port or 0)
        expect(reply.instance == i.id, f"at the address of {i.id}, {reply.instance!r} answers")


@behaviour()
def versions_are_told(bench: Bench) -> None:
    """During an update both versions run: which is which must be seen in the list and in the answer."""
    story = bench.story(steady)
    for i in story.instances:
        expect(i.version == story.spec.version, f"{i.id} has version {i.version!r}, not {story.spec.version!r}")
        reply = bench.eyes.fetch(i.address or "", i.port or 0)
        expect(reply.version == story.spec.version, f"{i.id} answers with version {reply.version!r}: the image's env is lost")


@behaviour()
def ids_are_unique_and_stay(bench: Bench) -> None:
    """An id that changes makes one instance two; one that is used twice makes two instances one."""
    story = bench.story(steady)
    before = sorted(i.id for i in story.instances)
    expect(len(set(before)) == STEADY, f"ids are used twice: {before}")
    listed = sorted(i.id for i in bench.ready(story.spec.name))
    expect(listed == before, f"nothing was done, and the ids were {before} and are {listed}")
    told = {c.instance.id for c in story.changes}
    expect(set(before) <= told, f"the watch told other ids than the list: {told}")


@behaviour()
def instances_name_their_service(bench: Bench) -> None:
    """Changes of several services may meet in one place."""
    story = bench.story(steady)
    for i in [*story.instances, *(c.instance for c in story.changes)]:
        expect(i.service == story.spec.name, f"{i.id} says that it is of {i.service!r}")


@behaviour()
def nodes_agree_with_the_nodes_list(bench: Bench) -> None:
    """Fault scenarios take a node and ask which instances were on it: both lists must use one name."""
    names = {n.name for n in bench.driver.nodes()}
    for i in bench.story(steady).instances:
        expect(i.node in names, f"{i.id} is on {i.node!r}, which is none of {sorted(names)}")


@behaviour(Capability.HEALTH)
def ready_means_serving(bench: Bench) -> None:
    """READY is the engine's claim in every table: with a health check it must not come before the service answers."""
    story = bench.story(steady)
    for i in story.instances:
        ready = next(c.seen for c in story.changes if c.instance.id == i.id and c.instance.state is InstanceState.READY)
        first = min(s.at for s in story.seen if s.asked == i.id and s.up)
        expect(ready > first - 0.1, f"{i.id} was told as ready {first - ready:.2f} s before its first answer")
        expect(first - story.asked > SLOW_START, f"{i.id} answered {first - story.asked:.2f} s after it was asked for")


@behaviour()
def states_go_forward(bench: Bench) -> None:
    """A state mapped too high or too low shows as one that goes back while the instance just starts."""
    story = bench.story(steady)
    for i in story.instances:
        states = [c.instance.state for c in story.changes if c.instance.id == i.id]
        expect(all(s in ORDER for s in states), f"{i.id} only started, and was told as {states}")
        ranks = [ORDER.index(s) for s in states]
        expect(ranks == sorted(ranks), f"{i.id} went back: {states}")
        expect(len(set(states)) > 1, f"{i.id} was told as {states} only: the steps before READY are not seen")
        expect(all(c.instance.engine_state for c in story.changes), "an instance has no engine_state, the engine's own word")


@behaviour()
def claims_are_in_the_right_clock(bench: Bench) -> None:
    """A time in another zone, unit or clock would be shown beside ours, and be nonsense."""
    story = bench.story(steady)
    skew = time.time() - now()  # engines follow the wall clock, which may have been set since we began
    for i in bench.ready(story.spec.name):
        expect(i.claims, f"{i.id} has no times of its engine's own")
        for c in i.claims:
            at = c.at - skew
            expect(c.name, f"{i.id}: a time has no name")
            expect(at >= story.asked - RESOLUTION, f"{i.id}: '{c.name}' is {story.asked - at:.1f} s before it was asked for")
            expect(at <= now() + RESOLUTION, f"{i.id}: '{c.name}' is {at - now():.1f} s in the future")


@behaviour(Capability.LOGS)
def logs_hold_what_was_written(bench: Bench) -> None:
    """A failed trial is explained by the instance's last words, of both its outputs."""
    story = bench.story(talk)
    for word in (f"to-stdout-{bench.token}", f"to-stderr-{bench.token}", f"last-{bench.token}"):
        expect(word in story.log, f"the instance wrote {word}; its log holds {story.log[:200]!r}")


@behaviour(Capability.LOGS)
def logs_end_with_the_last_lines(bench: Bench) -> None:
    """Only the end is wanted of a log that may be large."""
    story = bench.story(talk)
    lines = story.last.strip().splitlines()
    expect(len(lines) == 1, f"one line was asked for, {len(lines)} came: {lines[:4]}")


@behaviour(Capability.KILL)
def killed_instances_are_replaced(bench: Bench) -> None:
    """Healing is a scenario: the killed one must truly end, its siblings stay, and another with its own id come."""
    spec = bench.spec("kill", 2)
    with bench.diary(spec.name) as diary, bench.eyes.look() as look:
        bench.deploy(spec)
        victim, other = diary.wait_ready(2)
        for i in (victim, other):
            look.add(i)
        bench.until(lambda: {victim.id, other.id} <= look.up(), "both to answer")
        bench.driver.kill(victim)
        found = diary.wait(
            lambda c: [
                i for i in c.values() if i.state is InstanceState.READY and i.id not in (victim.id, other.id) and other.id in c
            ],
            "a replacement",
        )
        diary.wait(lambda c: victim.id not in c or not c[victim.id].live, "the killed one's end")
        bench.until(lambda: victim.id not in look.up(), "the killed one to fall silent")
        expect(found[0].id != victim.id, "the replacement has the id of the one that was killed")
        reply = bench.until(lambda: _reply(bench, found[0].address, found[0].port), "the replacement to answer")
        expect(reply == found[0].id, f"at the replacement's address {reply!r} answers, not {found[0].id}")
        expect(not [s for s in look.seen if s.asked == other.id and not s.up], "the other instance fell silent too")
        expect(not diary.faults(), f"the watch contradicts itself: {diary.faults()[:3]}")
    bench.remove(spec.name)


def _reply(bench: Bench, address: str | None, port: int | None) -> str:
    return bench.eyes.fetch(address or "", port or 0).instance
