"""What a scenario is given that makes its bays itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable

from .bay import Bay, BaySpec
from .observation import Observe


class Bays(Protocol):
    """Bays of one trial, each by a label that is the trial's own. All calls may be made from several threads at once, each
    about its own bay. Whatever is left at the trial's end is deleted by the runner."""

    def create(self, label: str, nodes: int, observe: Observe) -> Bay:
        """A bay whose nodes are all ready. Raises BayFailed, PhaseTimeout."""

    def resize(self, bay: Bay, nodes: int, observe: Observe) -> Bay:
        """With so many nodes, all ready."""

    def replace_node(self, bay: Bay, node: str, observe: Observe) -> Bay:
        """With another node in one's stead, all ready."""

    def refuses(self) -> Mapping[str, str]:
        """Steps that can't be had here ("replace", "upgrade"), each with the reason."""

    def upgrade(self, bay: Bay, observe: Observe) -> Bay:
        """Made what the subject's options name, all nodes ready again. Only where `refuses` does not name it."""

    def delete(self, bay: Bay, observe: Observe) -> None:
        """Until nothing of it is there."""


@runtime_checkable
class UpgradingPort(Protocol):
    """What a provisioner may have besides Provisioner: bays that can be upgraded."""

    name: ClassVar[str]

    def refuses(self, spec: BaySpec) -> Mapping[str, str]:
        """Steps in the life of such a bay that can't be had ("replace", "upgrade"), each with the reason."""

    def upgraded(self, bay: Bay, observe: Observe) -> Bay:
        """Upgrade the bay to what its own options name; returns when all nodes are ready again. Raises BadInput, BayFailed."""
