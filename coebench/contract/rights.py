"""What a driver may add for clusters that others run: which rights its credentials have, and how it leaves."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from .bay import Access


class Right(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that coebench has to be allowed, and whether it is. Without a `needed` one no trial can be run."""

    what: str  # "create deployments in namespace coebench"
    ok: bool
    said: str = ""  # the engine's words where it is not
    needed: bool = True
    use: str = ""  # what it is for, where that is not deploying: "drain", "node names"


@runtime_checkable
class KnowsRights(Protocol):
    """A driver class that can tell, without changing anything, what an access is allowed."""

    @classmethod
    def rights(cls, access: Access) -> tuple[Right, ...]:
        """Each right by itself. Raises BadInput and EngineError as `Driver.connect` does."""


@runtime_checkable
class Leaves(Protocol):
    """A driver that can take away what its `connect` made (a namespace, a network), if nobody else uses it."""

    def leave(self) -> None:
        """Called when no service of coebench's is left. What isn't coebench's own, or is in use, stays; no error."""
