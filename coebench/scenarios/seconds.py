"""What scenarios that send load share: each of its seconds is observed as it ends, so that a display can follow it.

load.second {seconds, phase, planned, sent, ok, errors, unsent, in_flight, cpu, latency, raw, …}   see contract.Burst
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ..contract import Burst, Trial


def seconds(trial: Trial, **about: Any) -> Callable[[Burst], None]:
    """A listener for `Prober.load`. `about` (loop, rate, step, …) is told with each second, to say which load it is of."""

    def tell(burst: Burst) -> None:
        facts = msgspec.to_builtins(burst)
        at = facts.pop("at")
        trial.observe("load.second", at=at, **facts, **about)

    return tell
