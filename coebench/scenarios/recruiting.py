"""Generators of their own for a scenario that wants several: deployed before its loads, gone after them.

generators {services, count, coordinator}
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..contract import Trial

COORDINATORS = ("harness", "bay")  # who calls several generators: the harness each one, or a relay in the bay all of them


@contextlib.contextmanager
def recruited(trial: Trial, generators: int, coordinator: str, timeout: float) -> Iterator[None]:
    """Loads go out from so many generators within. One that the harness calls is the prober itself."""
    if generators == 1 and coordinator == "harness":
        yield
        return
    with trial.phase("recruit", timeout):
        services = trial.prober.recruit(generators, coordinator == "bay", timeout)
    trial.observe("generators", services=list(services), count=generators, coordinator=coordinator)
    yield
    with trial.phase("dismiss", timeout):
        trial.prober.dismiss()
        for name in services:
            trial.remove(name)
