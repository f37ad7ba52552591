"""What a provisioner may keep to itself while a run uses it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class HoldingPort(Protocol):
    """A provisioner that from `prepare` on keeps something that one run at a time can have."""

    def free(self) -> None:
        """Changes nothing. Raises BadInput, naming the holder, where another process has it."""

    def release(self) -> None:
        """Give it back; no error if it is not held."""
