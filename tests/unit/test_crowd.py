"""Several services followed at once: who answers is sorted right, whatever address it comes from."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coebench.contract import (
    Answer,
    EngineError,
    FollowingWatch,
    Instance,
    InstanceState,
    Observation,
    PhaseTimeout,
    Progress,
    Target,
    Unplaceable,
    now,
)
from coebench.scenarios import crowd as crowds
from coebench.scenarios.crowd import Crowd, gone, saying, serving


class Engine:
    """A driver whose watches tell what a test says."""

    def __init__(self) -> None:
        self.watches: dict[str, FollowingWatch] = {}
        self.blocked = ""

    def watch(self, service: str) -> FollowingWatch:
        self.watches[service] = FollowingWatch(lambda w: w.closed.wait() and None)
        return self.watches[service]

    def tell(self, service: str, ident: str, state: str, port: int = 80, removed: bool = False) -> None:
        instance = Instance(
            id=ident, service=service, version="v1", state=InstanceState(state), engine_state=state, address="10.0.0.1", port=port
        )
        self.watches[service].apply(instance, removed=removed)

    def progress(self, service: str) -> Progress:
        return Progress(done=False, wanted=3, ready=0, blocked=self.blocked)


class Eyes:
    """A prober that sees what a test says."""

    def __init__(self) -> None:
        self.seen: queue.SimpleQueue[Answer | EngineError] = queue.SimpleQueue()
        self.asked: dict[str, Target] = {}
        self.ended: list[str] = []

    def watch(self, target: Target, path: str) -> str:
        ident = f"w{len(self.asked)}"
        self.asked[ident] = target
        return ident

    def unwatch(self, watch: str) -> None:
        self.ended.append(watch)

    def next(self, timeout: float) -> Answer | None:
        try:
            seen = self.seen.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(seen, EngineError):
            raise seen
        return seen

    def say(self, watch: str, kind: str, instance: str = "", version: str = "v1") -> None:
        target = self.asked[watch]
        self.seen.put(Answer(watch=watch, kind=kind, at=now(), sent=now(), target=target, instance=instance, version=version))


class Clock:
    """A deadline of seconds."""

    def __init__(self, seconds: float) -> None:
        self.end, self.what = time.monotonic() + seconds, ""

    def left(self) -> float:
        if time.monotonic() >= self.end:
            raise PhaseTimeout("phase", 1.0, self.what)
        return self.end - time.monotonic()

    def waiting_for(self, what: str) -> None:
        self.what = what


class Trial:
    def __init__(self) -> None:
        self.driver, self.prober = Engine(), Eyes()
        self.observations: list[Observation] = []

    def observe(self, name: str, *, at: float | None = None, **data: Any) -> None:
        self.observations.append(Observation(at=at or now(), name=name, data=data))


@pytest.fixture
def trial() -> Trial:
    return Trial()


@pytest.fixture
def crowd(trial: Trial) -> Iterator[Crowd]:
    with Crowd(trial) as c:  # type: ignore[arg-type]
        c.follow("a", "b")
        yield c


def until(crowd: Crowd, fact: Callable[[], bool]) -> None:
    crowd.until(fact, Clock(5.0), lambda: "the test's fact")


def start(trial: Trial, crowd: Crowd, service: str, ident: str, port: int) -> str:
    """An instance that is told of; returns the prober's watch on it."""
    known = len(trial.prober.asked)
    trial.driver.tell(service, ident, "ready", port)
    until(crowd, lambda: ident in crowd.services[service].instances and len(trial.prober.asked) > known)
    return list(trial.prober.asked)[-1]


def test_answers_go_to_the_service_whose_instance_it_is(trial: Trial, crowd: Crowd) -> None:
    one, two = start(trial, crowd, "a", "a1", 81), start(trial, crowd, "b", "b1", 82)
    trial.prober.say(two, "up", "b1", "v2")
    trial.prober.say(one, "up", "a1")
    until(crowd, lambda: all(f.speaking for f in crowd.services.values()))
    assert crowd.services["a"].speaking == {"a1": "v1"}
    assert crowd.services["b"].speaking == {"b1": "v2"}
    assert serving(crowd.services["a"], 1)() and not gone(crowd.services["a"])()


