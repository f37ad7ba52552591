"""Ending an instance behind its engine's back, the same way for every COE."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from .bay import Bay
from .service import Instance


@runtime_checkable
class EndingPort(Protocol):
    """What a provisioner has, besides `Provisioner`, if it can get at the processes of its bays' instances.

    `Driver.kill` is not the same: through some engines' APIs an instance can only be ended with the engine's knowledge.
    """

    def end_instance(self, bay: Bay, instance: Instance) -> float:
        """SIGKILL to the processes that listen at the instance's address; returns when it was sent, on the harness's clock
        (`contract.now`). Raises EngineError if none listen there."""
