"""Timing an engine's API, one request after the other."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..contract import AskingPort, Trial, Unsupported, Verb

START = 0.2  # seconds: no engine that was measured had an instance answer sooner
BAY = 0.7  # seconds: no bay that was measured was made sooner (of Mesos: 0.73 s, docs/lab.md)
PAUSE = 0.5  # seconds: the mean of the pauses that are drawn between 0 and 1 s before removals


def asking(trial: Trial) -> AskingPort:
    """The driver, as one that can send single requests. Raises Unsupported."""
    driver = trial.driver
    if not callable(getattr(driver, "ask", None)):
        raise Unsupported("timing single API requests", f"the driver of {driver.title} has no 'ask'")
    return driver  # type: ignore[return-value]


def lister(trial: Trial, service: str) -> Callable[[], object]:
    """Lists a service's instances: by one request, or by the driver's own way where it has no `ask`."""
    ask = getattr(trial.driver, "ask", None)
    return (lambda: ask(Verb.LIST, service)) if callable(ask) else (lambda: trial.driver.instances(service))


def timed(call: Callable[[], object], times: int) -> list[float]:
    """How long each of so many calls takes, in seconds, one after the other. What a call raises is raised."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        found.append(round(time.perf_counter() - begun, 7))
    return found
