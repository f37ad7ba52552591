"""Watches: the stream that every time of the engine's own comes from."""

from __future__ import annotations

import sys
import threading
import time

from ..contract import EngineError, Instance
from .bench import Bench
from .registry import behaviour, expect
from .stories import STEADY, churn, steady


@behaviour()
def watch_begins_with_what_is_there(bench: Bench) -> None:
    """A watch may begin at any time; whoever holds it must know all instances, each once."""
    story = bench.story(steady)
    with bench.driver.watch(story.spec.name) as watch:
        first = [watch.next(10) for _ in range(STEADY)]
        rest = watch.next(1.0)
    expect(all(c and c.kind == "added" for c in first), f"the first changes are {[c and c.kind for c in first]}, not all 'added'")
    told = {c.instance.id: c.instance for c in first if c}
    expect(set(told) == {i.id for i in story.instances}, f"it begins with {sorted(told)}")
    expect(rest is None, f"nothing happens, and it tells: {rest}")
    listed = {i.id: i for i in bench.driver.instances(story.spec.name)}
    expect(told == {k: v for k, v in listed.items() if k in told}, "the watch and the list tell the same instances differently")


@behaviour()
def watch_works_before_the_service_exists(bench: Bench) -> None:
    """It is opened before the request, or the first changes would be missed."""
    story = bench.story(steady)
    expect(story.before is None, f"the service did not exist, and the watch told {story.before}")
    expect(story.changes and story.changes[0].seen >= story.asked, "a change was seen before the service was asked for")
    first = {c.instance.id for c in story.changes if c.kind == "added"}
    expect(len(first) >= STEADY, f"{STEADY} instances came, the watch told of {len(first)}")


@behaviour()
def watch_loses_none_and_repeats_none(bench: Bench) -> None:
    """Every change is a fact of the record; told twice or not at all, times derived from it are wrong."""
    story = bench.story(churn)
    expect(not story.faults, f"{len(story.faults)} contradictions of {story.most}; the first: {'; '.join(story.faults[:3])}")


@behaviour()
def watch_survives_many_changes(bench: Bench) -> None:
    """After a storm of changes the watch and the list must say the same."""
    story = bench.story(churn)
    expect(story.told == story.listed, f"the watch told of {sorted(story.told)}, listed are {sorted(story.listed)}")


@behaviour()
def two_watches_do_not_disturb_each_other(bench: Bench) -> None:
    """A scenario, a recorder and a live view may watch one service at once."""
    story = bench.story(steady)
    with bench.driver.watch(story.spec.name) as one, bench.driver.watch(story.spec.name) as two:
        first = [one.next(10) for _ in range(STEADY)]
        one.close()
        second = [two.next(10) for _ in range(STEADY)]
    expect(None not in first and None not in second, "one of two watches told less than the instances there are")
    ids = [{c.instance.id for c in told if c} for told in (first, second)]
    expect(ids[0] == ids[1], f"two watches of one service tell {ids[0]} and {ids[1]}")


@behaviour()
def watch_waits_as_long_as_asked(bench: Bench) -> None:
    """Who waits looks at a deadline in between: too short burns the CPU that is measured, too long misses the deadline."""
    with bench.driver.watch(bench.name("none")) as watch:
        watch.next(0.1)
        begun = time.monotonic()
        change = watch.next(0.4)
        took = time.monotonic() - begun
        expect(change is None, f"a service that does not exist has changed: {change}")
        expect(0.35 < took < 1.4, f"next(0.4) took {took:.2f} s")
        begun = time.monotonic()
        watch.next(0)
        expect(time.monotonic() - begun < 0.3, "next(0) did not return at once")


@behaviour()
def watch_closes_at_once(bench: Bench) -> None:
    """Ctrl-C and the end of a trial close watches from another thread than the one that waits."""
    service = bench.story(steady).spec.name
    watch = bench.driver.watch(service)
    for _ in range(STEADY):
        watch.next(10)
    ended = threading.Event()
    trouble: list[str] = []

    def wait() -> None:
        try:
            if (change := watch.next(30)) is not None:
                trouble.append(f"a closed watch tells: {change}")
        except EngineError:
            pass
        except Exception as e:
            trouble.append(f"a closed watch raises {type(e).__name__}: {e}")
        ended.set()

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    time.sleep(0.2)  # until it waits
    begun = time.monotonic()
    watch.close()
    took = time.monotonic() - begun
    expect(took < 1.0, f"close() took {took:.2f} s")
    expect(ended.wait(1.0), "who waits in next() is not woken by close()")
    expect(not trouble, "; ".join(trouble))
    watch.close()
    begun = time.monotonic()
    try:
        expect(watch.next(5) is None, "a closed watch goes on telling")
    except EngineError:
        pass
    expect(time.monotonic() - begun < 1.0, "next() of a closed watch waits")


@behaviour()
def closing_watches_disturbs_no_request(bench: Bench) -> None:
    """Watches are closed while other threads ask: a stream's connection that goes back to where requests take theirs from, when
    its reader and its closer both give it back, is soon used by two requests at one time."""
    service = bench.story(steady).spec.name
    end = time.monotonic() + 1.5
    trouble: list[str] = []

    def ask() -> None:
        while time.monotonic() < end and not trouble:
            try:
                bench.driver.instances(service)
            except Exception as e:
                trouble.append(f"{type(e).__name__}: {e}")

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as can be
    try:
        asking = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
        for thread in asking:
            thread.start()
        while time.monotonic() < end and not trouble:
            with bench.driver.watch(service) as watch:
                watch.next(0.5)
        for thread in asking:
            thread.join(10)
    finally:
        sys.setswitchinterval(usual)
    expect(not trouble, f"a request failed while watches were closed: {'; '.join(trouble)}")


@behaviour()
def closed_watches_leave_no_threads(bench: Bench) -> None:
    """A run opens hundreds of watches: a thread or connection that each leaves behind is CPU taken from what is measured."""
    service = bench.story(steady).spec.name
    before = set(threading.enumerate())
    for _ in range(3):
        with bench.driver.watch(service) as watch:
            watch.next(5)
    bench.until(
        lambda: not [t for t in threading.enumerate() if t not in before and t.is_alive()],
        "the threads of closed watches to end",
        lambda: str([t.name for t in threading.enumerate() if t not in before]),
        timeout=3,
    )


@behaviour()
def listing_and_watch_agree(bench: Bench) -> None:
    """Some parts of a run list, others watch: one instance must look the same to both."""
    story = bench.story(steady)
    last: dict[str, Instance] = {c.instance.id: c.instance for c in story.changes if c.kind != "removed"}
    for i in story.instances:
        expect(last[i.id].node == i.node, f"{i.id}: the watch says node {last[i.id].node!r}, the list {i.node!r}")
        mine, theirs = (last[i.id].address, last[i.id].port), (i.address, i.port)
        expect(mine == theirs, f"{i.id}: the watch says {mine}, the list {theirs}")
