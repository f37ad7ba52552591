"""One timestamped fact of a trial, as it happened. Everything else is derived from these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec


class Observation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`at`: seconds since the epoch on the harness's clock (`contract.now`); what was seen elsewhere is mapped to it.

    `trial` is empty for facts about the run itself. `data` holds JSON values only.
    """

    at: float
    name: str
    trial: str = ""
    data: Mapping[str, Any] = {}


class Observe(Protocol):
    """Where facts go. `at` is now unless the fact was seen earlier."""

    def __call__(self, name: str, *, at: float | None = None, **data: Any) -> None: ...
