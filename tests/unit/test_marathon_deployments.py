"""What the Marathon-compatible scheduler does to get from one version of an app to the next."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as some

from coebench.lab.marathon.apps import App, normalised
from coebench.lab.marathon.deployments import RESTART, SCALE, START, STOP, Deployment, decide, limits, planned
from coebench.lab.marathon.instances import Health, Instance


def app(name: str = "/a", version: str = "1", config: str | None = None, **parts: Any) -> App:
    spec = normalised({"id": name, "cmd": "x", "ports": [1], **parts})
    return App(spec, version, config or version, version)


numbers = iter(range(1_000_000))


def instance(of: App, state: str = "TASK_RUNNING", **parts: Any) -> Instance:
    number = next(numbers)
    stamp = f"2026-01-01T00:00:00.{number:06d}Z"
    return Instance(f"i{number}", of.id, of.version, of.config_at, "s", "n", {}, [], stamp, state=state, **parts)


def steps(original: dict[str, App | None], target: dict[str, App | None], **more: Any) -> list[list[tuple[str, str]]]:
    return planned(original, target, "9", **more).steps


def test_plans() -> None:
    a, bigger, other = app(), app(instances=3, config="1", version="2"), app(version="2", cmd="y")
    assert steps({"/a": None}, {"/a": a}) == [[(START, "/a")], [(SCALE, "/a")]]
    assert steps({"/a": a}, {"/a": bigger}) == [[(SCALE, "/a")]]
    assert steps({"/a": a}, {"/a": other}) == [[(RESTART, "/a")]]
    assert steps({"/a": a}, {"/a": None}) == [[(STOP, "/a")]]
    assert steps({"/a": a}, {"/a": a}) == []
    assert steps({"/a": a}, {"/a": a}, restart=["/a"]) == [[(RESTART, "/a")]]
    b = app("/b", dependencies=["/a"])
    assert steps({"/a": None, "/b": None}, {"/b": b, "/a": a}) == [
        [(START, "/a")],
        [(SCALE, "/a")],
        [(START, "/b")],
        [(SCALE, "/b")],
    ]


def test_a_deployment_survives_being_kept() -> None:
    deployment = planned({"/a": None}, {"/a": app()}, "9", doomed=["x"])
    again = Deployment.restored(deployment.kept())
    assert again == deployment
    assert again.shown()["affectedApps"] == ["/a"]
    assert again.action("/a") == START


def test_scaling_up_counts_what_is_wanted_only() -> None:
    a = app(instances=3)
    assert decide(None, a, []).start == 3
    there = [instance(a, "TASK_STAGING"), instance(a, killing=True), instance(a, "TASK_UNREACHABLE", inactive=True)]
    assert decide(None, a, there).start == 2


def test_scaling_is_done_when_all_are_good() -> None:
    a = app(instances=1)
    assert decide(SCALE, a, [instance(a)]).done
    assert not decide(SCALE, a, [instance(a, "TASK_STAGING")]).done
    assert not decide(SCALE, a, [instance(a, health=[Health()])]).done
    assert not decide(SCALE, a, [instance(a, ready=False)]).done
    assert not decide(SCALE, a, [instance(a), instance(a, killing=True)]).done, "not before the others are gone"


def test_who_goes_first() -> None:
    a = app(instances=1)
    old, young, sick = instance(a), instance(a), instance(a, health=[Health(alive=False)])
    staged, lost = instance(a, "TASK_STAGING"), instance(a, "TASK_UNREACHABLE")
    victims = decide(None, a, [old, staged, young, lost, sick]).kill
    assert victims == (lost, staged, sick, young)
    assert decide(None, a, [old, young], doomed=[old.id]).kill == (old,), "unless it was named"
    oldest = app(instances=1, killSelection="OLDEST_FIRST")
    assert decide(None, oldest, [old, young]).kill == (old,)


def test_stopping() -> None:
    a = app()
    one, other = instance(a), instance(a, killing=True)
    assert decide(STOP, a, [one, other]).kill == (one,)
    assert decide(STOP, a, []).done


def test_shares_are_not_rounded_away() -> None:
    for count in range(1, 40):
        for part in range(count + 1):
            strategy = {"minimumHealthCapacity": 1 - part / count, "maximumOverCapacity": part / count}
            least, most = limits(app(instances=count, upgradeStrategy=strategy), 0)
            assert (least, most) == (count - part, count + part)


def test_nothing_is_killed_for_a_new_one_that_is_not_good() -> None:
    old, new = app(instances=2), app(version="2", instances=2, cmd="y")
    there = [instance(old), instance(old), instance(new, health=[Health()]), instance(new, "TASK_STAGING")]
    assert decide(RESTART, new, there).kill == ()


def test_who_is_named_goes_though_an_update_is_under_way() -> None:
    old, new = app(instances=3), app(version="2", instances=2, cmd="y")
    stays, named, fresh = instance(old), instance(old), instance(new)
    assert named in decide(RESTART, new, [stays, named, fresh], doomed=[named.id]).kill
    assert fresh in decide(RESTART, new, [stays, named, fresh], doomed=[fresh.id]).kill


@settings(max_examples=150, deadline=None)
@given(
    wanted=some.integers(0, 9),
    before=some.integers(0, 9),
    least_share=some.floats(0, 1),
    over_share=some.floats(0, 1),
    seed=some.integers(0, 1 << 32),
)
def test_a_rolling_update_keeps_its_limits_and_ends(
    wanted: int, before: int, least_share: float, over_share: float, seed: int
) -> None:
    strategy = {"minimumHealthCapacity": least_share, "maximumOverCapacity": over_share}
    old = app(instances=before)
    new = app(version="2", instances=wanted, cmd="y", upgradeStrategy=strategy)
    dice = random.Random(seed)
    there = [instance(old) for _ in range(before)]
    least, _ = limits(new, before)
    for _ in range(2000):
        decision = decide(RESTART, new, there)
        if decision.done:
            break
        active = sum(i.active for i in there)
        _, most = limits(new, active)
        assert not decision.start or len(there) + decision.start <= most
        good_before = sum(i.good for i in there)
        there += [instance(new, "TASK_STAGING") for _ in range(decision.start)]
        for victim in decision.kill:
            victim.killing = True
        good = sum(i.good for i in there)
        assert good >= min(least, good_before), "the update itself never goes below the least"
        waiting = [i for i in there if i.killing or not i.running]
        if waiting:
            happens = dice.choice(waiting)
            if happens.killing:
                there.remove(happens)
            else:
                happens.state = "TASK_RUNNING"
    else:
        raise AssertionError("it never ends")
    assert len(there) == wanted and all(i.version == "2" for i in there)
