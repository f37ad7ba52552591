"""Placement constraints: may an instance go to this agent, given where its siblings are?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

OPERATORS = ("UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "UNLIKE", "MAX_PER", "IS")

Attributes = Mapping[str, str]
"""What is known of an agent: ``hostname`` and its attributes."""


def allowed(
    constraints: Iterable[Sequence[str]],
    agent: Attributes,
    siblings: Sequence[Attributes],
    agents: Iterable[Attributes],
) -> bool:
    """Whether ``agent`` satisfies every constraint.

    ``siblings`` are the agents of the app's other instances (one entry an instance); ``agents`` all that are known,
    among which GROUP_BY spreads.
    """
    return all(_one(c[0], c[1], c[2] if len(c) > 2 else None, agent, siblings, agents) for c in constraints)


def _one(
    name: str,
    operator: str,
    value: str | None,
    agent: Attributes,
    siblings: Sequence[Attributes],
    agents: Iterable[Attributes],
) -> bool:
    name = "hostname" if name == "@hostname" else name
    mine = agent.get(name)
    if mine is None:
        return operator == "UNLIKE"
    others = [s[name] for s in siblings if name in s]
    if operator == "UNIQUE":
        return mine not in others
    if operator in ("CLUSTER", "IS"):
        return mine == value if value else all(other == mine for other in others)
    if operator == "LIKE":
        return re.fullmatch(value or "", mine) is not None
    if operator == "UNLIKE":
        return re.fullmatch(value or "", mine) is None
    counts = Counter(others)
    if operator == "MAX_PER":
        return counts[mine] < int(value or 0)
    groups = {a[name] for a in agents if name in a} | counts.keys() | {mine}
    if value and len(counts) < min(int(value), len(groups)):
        return counts[mine] == 0  # first one in each of as many groups as are wanted
    fewest = min(counts[group] for group in (counts if value and len(counts) >= int(value) else groups))
    return counts[mine] == fewest and (not value or mine in counts or len(counts) < int(value))
