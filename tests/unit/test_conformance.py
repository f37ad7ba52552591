"""The suite itself: what it makes of drivers that lie, raise or contradict themselves."""

from __future__ import annotations

import queue
import threading
import time
from typing import Any

import msgspec
import pytest

from coebench.conformance import Outcome, Report, behaviour, behaviours, check, expect
from coebench.conformance.bench import Diary
from coebench.conformance.errors import bad_accesses
from coebench.conformance.eyes import Look, Seen, _reply
from coebench.conformance.registry import Behaviour
from coebench.contract import (
    Access,
    Capability,
    Change,
    EngineError,
    FollowingWatch,
    Instance,
    InstanceState,
    Support,
    Unsupported,
    is_service_name,
)


class FakeBench:
    """Only what `check` asks for."""

    def __init__(self, **support: Support) -> None:
        self._support = support

    def support(self, capability: Capability) -> Support:
        return self._support.get(capability.value, Support(False))


def outcome(act: Any, *needs: Capability, **support: Support) -> Outcome:
    what = Behaviour(name="x", group="g", why="because", needs=needs, check=act)
    return check(FakeBench(**support), what)  # type: ignore[arg-type]


def raising(error: Exception) -> Any:
    def act(_: object) -> None:
        raise error

    return act


def test_every_behaviour_has_a_reason_and_a_name_of_its_own() -> None:
    found = behaviours()
    assert len(found) >= 60
    assert len({b.name for b in found}) == len(found)
    assert all(len(b.why) > 30 for b in found)
    assert found[-1].name == "removal_leaves_the_bay_as_it_was"  # takes the eyes away


def test_a_behaviour_without_a_reason_is_refused() -> None:
    with pytest.raises(TypeError, match="reason"):
        behaviour()(lambda bench: None)


def test_check_tells_what_went_wrong() -> None:
    assert outcome(lambda _: None).result == "passed"
    assert outcome(lambda b: expect(0, "it is not")).reason == "it is not"
    assert "EngineError" in outcome(raising(EngineError("asking", "no"))).reason
    assert "though the capability is claimed" in outcome(raising(Unsupported("kill", "can't"))).reason
    odd = outcome(raising(KeyError("x")))
    assert odd.result == "failed"
    assert "none of the contract's errors" in odd.reason


def test_what_is_not_claimed_does_not_apply_if_it_says_why() -> None:
    act = raising(KeyError("not reached"))
    assert outcome(act, Capability.KILL, kill=Support(False, "no daemon")).result == "not applicable"
    assert outcome(act, Capability.KILL, kill=Support(False)).result == "failed"
    assert outcome(lambda _: None, Capability.KILL, kill=Support(True)).result == "passed"


def test_the_score_counts_what_applies() -> None:
    def of(result: str) -> Outcome:
        return Outcome(name="x", group="g", why="y", result=result)

    report = Report(coe="x", outcomes=(of("passed"), of("passed"), of("failed"), of("not applicable")), seconds=1)
    assert report.score == pytest.approx(2 / 3)
    assert not report.ok
    assert not Report(coe="x", outcomes=(of("passed"),), seconds=1, left=("a service",)).ok
    assert Report(coe="x", outcomes=(), seconds=0).score == 0


def instance(ident: str, state: InstanceState = InstanceState.READY, **more: Any) -> Instance:
    return Instance(id=ident, service="s", version="v1", state=state, engine_state=state.value, **more)


class ScriptedWatch:
    """Tells what it is given."""

    fallback = ""

    def __init__(self, changes: list[Change]) -> None:
        self._changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
        for c in changes:
            self._changes.put(c)

    def next(self, timeout: float) -> Change | None:
        try:
            return self._changes.get(timeout=min(timeout, 0.01))
        except queue.Empty:
            return None

    def close(self) -> None: ...


