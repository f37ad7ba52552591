"""Whether a plan fits the bays that it asks for and the time that it has, reckoned before anything is made."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import msgspec

from ..contract import BadInput, BaysGiven, BaysWanted, Provisioner, Room, RoomGiven, RoomWanted, Scenario, TimeWanted, Workload
from ..scenarios.timing import BAY
from .plan import MIB, Plan, Subject


def check(plan: Plan, scenarios: Mapping[str, Scenario], provisioner: Provisioner, workload: Workload) -> None:
    """Raise BadInput, with the arithmetic, if a scenario can't fit a subject's bay or a block can't fit the budget.

    What scenarios or the provisioner can't say beforehand is not reckoned with: then it is the engine that says so.
    """
    if plan.budget and (least := least_block(plan, scenarios)) > plan.budget:
        each = [f"{name} {s:g} s" for name, s in _least(plan, scenarios).items() if s]
        raise BadInput(
            f"a budget of {plan.budget:g} s is too small for one block, which takes {least:g} s at least: {len(plan.subjects)} "
            f"subjects × (bay {BAY:g} s{''.join(f' + {e}' for e in each)}); give it more, or fewer --scenarios"
        )
    for subject in plan.subjects:
        _bays(plan, subject, scenarios, provisioner)
    if not isinstance(provisioner, RoomGiven):
        return
    spec = workload.service("room", 1, workload.versions[0])
    for subject in plan.subjects:
        bay = plan.spec(subject)
        node = provisioner.node_room(bay)
        for name, scenario in scenarios.items():
            if isinstance(scenario, RoomWanted):
                for room in scenario.room(plan.settings[name], spec):
                    _fits(f"{name} on {subject.name}", room, node, bay.nodes)


def _bays(plan: Plan, subject: Subject, scenarios: Mapping[str, Scenario], provisioner: Provisioner) -> None:
    """The bays that a scenario makes itself."""
    if not isinstance(provisioner, BaysGiven):
        return
    for name, scenario in scenarios.items():
        if isinstance(scenario, BaysWanted):
            for count, nodes in scenario.bays(plan.settings[name]):
                try:
                    provisioner.check_several(msgspec.structs.replace(plan.spec(subject), nodes=nodes), count)
                except BadInput as e:
                    raise BadInput(f"{name} on {subject.name}, {count} bays of up to {nodes} nodes at one time: {e}") from None


def _fits(what: str, wanted: Room, node: Room, nodes: int) -> None:
    limits = {}
    if wanted.cpu > 0 and node.cpu > 0:
        limits[f"{node.cpu:g} cores at {wanted.cpu:g}"] = math.floor(node.cpu / wanted.cpu + 1e-9)
    if wanted.memory > 0 and node.memory > 0:
        limits[f"{node.memory // MIB} MiB at {wanted.memory // MIB}"] = node.memory // wanted.memory
    if node.instances:
        limits["the engine's own limit"] = node.instances
    if not limits:
        return
    why, each = min(limits.items(), key=lambda item: item[1])
    all_of_it = wanted.instances * (nodes if wanted.each_node else 1)
    if each * nodes < all_of_it:
        how = f" ({wanted.instances} on each node)" if wanted.each_node else ""
        raise BadInput(
            f"{what} can't fit: it wants {all_of_it} instances at one time{how}; a node takes {each} ({why}), {nodes} nodes "
            f"{each * nodes}: more --nodes or --host-cpu and --host-memory, or smaller settings"
        )


def _least(plan: Plan, scenarios: Mapping[str, Scenario]) -> dict[str, float]:
    return {n: s.least_seconds(plan.settings[n]) if isinstance(s, TimeWanted) else 0.0 for n, s in scenarios.items()}


def least_block(plan: Plan, scenarios: Mapping[str, Scenario]) -> float:
    """Seconds that a block takes at least, by what its settings say."""
    return len(plan.subjects) * (BAY + sum(_least(plan, scenarios).values()))


def seconds(text: str) -> float:
    """A time as people write it: 90s, 20m, 1h30m, or a plain number of seconds. Raises BadInput."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not match or not any(match.groups()):
        raise BadInput(f"'{text}' is no time: write 90s, 20m or 1h30m")
    hours, minutes, rest = (float(g or 0) for g in match.groups())
    total = 3600 * hours + 60 * minutes + rest
    if not 0 < total < 1e7:
        raise BadInput(f"a budget of '{text}' can't be: give a time above 0")
    return total
