"""What each of several generators is asked to do, so that all of them together do what the plan says."""

from __future__ import annotations

from typing import Any

from ..contract import BadInput, LoadPlan
from .agent import targets_word

LEAST_RATE = 0.001  # that a generator takes, requests a second
LONGEST_SHIFT = 1.0  # s after the others that a generator begins and ends, at most: beyond it its seconds would not be theirs


def check(plan: LoadPlan, generators: int) -> None:
    """Raises BadInput for a plan that can't be spread over so many generators."""
    if not plan.targets:
        raise BadInput("a load needs at least one target")
    if generators < 1:
        raise BadInput(f"a load needs at least one generator, not {generators}")
    if plan.connections < generators:
        raise BadInput(f"{plan.connections} connections can't be spread over {generators} generators: at least one each")
    if plan.rate and plan.rate / generators < LEAST_RATE:
        raise BadInput(f"{plan.rate:g} requests/s are too few for {generators} generators: at least {LEAST_RATE:g} each")
    last = phase_shift(plan, generators - 1, generators)
    if last > min(LONGEST_SHIFT, plan.duration):
        raise BadInput(
            f"constant arrivals at {plan.rate:g} requests/s can't be interleaved over {generators} generators: the last would "
            f"begin {last:g} s after the first; fewer generators, a higher rate or poisson arrivals"
        )


def words(plan: LoadPlan, index: int, of: int) -> dict[str, Any]:
    """The words of the `load` request of generator `index` (from 0) of `of`; `start` is left to the coordinator.

    Connections are spread evenly and so that all targets are covered as evenly as by one generator. The rate is divided;
    Poisson arrivals get seeds of their own, because the sum of independent ones is Poisson again.
    """
    each, rest = divmod(plan.connections, of)
    mine = _connections(plan, index, of)
    before = index * each + min(index, rest)
    count = len(plan.targets)
    targets = [plan.targets[(before + i) % count] for i in range(min(mine, count))]
    asked: dict[str, Any] = {
        "targets": targets_word((t.address, t.port) for t in targets),
        **request_words(plan),
        "mode": "open" if plan.rate else "closed",
        "connections": mine,
        "threads": threads(plan, index, of),
        "timeout": f"{plan.timeout:g}s",
    }
    if plan.rate:
        asked |= {"rate": f"{plan.rate / of:.9f}", "arrivals": plan.arrivals}
        if plan.arrivals == "poisson":
            asked["seed"] = index + 1
    return asked


def request_words(plan: LoadPlan) -> dict[str, Any]:
    """What is asked of a target and which answers are good, in the words of the agent's `load`; a tuple repeats its key."""
    asked: dict[str, Any] = {"path": plan.path, "method": plan.method, "expect_status": plan.expect_status}
    more = {"header": plan.headers, "body": plan.body, "expect_version": plan.expect_version, "expect_body": plan.expect_body}
    return asked | {key: value for key, value in more.items() if value}


def threads(plan: LoadPlan, index: int, of: int) -> int:
    """Of generator `index`: no more than it has connections."""
    return min(plan.threads, _connections(plan, index, of))


def _connections(plan: LoadPlan, index: int, of: int) -> int:
    each, rest = divmod(plan.connections, of)
    return each + (index < rest)


def phase_shift(plan: LoadPlan, index: int, of: int) -> float:
    """Seconds by which a generator begins after the common start: constant arrivals of several interleave evenly, each
    within one of its own intervals; without it all would send at the same instants. `check` has refused what is too long."""
    return index / plan.rate if plan.rate and plan.arrivals == "constant" and of > 1 else 0.0
