"""What a scenario will ask of a bay and of the clock, so that a plan that can't be is refused before anything is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import msgspec

from .bay import BaySpec
from .service import ServiceSpec


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Of a scenario: `instances` at one time, on every node if `each_node`, else on all together, each reserving `cpu` cores and
    `memory` bytes. Of a node: how many instances its engine takes at most (0: no number of its own), the cores and the bytes that
    it has for them."""

    instances: int = 0
    cpu: float
    memory: int
    each_node: bool = False


@runtime_checkable
class RoomWanted(Protocol):
    """What a scenario has, besides `Scenario`, if it can say beforehand what it will ask of a bay."""

    def room(self, settings: Mapping[str, Any], spec: ServiceSpec) -> Sequence[Room]:
        """What it asks for, each at a time of its own. `spec` is the workload's service."""


@runtime_checkable
class RoomGiven(Protocol):
    """What a provisioner has, besides `Provisioner`, if it knows the size of the nodes that it will make."""

    def node_room(self, spec: BaySpec) -> Room:
        """What one node has for instances, as its engine will be told."""


@runtime_checkable
class TimeWanted(Protocol):
    """What a scenario has, besides `Scenario`, if its settings say how long it lasts at least."""

    def least_seconds(self, settings: Mapping[str, Any]) -> float:
        """Seconds that one trial takes even if everything else takes no time."""


@runtime_checkable
class ToolsWanted(Protocol):
    """What a scenario has, besides `Scenario`, if it runs programs beside the prober (`Prober.execute`, or `load` by a tool)."""

    def runs_tools(self, settings: Mapping[str, Any]) -> bool:
        """Whether it does with these settings. The prober runs programs only in runs that have such a scenario."""


@runtime_checkable
class BaysWanted(Protocol):
    """What a scenario has, besides `Scenario`, if it makes its bays itself and can say how many."""

    def bays(self, settings: Mapping[str, Any]) -> Sequence[tuple[int, int]]:
        """So many bays at one time, of so many nodes each at most; each pair at a time of its own."""


@runtime_checkable
class BaysGiven(Protocol):
    """What a provisioner has, besides `Provisioner`, if several bays at one time are another matter for it than one."""

    def check_several(self, spec: BaySpec, bays: int) -> None:
        """As `Provisioner.check`, for so many such bays at one time. Raises BadInput."""