class ScriptedDriver:
    def __init__(self, changes: list[Change]) -> None:
        self._changes = changes

    def watch(self, service: str) -> ScriptedWatch:
        return ScriptedWatch(self._changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ([Change("added", instance("a"), 1), Change("removed", instance("a"), 2), Change("added", instance("a"), 3)], None),
        ([Change("changed", instance("a"), 1)], "not there"),
        ([Change("removed", instance("a"), 1)], "not there"),
        ([Change("added", instance("a"), 1), Change("added", instance("a"), 2)], "was there"),
        ([Change("added", instance("a"), 1), Change("changed", instance("a"), 2)], "told twice"),
        ([Change("added", instance("a"), 2), Change("removed", instance("a"), 1)], "seen before"),
        ([Change("gone", instance("a"), 1)], "can't be"),
    ],
)
def test_contradictions_of_a_watch_are_found(changes: list[Change], fault: str | None) -> None:
    with Diary(ScriptedDriver(changes), "s", 5) as diary:  # type: ignore[arg-type]
        diary.wait(lambda _: len(diary.changes) == len(changes), "all of it")
        faults = diary.faults()
    assert (fault is None and not faults) or (fault is not None and any(fault in f for f in faults)), faults


def test_capacity_is_the_smallest_number_that_answered_at_once() -> None:
    look = Look(None)  # type: ignore[arg-type]
    look.seen = [Seen(0, "a", True), Seen(0, "b", True), Seen(5, "c", True), Seen(6, "a", False), Seen(8, "a", True)]
    assert look.least(1, 10) == 2
    assert look.least(5.5, 10) == 2
    look.seen += [Seen(9, "b", False), Seen(9.01, "b", True)]
    assert look.least(8.5, 10) == 3  # a hundredth of a second is not a gap
    look.seen += [Seen(11, "b", False)]
    assert look.least(10, 12) == 2
    assert look.first("c") == 5
    assert look.up(at=6.5) == {"b", "c"}


def test_wget_is_understood() -> None:
    good = _reply("i v1\n", "  HTTP/1.1 200 OK\n  X-Coebench-Instance: i\n  X-Coebench-Version: v1\n  \n")
    assert (good.status, good.instance, good.version, good.body) == (200, "i", "v1", "i v1\n")
    assert _reply("", "  HTTP/1.1 404 Not Found\nwget: server returned error: HTTP/1.1 404 Not Found\n").status == 404
    refused = _reply("", "wget: can't connect to remote host (10.0.0.1): Connection refused\n")
    assert refused.status == 0
    assert "refused" in refused.body


def test_access_is_spoilt_in_each_way() -> None:
    kinds = [what for what, _ in bad_accesses(Access(coe="x", url="https://a", ca="c", cert="c", key="k", password="p"))]
    assert len(kinds) == 5
    config = '{"clusters": [{"cluster": {"server": "https://10.0.0.1:6443"}}], "client-key-data": "x"}'
    spoilt = dict(bad_accesses(Access(coe="x", kubeconfig=config)))
    assert "10.0.0.1" not in spoilt["a kubeconfig that leads nowhere"].kubeconfig
    assert '"client-key-data"' not in spoilt["a kubeconfig without its credentials"].kubeconfig


@pytest.mark.parametrize("name", ["a", "web-1", "0", "x" * 40])
def test_names_that_can_be(name: str) -> None:
    assert is_service_name(name)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "a/b", "x" * 41, "a\n", "ü", " a"])
def test_names_that_cannot(name: str) -> None:
    assert not is_service_name(name)


def test_closing_a_watch_wakes_who_waits() -> None:
    def follow(watch: FollowingWatch) -> None:
        watch.snapshot([instance("a")])
        watch.closed.wait()

    watch = FollowingWatch(follow)
    first = watch.next(5)
    assert first and first.kind == "added"
    told: list[object] = []
    waiting = threading.Thread(target=lambda: told.append(watch.next(30)))
    waiting.start()
    time.sleep(0.05)
    watch.close()
    waiting.join(timeout=2)
    assert told == [None]
    assert watch.next(30) is None
    assert watch.next(30) is None


def test_outcomes_can_be_written_down() -> None:
    assert msgspec.json.decode(msgspec.json.encode(outcome(lambda _: None)))["result"] == "passed"
