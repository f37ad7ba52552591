"""Whether a bay is, after a trial, as it was before the first."""

from __future__ import annotations

import contextlib
import time

from ..contract import EngineError, InstanceState
from .journal import JournaledDriver

PATIENCE = 20.0  # seconds that an engine has to take away what the trial had asked it to
EVERY = 0.25


class Baseline:
    """Taken when the prober stands and nothing else does."""

    def __init__(self, driver: JournaledDriver) -> None:
        """Raises EngineError. Nodes that may not be listed (of the cluster only a namespace is ours) are left out."""
        self._driver = driver
        self._services = frozenset(driver.services())
        self._nodes: frozenset[str] | None = None
        with contextlib.suppress(EngineError):
            self._nodes = self._ready()

    def _ready(self) -> frozenset[str]:
        return frozenset(n.name for n in self._driver.nodes() if n.ready and n.schedulable)

    def differences(self, patience: float = PATIENCE) -> str:
        """What is not as it was, in words; empty if all is, or becomes so in time."""
        end = time.monotonic() + patience
        while True:
            try:
                said = self._look()
            except EngineError as e:
                said = f"the engine does not say what there is: {e}"
            if not said:
                self._driver.asked_for.clear()
            if not said or time.monotonic() > end:
                return said
            time.sleep(EVERY)

    def _look(self) -> str:
        said = []
        services = set(self._driver.services())
        if more := sorted(services - self._services):
            said.append(f"services {', '.join(more[:3])} are still there")
        if gone := sorted(self._services - services):
            said.append(f"services {', '.join(gone)} are gone")
        for name in sorted(self._driver.asked_for - self._services - services):
            if any(i.state is not InstanceState.ENDED for i in self._driver.instances(name)):
                said.append(f"instances of {name} are still listed")
                break
        if self._nodes is None:
            return "; ".join(said)
        nodes = self._ready()
        if lost := sorted(self._nodes - nodes):
            said.append(f"nodes {', '.join(lost)} take no instances any more")
        if new := sorted(nodes - self._nodes):
            said.append(f"nodes {', '.join(new)} are new")
        return "; ".join(said)
