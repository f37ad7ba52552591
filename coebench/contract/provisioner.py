"""The port through which bays are given, resized and taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from .bay import Access, Bay, BaySpec, NodeFault
from .journal import Journal
from .observation import Observe


class Provisioner(Protocol):
    """Gives bays. Each step is observed as `bay.STEP` when it is reached, so that it can be timed."""

    name: ClassVar[str]

    def check(self, spec: BaySpec) -> None:
        """Raise BadInput if such a bay cannot be had here, saying what is missing. Creates nothing."""

    def prepare(self, coes: tuple[str, ...], say: Callable[[str], None]) -> None:
        """Whatever is needed once before the first bay of a run; `say` takes lines of progress. Raises BadInput."""

    def create(self, name: str, spec: BaySpec, journal: Journal, observe: Observe) -> Bay:
        """Make a bay and return when its engine's API answers and all its nodes are ready. Raises BayFailed.

        On failure what there is of it stays, so that its logs can be saved: the caller deletes it by its name.
        """

    def describe(self, bay: Bay) -> Bay:
        """The bay as it is now. Raises BayFailed, with the log's tail, if one of its engines has ended."""

    def access(self, bay: Bay) -> Access:
        """Credentials for the driver."""

    def network(self, bay: Bay) -> AbstractContextManager[None]:
        """While entered, sockets opened by this thread, and by threads that it starts, reach the bay's addresses."""

    def resize(self, bay: Bay, nodes: int, observe: Observe) -> Bay:
        """Add or take away nodes."""

    def replace_node(self, bay: Bay, node: str, observe: Observe) -> Bay:
        """Take away one node and add another in its stead."""

    def fail_node(self, bay: Bay, node: str, fault: NodeFault, observe: Observe) -> None:
        """Make a host fail. Raises Unsupported for what can't be done here. While it lasts, `describe` says nothing of it.

        Observed as `node.failed {node, fault}`, at the time when it began to be so."""

    def heal_node(self, bay: Bay, node: str, observe: Observe) -> None:
        """Undo `fail_node`: reconnect a host that was cut off, start a crashed one or ended engine processes again. Returns
        when that is done; whether the engine takes the host back is another matter."""

    def save_logs(self, bay: Bay | str, folder: Path) -> None:
        """Copy the engines' logs. Takes a name too, for a bay that failed in the making."""

    def delete(self, bay: Bay | str, journal: Journal, observe: Observe) -> None:
        """Take the bay away, by name where it failed in the making. No error if it is gone already."""

    def leftovers(self) -> tuple[str, ...]:
        """What earlier runs left, one line each, found without the journal's help."""

    def clean(self) -> tuple[str, ...]:
        """End and remove all leftovers; returns what was removed."""


@runtime_checkable
class TimeoutsGiven(Protocol):
    """What a provisioner has, besides `Provisioner`, if it knows beforehand what its bays' engines will be told."""

    def timeouts(self, spec: BaySpec) -> Mapping[str, str]:
        """The `Bay.timeouts` of such a bay, before it is made."""
