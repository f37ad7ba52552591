"""Is it us? Whether a generator, by its own account, was the limit of what it measured.

Lines are drawn here and nowhere else; each is far from what a generator at ease shows. `coeload` tells facts and judges none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUSY = 0.8  # of a core: a generator thread above this is taken to be the limit
BLOCKED = 0.8  # of the connections that were waiting for answers, on average: above this, lateness is the service's
LATE_P99_MS = 10.0  # what a scheduler of a busy machine does to one request in a hundred is no reason; this is
LATE_MS = 1.0  # median send lag above which an open load is the generator's, not the service's
THROTTLED = 0.01  # of the measured time in which a CPU quota kept the generator from running


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
    # Who has no free connection to send on waits for the service, however late that makes him.
    if not open_loop or _waiting(done, seconds) >= BLOCKED:
        return ""
    if done["unsent"]:
        return f"{done['unsent']} of {done['planned']} planned requests were not sent, though connections were free"
    late = done.get("send_lag_ms") or {}
    if (lag := late.get("p50") or 0) > LATE_MS:
        return f"half of the requests were sent over {lag:.2f} ms late, though connections were free"
    # A service that stops shows in the raw latency of those that were on their way. What stops the generator does not.
    longest = (done.get("raw_latency_ms") or {}).get("max")
    if longest is not None and (lag := late.get("p99") or 0) > max(LATE_P99_MS, longest):
        return f"1 % of the requests were sent over {lag:.1f} ms late, while no answer took more than {longest:.1f} ms"
    return ""


def _waiting(done: Mapping[str, Any], seconds: float) -> float:
    """The share of the connections that was waiting for answers, on average, by Little's law: rate × raw latency / connections.

    The raw latency ends when the answer arrives, so a generator that is slow to read makes no connection look busy. Failed
    requests have no latency: where more than a few failed, the connections count as waiting.
    """
    raw = done.get("raw_latency_ms") or {}
    mean = raw.get("mean")
    nothing_answered = "mean" in raw and mean is None and done["planned"]
    if nothing_answered or sum((done.get("errors") or {}).values()) > 0.05 * done["planned"]:
        return 1.0
    connections = done.get("connections") or 0
    if not connections or seconds <= 0:
        return 0.0
    return float(done.get("ok") or 0) / seconds * (mean or 0.0) / 1e3 / float(connections)
