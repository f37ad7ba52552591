"""Plans: what is effective, and what is refused before anything is created."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from coebench.contract import BadInput
from coebench.runner import plan as plans


def make(*subjects: str, file: dict | None = None, **given: object) -> plans.Plan:
    return plans.make(file or {}, subjects, given)


def test_the_simplest_plan_is_whole() -> None:
    plan = make("k8s", "swarm", "mesos")
    assert [s.name for s in plan.subjects] == ["k8s", "swarm", "mesos"]
    assert (plan.profile, plan.blocks, plan.scenarios) == ("default", 5, ("deploy", "serve"))
    assert plan.settings["deploy"]["instances"] == [1, 10]
    assert plan.seed > 0


def test_every_block_has_every_subject_once_and_the_seed_is_the_order() -> None:
    plan = make("k8s", "swarm", "mesos", seed=7, blocks=20)
    order = plan.order()
    for block in range(1, 21):
        assert Counter(s.name for b, s in order if b == block) == {"k8s": 1, "swarm": 1, "mesos": 1}
    assert order == make("k8s", "swarm", "mesos", seed=7, blocks=20).order()
    assert order != make("k8s", "swarm", "mesos", seed=8, blocks=20).order()
    firsts = {s.name for _, s in order[::3]}
    assert firsts == {"k8s", "swarm", "mesos"}  # nobody is always first


def test_a_subject_carries_its_options() -> None:
    plan = make("k8s", "fast=k8s:timeouts=harmonised,nodes=5,flag=on")
    fast = plan.subjects[1]
    assert (fast.name, fast.coe, fast.timeouts, fast.nodes, fast.options) == ("fast", "k8s", "harmonised", 5, {"flag": "on"})
    assert plan.spec(fast).nodes == 5
    assert plan.spec(plan.subjects[0]).timeouts == "stock"


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "plan.toml"
    file.write_text(
        'profile = "smoke"\nseed = 3\nblocks = 2\nsubjects = ["k8s", { coe = "swarm", nodes = 4 }]\n'
        "[bay]\nnodes = 2\n[settings.deploy]\ninstances = [2]\n"
    )
    plan = plans.make(plans.read(file), [], {"blocks": 4, "nodes": None, "timeouts": "harmonised"})
    assert (plan.profile, plan.seed, plan.blocks) == ("smoke", 3, 4)
    assert [plan.spec(s).nodes for s in plan.subjects] == [2, 4]
    assert plan.spec(plan.subjects[0]).timeouts == "harmonised"
    assert plan.settings["deploy"]["instances"] == [2]
    assert plans.make(plans.read(file), ["mesos"], {}).subjects[0].coe == "mesos"


def test_the_effective_plan_is_a_plan_file() -> None:
    from coebench.cli.compare import _without_none

    plan = make("k8s", "b=swarm:nodes=4", seed=5)
    text = msgspec.toml.encode(_without_none(msgspec.to_builtins(plan))).decode()
    assert plans.make(msgspec.toml.decode(text), [], {}) == plan


@pytest.mark.parametrize(
    ("subjects", "given", "said"),
    [
        ((), {}, "nothing to compare"),
        (("nomad",), {}, "unknown COE 'nomad'; known: "),
        (("k8s", "k8s"), {}, "'k8s' is given twice"),
        (("k8s:nodes",), {}, "'nodes' in 'k8s:nodes' is no option"),
        (("k8s:nodes=many",), {}, "nodes is a number"),
        (("k 8s",), {}, "is no subject"),
        (("k8s",), {"profile": "huge"}, "unknown profile 'huge'; known: smoke, default, full"),
        (("k8s",), {"scenarios": ["fly"]}, "unknown scenario 'fly'"),
        (("k8s",), {"scenarios": []}, "measures nothing"),
        (("k8s",), {"blocks": -1}, "trials are 1 to 1000"),
        (("k8s",), {"blocks": 0}, "trials are 1 to 1000, not 0"),
        (("k8s",), {"blocks": "two"}, "the plan: Expected `int`"),
    ],
)
def test_bad_input_is_one_clear_line(subjects: tuple[str, ...], given: dict, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        make(*subjects, **given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"bays": {}}, "unknown field `bays`"),
        (
            {"settings": {"deploy": {"count": 3}}},
            "deploy has no setting 'count' (it has: instances, timeout, health, image, cpu, memory_mib)",
        ),
        ({"settings": {"deploy": {"instances": 3}}}, "'instances' is a list of numbers"),
        ({"settings": {"serve": {"rate": "fast"}}}, "serve: 'rate' is a number"),
        ({"settings": {"serve": {"connections": 2}}}, "at least one each"),
        ({"settings": {"serve": {"routing": "magic"}}}, "routing is one of endpoints, native, proxy"),
        ({"scenarios": ["deploy"], "settings": {"serve": {}}}, "settings for 'serve', which the plan doesn't run"),
        ({"subjects": [{"coe": "k8s", "node": 3}]}, "unknown field `node`"),
    ],
)
def test_bad_plan_files_are_one_clear_line(content: dict, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        plans.make(content, [] if "subjects" in content else ["k8s"], {})
    assert said in str(caught.value)


def test_files_that_are_no_plan(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="can't read the plan"):
        plans.read(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("profile = \n")
    with pytest.raises(BadInput, match="is no TOML"):
        plans.read(tmp_path / "bad.toml")