def test_an_address_that_passes_to_another_service_is_not_counted_for_the_first(trial: Trial, crowd: Crowd) -> None:
    one = start(trial, crowd, "a", "a1", 81)
    trial.prober.say(one, "up", "a1")
    until(crowd, lambda: bool(crowd.services["a"].speaking))
    start(trial, crowd, "b", "b1", 81)
    trial.prober.say(one, "changed", "b1")
    until(crowd, lambda: bool(crowd.services["b"].speaking))
    assert not crowd.services["a"].speaking
    answers = [(o.data["service"], o.data["instance"], o.data["kind"]) for o in trial.observations if o.name == "answer"]
    assert answers == [("a", "a1", "up"), ("a", "a1", "down"), ("b", "b1", "changed")]


def test_an_answer_of_an_instance_that_nobody_told_of_is_nobodys(trial: Trial, crowd: Crowd) -> None:
    one = start(trial, crowd, "a", "a1", 81)
    trial.prober.say(one, "up", "stranger")
    trial.prober.say(one, "up", "a1")
    until(crowd, lambda: bool(crowd.services["a"].speaking))
    assert crowd.services["a"].speaking == {"a1": "v1"}


def test_who_is_silent_and_not_counted_on_is_asked_no_more(trial: Trial, crowd: Crowd) -> None:
    one = start(trial, crowd, "a", "a1", 81)
    trial.prober.say(one, "up", "a1")
    trial.prober.say(one, "down")
    trial.prober.say(one, "up", "a1")  # only a moment: the engine counts on it still
    until(crowd, lambda: len([o for o in trial.observations if o.name == "answer"]) == 3)
    assert not trial.prober.ended
    trial.driver.tell("a", "a1", "stopping", 81)
    trial.prober.say(one, "down")
    until(crowd, lambda: trial.prober.ended == [one])
    trial.driver.tell("a", "a1", "ended", 81)
    until(crowd, gone(crowd.services["a"]))


def test_a_service_that_was_left_is_heard_no_more(trial: Trial, crowd: Crowd) -> None:
    one = start(trial, crowd, "a", "a1", 81)
    crowd.leave("a")
    trial.prober.say(one, "up", "a1")
    assert crowd.step(2.0)
    assert trial.prober.ended == [one]
    assert "a" not in crowd.services
    assert not [o for o in trial.observations if o.name == "answer"]


def test_what_the_engine_cannot_place_is_told_in_its_words(trial: Trial, crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "TICK", 0.01)
    trial.driver.blocked = "no node has so much memory"
    with pytest.raises(Unplaceable, match="no node has so much memory"):
        crowd.until(lambda: False, Clock(5.0), saying(crowd.services["a"]), ["a"])


def test_a_timeout_names_what_was_waited_for(trial: Trial, crowd: Crowd) -> None:
    trial.driver.tell("a", "a1", "pending")
    until(crowd, lambda: bool(crowd.services["a"].instances))
    with pytest.raises(PhaseTimeout, match=r"a: 0 answer, the engine lists 1 \(pending\)"):
        crowd.until(lambda: False, Clock(0.2), saying(crowd.services["a"]))


def test_trouble_of_the_prober_ends_the_wait(trial: Trial, crowd: Crowd) -> None:
    trial.prober.seen.put(EngineError("the prober", "its connection ended"))
    with pytest.raises(EngineError, match="its connection ended"):
        until(crowd, lambda: False)


def test_changes_are_observed_with_the_time_of_the_engines_word(trial: Trial, crowd: Crowd) -> None:
    before = now()
    start(trial, crowd, "a", "a1", 81)
    (told,) = [o for o in trial.observations if o.name == "instance"]
    assert before <= told.at <= now()
