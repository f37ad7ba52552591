"""Is it us? Whether a generator, by its own account, was the limit of what it measured.

Lines are drawn here and nowhere else; each is far from what a generator at ease shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUSY = 0.8  # of a core: a generator thread above this is taken to be the limit
LATE_MS = 1.0  # median send lag above which an open load is the generator's, not the service's
THROTTLED = 0.01  # of the measured time in which a CPU quota kept the generator from running (workloads/loadgen, report.c)


def reason(done: Mapping[str, Any], open_loop: bool) -> str:
    """Why the figures of a load's `done` event are lower bounds, in words; empty if nothing says so.

    Throttling comes first: a generator under a quota looks idle, is late and leaves requests unsent because of it.
    """
    seconds = (done["measured_to"] - done["measured_from"]) / 1e9
    throttled = done.get("throttled_ms")  # None where no cgroup tells
    if throttled is not None and seconds > 0 and throttled / 1e3 > THROTTLED * seconds:
        return (
            f"a CPU quota stopped the generator for {throttled:.0f} ms of {seconds:.1f} s "
            f"(in {done['throttled_periods']} of {done['periods']} periods)"
        )
    if done["cpu_busiest"] > BUSY:
        return f"the generator's busiest thread used {done['cpu_busiest']:.0%} of a core"
    if open_loop and done["unsent"]:
        return f"{done['unsent']} of {done['planned']} planned requests were not sent"
    lag = (done.get("send_lag_ms") or {}).get("p50") or 0
    if open_loop and lag > LATE_MS:
        return f"half of the requests were sent over {lag:.2f} ms late"
    return ""
