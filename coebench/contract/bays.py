"""What a scenario is given that makes its bays itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from .bay import Bay
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
